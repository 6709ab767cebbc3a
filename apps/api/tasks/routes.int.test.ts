import { describe, expect, it } from 'vitest'
import { withoutUnsentAttempts } from '#shared/testing/attempts.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

describe('a task', () => {
  it('can be waited for, and is returned at once after its end', async () => {
    const gate = stack.upstream.hold({ when: /be waited for/ })
    const { body } = await stack.submit({ input: { prompt: 'be waited for' } })
    await gate.waiting()
    const waiting = stack.call('GET', `${body.urls.self}?wait=60`)
    gate.release()
    expect((await waiting).body.status).toBe('succeeded')
    expect((await stack.call('GET', `${body.urls.self}?wait=60`)).body.status).toBe('succeeded')
  })

  it('is cancelled during its call; a second cancel is a conflict', async () => {
    const gate = stack.upstream.hold({ when: /be cancelled/ })
    const { body } = await stack.submit({ input: { prompt: 'be cancelled' } })
    await gate.waiting()
    const before = stack.upstream.aborted(1)
    const cancelled = await stack.call('POST', body.urls.cancel)
    expect(cancelled).toMatchObject({ status: 200, body: { status: 'cancelled', error: { code: 'cancelled' } } })
    await before
    gate.release()
    const again = await stack.call('POST', body.urls.cancel)
    expect(again).toMatchObject({
      status: 409,
      body: { code: 'already_finished', context: { task_id: body.task_id, status: 'cancelled' } },
    })
  })

  it('is listed newest first, in pages', async () => {
    const { secret: key } = await stack.makeKey({ name: 'pages' })
    const ids: string[] = []
    for (let n = 0; n < 5; n++) ids.push((await stack.submit({}, { key })).body.task_id)
    const listed: string[] = []
    for (let path: string | null = '/api/v1/tasks?limit=2'; path; ) {
      const { body } = await stack.call('GET', path, { key })
      expect(body.has_more).toBe(listed.length + body.data.length < ids.length)
      expect(body.next === null).toBe(!body.has_more)
      listed.push(...body.data.map((task: { task_id: string }) => task.task_id))
      path = body.next && `/api/v1/tasks?limit=2&after=${body.next}`
    }
    expect(listed).toEqual(ids.toReversed())
    await Promise.all(ids.map(id => stack.call('GET', `/api/v1/tasks/${id}?wait=30`, { key })))
    const done = await stack.call('GET', '/api/v1/tasks?status=succeeded&kind=generate', { key })
    expect(done.body.data).toHaveLength(5)
    expect((await stack.call('GET', '/api/v1/tasks?status=failed', { key })).body.data).toEqual([])
  })

  /** The frames of an ended event stream. */
  const framesOf = (text: string) =>
    text.split('\n\n').flatMap(frame => {
      const fields = Object.fromEntries(
        frame.split('\n').map(line => {
          const [, name = '', value = ''] = /^(\w*): ?(.*)$/s.exec(line) ?? []
          return [name, value]
        }),
      )
      return fields.event
        ? [{ event: fields.event, id: fields.id, data: withoutUnsentAttempts(JSON.parse(fields.data!)) }]
        : []
    })

  it('streams its events from the start or after any event id', async () => {
    stack.upstream.script({ when: 'be followed', text: 'Once upon a time', chunks: ['Once ', 'upon ', 'a time'] })
    const { body } = await stack.submit({ input: { prompt: 'be followed' }, options: { stream: true } })
    const answer = await stack.call('GET', body.urls.events)
    const events = framesOf(answer.body)
    const text = events.map(one => (one.event === 'delta' ? one.data.text : '')).join('')
    expect(text).toBe('Once upon a time')
    const done = events.at(-1)!
    expect(done.event).toBe('done')
    const task = await stack.call('GET', body.urls.self)
    expect(done.data).toEqual(task.body)
    for (const [index, { id }] of events.entries()) {
      const rest = await stack.call('GET', body.urls.events, { headers: { 'last-event-id': id! } })
      expect(framesOf(rest.body)).toEqual(events.slice(index + 1))
    }
  })

  it('ends its events when it is cancelled before its answer', async () => {
    const gate = stack.upstream.hold({ when: /silence/ })
    const { body } = await stack.submit({ input: { prompt: 'silence' } })
    const events = stack.call('GET', body.urls.events)
    await gate.waiting()
    await stack.call('POST', body.urls.cancel)
    gate.release()
    expect(framesOf((await events).body).at(-1)).toMatchObject({ event: 'done', data: { status: 'cancelled' } })
  })

  it.each(['-1', 'x', '1.5', '99999999999999999999'])('refuses Last-Event-ID %s', async id => {
    const { task_id } = await stack.finished()
    const answer = await stack.call('GET', `/api/v1/tasks/${task_id}/events`, { headers: { 'last-event-id': id } })
    expect(answer).toMatchObject({
      status: 400,
      body: { code: 'invalid_header', context: { field: '/last-event-id', in: 'headers' } },
    })
  })
})

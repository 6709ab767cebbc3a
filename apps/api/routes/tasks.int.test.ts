import { describe, expect, it } from 'vitest'
import { withCallsAlone } from '#shared/testing/attempts.ts'
import { startMachine } from '#shared/testing/machine.ts'

const machine = startMachine()

describe('a task', () => {
  it('can be waited for, and is given at once when it has ended', async () => {
    const gate = machine.upstream.hold({ when: /be waited for/ })
    const { body } = await machine.submit({ input: { prompt: 'be waited for' } })
    await gate.waiting()
    const waiting = machine.call('GET', `${body.urls.self}?wait=60`)
    gate.release()
    expect((await waiting).body.status).toBe('succeeded')
    expect((await machine.call('GET', `${body.urls.self}?wait=60`)).body.status).toBe('succeeded')
  })

  it('is cancelled while its call is running, once', async () => {
    const gate = machine.upstream.hold({ when: /be cancelled/ })
    const { body } = await machine.submit({ input: { prompt: 'be cancelled' } })
    await gate.waiting()
    const before = machine.upstream.aborted(1)
    const cancelled = await machine.call('POST', body.urls.cancel)
    expect(cancelled).toMatchObject({ status: 200, body: { status: 'cancelled', error: { code: 'cancelled' } } })
    await before
    gate.release()
    const again = await machine.call('POST', body.urls.cancel)
    expect(again).toMatchObject({
      status: 409,
      body: { code: 'already_finished', context: { task_id: body.task_id, status: 'cancelled' } },
    })
  })

  it('is listed newest first, page by page', async () => {
    const { secret: key } = await machine.makeKey({ name: 'pages' })
    const ids: string[] = []
    for (let n = 0; n < 5; n++) ids.push((await machine.submit({}, { key })).body.task_id)
    const listed: string[] = []
    for (let path: string | null = '/api/v1/tasks?limit=2'; path; ) {
      const { body } = await machine.call('GET', path, { key })
      expect(body.has_more).toBe(listed.length + body.data.length < ids.length)
      expect(body.next === null).toBe(!body.has_more)
      listed.push(...body.data.map((task: { task_id: string }) => task.task_id))
      path = body.next && `/api/v1/tasks?limit=2&after=${body.next}`
    }
    expect(listed).toEqual(ids.toReversed())
    await Promise.all(ids.map(id => machine.call('GET', `/api/v1/tasks/${id}?wait=30`, { key })))
    const done = await machine.call('GET', '/api/v1/tasks?status=succeeded&kind=generate', { key })
    expect(done.body.data).toHaveLength(5)
    expect((await machine.call('GET', '/api/v1/tasks?status=failed', { key })).body.data).toEqual([])
  })

  /** The frames of an event stream that has ended. */
  const framesOf = (text: string) =>
    text.split('\n\n').flatMap(frame => {
      const fields = Object.fromEntries(
        frame.split('\n').map(line => {
          const [, name = '', value = ''] = /^(\w*): ?(.*)$/s.exec(line) ?? []
          return [name, value]
        }),
      )
      return fields.event
        ? [{ event: fields.event, id: fields.id, data: withCallsAlone(JSON.parse(fields.data!)) }]
        : []
    })

  it('is followed by its events, from the beginning or from any of them on', async () => {
    machine.upstream.script({ when: 'be followed', text: 'Once upon a time', chunks: ['Once ', 'upon ', 'a time'] })
    const { body } = await machine.submit({ input: { prompt: 'be followed' }, options: { stream: true } })
    const answer = await machine.call('GET', body.urls.events)
    const events = framesOf(answer.body)
    const text = events.map(one => (one.event === 'delta' ? one.data.text : '')).join('')
    expect(text).toBe('Once upon a time')
    const done = events.at(-1)!
    expect(done.event).toBe('done')
    const task = await machine.call('GET', body.urls.self)
    expect(done.data).toEqual(task.body)
    for (const [index, { id }] of events.entries()) {
      const rest = await machine.call('GET', body.urls.events, { headers: { 'last-event-id': id! } })
      expect(framesOf(rest.body)).toEqual(events.slice(index + 1))
    }
  })

  it('has events that end when it is cancelled before it ran', async () => {
    const gate = machine.upstream.hold({ when: /silence/ })
    const { body } = await machine.submit({ input: { prompt: 'silence' } })
    const events = machine.call('GET', body.urls.events)
    await gate.waiting()
    await machine.call('POST', body.urls.cancel)
    gate.release()
    expect(framesOf((await events).body).at(-1)).toMatchObject({ event: 'done', data: { status: 'cancelled' } })
  })

  it.each(['-1', 'x', '1.5', '99999999999999999999'])('has no event %s to go on from', async id => {
    const { task_id } = await machine.finished()
    const answer = await machine.call('GET', `/api/v1/tasks/${task_id}/events`, { headers: { 'last-event-id': id } })
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_header', context: { field: 'Last-Event-ID' } } })
  })
})

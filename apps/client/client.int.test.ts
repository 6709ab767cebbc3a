import { describe, expect, it } from 'vitest'
import { ADMIN, sharedStack } from '#shared/testing/stack.ts'
import { createClient, SluiceApiError, type TaskEvent } from './index.ts'

/** Against the real API and a worker. */
const stack = sharedStack()
const client = (apiKey = ADMIN) => createClient({ baseUrl: `http://127.0.0.1:${stack.api.port}`, apiKey })
const request = (prompt: string, options = {}) => ({
  input: { prompt },
  options: { cache: 'off' as const, ...options },
})

describe('tasks', () => {
  it('are submitted, waited for and read', async () => {
    const { tasks } = client()
    const accepted = await tasks.submit('generate', { ...request('Say hello'), metadata: { post: 7 } })
    const task = await tasks.wait<{ text: string }>(accepted.task_id)
    expect(task).toMatchObject({ task_id: accepted.task_id, status: 'succeeded', source: 'ai', metadata: { post: 7 } })
    expect(task.result?.text).toEqual(expect.any(String))
    expect(await tasks.get(accepted.task_id)).toEqual(task)
  })

  it('are returned by submit if they end within waitSeconds', async () => {
    const answer = await client().tasks.submit('generate', request('Say hello'), { waitSeconds: 30 })
    expect(answer).toMatchObject({ status: 'succeeded', result: { text: expect.any(String) } })
  })

  it('are created once per idempotency key', async () => {
    const { tasks } = client()
    const options = { idempotencyKey: 'once' }
    const [one, two] = [
      await tasks.submit('generate', request('a'), options),
      await tasks.submit('generate', request('a'), options),
    ]
    expect(two.task_id).toBe(one.task_id)
    await expect(tasks.submit('generate', request('b'), options)).rejects.toMatchObject({
      code: 'idempotency_mismatch',
    })
  })

  it('can be cancelled once', async () => {
    const { tasks } = client()
    const gate = stack.upstream.hold({ when: /cancel me/ })
    const { task_id } = await tasks.submit('generate', request('cancel me'))
    await gate.waiting()
    expect(await tasks.cancel(task_id)).toMatchObject({ task_id, status: 'cancelled' })
    gate.release()
    const ended = await tasks.submit('generate', request('a'), { waitSeconds: 30 })
    await expect(tasks.cancel(ended.task_id)).rejects.toMatchObject({ code: 'already_finished', status: 409 })
  })

  it('stream events to their end, also to late subscribers', async () => {
    const { tasks } = client()
    const { task_id } = await tasks.submit('generate', request('follow me', { stream: true }))
    const all = await read(tasks.events<{ text: string }>(task_id))
    const text = all.map(one => (one.event === 'delta' ? one.data.text : '')).join('')
    const last = all.at(-1)!
    expect(all).toContainEqual({ event: 'status', id: '1000000', data: { status: 'running', attempt: 1 } })
    expect(last).toMatchObject({ event: 'done', data: { task_id, result: { text } } })
    const middle = all.findIndex(one => one.event === 'delta')
    const rest = await read(tasks.events(task_id, { lastEventId: all[middle]!.id }))
    expect(rest).toEqual(all.slice(middle + 1))
    expect(await read(tasks.events(task_id, { lastEventId: last.id }))).toEqual([])
  })

  it('may be left in the middle of their events', async () => {
    const { tasks } = client()
    const gate = stack.upstream.hold({ when: /leave me/ })
    const { task_id } = await tasks.submit('generate', request('leave me', { stream: true }))
    for await (const event of tasks.events(task_id)) {
      expect(event.event).toBe('status')
      break
    }
    gate.release()
    expect(await tasks.wait(task_id)).toMatchObject({ status: 'succeeded' })
  })
})

describe('errors', () => {
  it('carry status, code and request id of the server', async () => {
    const error = await client('wrong')
      .tasks.get('task_1')
      .catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SluiceApiError)
    expect(error).toMatchObject({ status: 401, code: 'invalid_api_key', request_id: expect.stringMatching(/./) })
    await expect(client().tasks.get('task_1')).rejects.toMatchObject({ status: 404, code: 'task_not_found' })
    await expect(read(client().tasks.events('task_1'))).rejects.toMatchObject({ code: 'task_not_found' })
    await expect(client().tasks.submit('nope', { input: 1 })).rejects.toMatchObject({ code: 'unknown_kind' })
  })

  it('carry Retry-After of a rate-limited key', async () => {
    const { secret } = await stack.makeKey({ requests_per_minute: 1 })
    const { tasks } = createClient({ baseUrl: `http://127.0.0.1:${stack.api.port}`, apiKey: secret, retries: 0 })
    await expect(tasks.get('task_1')).rejects.toMatchObject({ status: 404 })
    const error = await tasks.get('task_1').catch((reason: SluiceApiError) => reason)
    expect(error).toMatchObject({ status: 429, code: 'rate_limited', retryAfter: expect.any(Number) })
  })
})

async function read<Result>(events: AsyncIterable<TaskEvent<Result>>): Promise<TaskEvent<Result>[]> {
  const all: TaskEvent<Result>[] = []
  for await (const event of events) all.push(event)
  return all
}

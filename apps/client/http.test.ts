import { getEventListeners } from 'node:events'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { createClient, SluiceApiError, SluiceConnectionError } from './index.ts'

type Sent = { method: string; url: string; headers: Headers; body: string }
type Answer = Response | Error | ((sent: Sent) => Response)

const problem = (status: number, body: object = {}, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers })
const lost = () => new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') })
const task = { task_id: 'task_1', status: 'succeeded' }

/** A client whose server gives these answers, one after another. */
function clientOf(...answers: Answer[]) {
  const sent: Sent[] = []
  const client = createClient({
    baseUrl: 'http://sluice.test/',
    apiKey: 'key',
    backoffMs: 1,
    fetch: async (url, init) => {
      const body = init?.body == null ? '' : await new Response(init.body).text()
      const one = { method: init?.method ?? 'GET', url: String(url), headers: new Headers(init?.headers), body }
      sent.push(one)
      const answer = answers.shift()
      if (!answer) throw new Error('unexpected request')
      if (answer instanceof Error) throw answer
      return typeof answer === 'function' ? answer(one) : answer
    },
  })
  return { client, sent }
}

async function* bytes(text: string) {
  yield new TextEncoder().encode(text)
}

it('a signal keeps no listener after the response has been read', async () => {
  const stopping = new AbortController()
  const { signal } = stopping
  const events = 'event: done\nid: 1\ndata: {}\n\n'
  const { client } = clientOf(
    Response.json(task),
    problem(404),
    new Response(events),
    new Response(null, { status: 204 }),
    new Response('file'),
  )
  await client.tasks.get('task_1', { signal })
  await client.tasks.get('task_1', { signal }).catch(() => {})
  for await (const _ of client.tasks.events('task_1', { signal }));
  for await (const _ of client.tasks.events('task_1', { signal }));
  for await (const _ of await client.files.content('file-1', { signal }));
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

it('a body that cannot be serialised leaves no timer', async () => {
  const timers = vi.spyOn(globalThis, 'setTimeout')
  onTestFinished(() => timers.mockRestore())
  const { client, sent } = clientOf()
  await expect(client.tasks.submit('generate', { input: { n: 1n } })).rejects.toThrow('BigInt')
  expect(sent).toEqual([])
  expect(timers).not.toHaveBeenCalled()
})

describe('retries', () => {
  it.each([
    ['a connection that fails', lost],
    ['429', () => problem(429)],
    ['502', () => problem(502)],
    ['503', () => problem(503)],
    ['504', () => problem(504)],
  ])('reading, after %s', async (_, failure) => {
    const { client, sent } = clientOf(failure(), failure(), Response.json(task))
    expect(await client.tasks.get('task_1')).toEqual(task)
    expect(sent).toHaveLength(3)
  })

  it('repeat a submission under one Idempotency-Key', async () => {
    const { client, sent } = clientOf(lost(), problem(409, { code: 'idempotency_in_flight' }), Response.json(task))
    await client.tasks.submit('generate', { input: { prompt: 'a' } })
    const keys = sent.map(one => one.headers.get('idempotency-key'))
    expect(keys[0]).toMatch(/^[\w-]{36}$/)
    expect(new Set(keys).size).toBe(1)
    const other = clientOf(Response.json(task))
    await other.client.tasks.submit('generate', { input: { prompt: 'a' } })
    expect(other.sent[0]!.headers.get('idempotency-key')).not.toBe(keys[0])
  })

  it('repeat an upload of a path from its beginning, and not an upload of bytes', async () => {
    const { client, sent } = clientOf(lost(), Response.json({ id: 'file_1' }))
    await client.files.upload(import.meta.filename)
    expect(sent[1]!.body).toContain('an upload by its path, whole')
    const once = clientOf(problem(429))
    await expect(once.client.files.upload(bytes('a'))).rejects.toMatchObject({ status: 429 })
    expect(once.sent).toHaveLength(1)
  })

  it('repeat the start of a batch under the same Idempotency-Key', async () => {
    const request = { input_file_id: 'file_1', endpoint: '/v1/chat/completions' }
    const { client, sent } = clientOf(problem(503), lost(), Response.json({ id: 'batch_1' }))
    expect(await client.batches.create(request)).toEqual({ id: 'batch_1' })
    expect(sent).toHaveLength(3)
    expect(new Set(sent.map(one => one.headers.get('idempotency-key'))).size).toBe(1)
  })

  it('repeat the retry of failed lines only after 429', async () => {
    const { client, sent } = clientOf(problem(429), lost())
    await expect(client.batches.retry('batch_1')).rejects.toThrow(SluiceConnectionError)
    expect(sent).toHaveLength(2)
    const away = clientOf(problem(503))
    await expect(away.client.batches.retry('batch_1')).rejects.toMatchObject({ status: 503 })
    expect(away.sent).toHaveLength(1)
  })

  it('end after `retries` attempts, and skip errors that are permanent', async () => {
    const { client, sent } = clientOf(lost(), lost(), lost(), lost(), lost(), Response.json(task))
    await expect(client.tasks.get('task_1')).rejects.toThrow('http://sluice.test: connect ECONNREFUSED')
    expect(sent).toHaveLength(5)
    for (const status of [400, 401, 404, 409, 422, 500]) {
      const wrong = clientOf(problem(status))
      await expect(wrong.client.tasks.get('task_1')).rejects.toMatchObject({ status })
      expect(wrong.sent).toHaveLength(1)
    }
  })

  it('do not wait for a Retry-After of more than a minute', async () => {
    const { client, sent } = clientOf(problem(429, {}, { 'retry-after': '61' }))
    await expect(client.tasks.get('task_1')).rejects.toMatchObject({ status: 429, retryAfter: 61 })
    expect(sent).toHaveLength(1)
  })

  it('skip a file that cannot be read', async () => {
    const { client, sent } = clientOf(lost())
    await expect(client.files.upload('/no/such/file')).rejects.toMatchObject({ code: 'ENOENT' })
    expect(sent).toHaveLength(0)
  })

  it('recognise a cancellation whose answer was lost', async () => {
    const cancelled = { task_id: 'task_1', status: 'cancelled' }
    const { client } = clientOf(lost(), problem(409, { code: 'already_finished' }), Response.json(cancelled))
    expect(await client.tasks.cancel('task_1')).toEqual(cancelled)
    const ended = clientOf(problem(409, { code: 'already_finished' }), Response.json(task))
    await expect(ended.client.tasks.cancel('task_1')).rejects.toMatchObject({ code: 'already_finished' })
  })
})

describe('an error', () => {
  it('of /api/v1 has code, request id and retry time', async () => {
    const { client } = clientOf(
      problem(402, { code: 'budget_exceeded', detail: 'No more money.', request_id: 'r-2' }, { 'retry-after': '2' }),
    )
    const error = await client.tasks.get('task_1').catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SluiceApiError)
    expect(error).toMatchObject({
      message: 'No more money.',
      status: 402,
      code: 'budget_exceeded',
      request_id: 'r-2',
      retryAfter: 2,
    })
  })

  it('of /v1 has them, too', async () => {
    const body = { error: { message: 'No such file.', type: 'invalid_request_error', param: null, code: 'not_found' } }
    const { client } = clientOf(problem(404, body, { 'x-request-id': 'r-1' }))
    await expect(client.files.get('file_1')).rejects.toMatchObject({
      message: 'No such file.',
      code: 'not_found',
      request_id: 'r-1',
    })
  })

  it('of another server has no code', async () => {
    const { client } = clientOf(new Response('<html>', { status: 404 }), new Response('<html>'))
    await expect(client.tasks.get('task_1')).rejects.toMatchObject({ status: 404, code: null, body: '<html>' })
    await expect(client.tasks.get('task_1')).rejects.toThrow('The answer is not JSON.')
  })

  it('is replaced by the reason of the signal, also during the wait before a retry', async () => {
    const stop = new AbortController()
    const { client } = clientOf(() => {
      setImmediate(() => stop.abort(new Error('enough')))
      return problem(429, {}, { 'retry-after': '30' })
    })
    await expect(client.tasks.get('task_1', { signal: stop.signal })).rejects.toThrow('enough')
  })
})

describe('events', () => {
  const stream = (text: string) => new Response(text, { headers: { 'content-type': 'text/event-stream' } })
  const delta = (id: number) => `event: delta\nid: ${id}\ndata: {"text":"${id}"}\n\n`
  const done = `event: done\nid: 9\ndata: ${JSON.stringify(task)}\n\n`

  it('continue after the last one when the connection breaks', async () => {
    const { client, sent } = clientOf(stream(`${delta(1)}${delta(2)}event: de`), lost(), stream(`${delta(3)}${done}`))
    const seen: string[] = []
    for await (const event of client.tasks.events('task_1')) seen.push(`${event.event} ${event.id}`)
    expect(seen).toEqual(['delta 1', 'delta 2', 'delta 3', 'done 9'])
    expect(sent.map(one => one.headers.get('last-event-id'))).toEqual([null, '2', '2'])
  })

  it('end with an error when reconnections bring no events', async () => {
    const { client } = clientOf(...Array.from({ length: 4 }, () => stream('retry: 1\n\n')))
    const all = async () => {
      for await (const _ of client.tasks.events('task_1', { retries: 0 }));
    }
    await expect(all()).rejects.toThrow('ended too early')
  })
})

it.each(['', 'localhost:8080', 'ftp://a', 'http://'])('%j is refused as baseUrl', baseUrl => {
  expect(() => createClient({ baseUrl, apiKey: 'key' })).toThrow('baseUrl must be an http(s) URL')
})

import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import Fastify from 'fastify'
import { expect, it, onTestFinished, vi } from 'vitest'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { newId, toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { createResponseMemory } from '../http/response-memory.ts'
import { createStreamLimit } from '../http/stream-limit.ts'
import { events } from './events.ts'

/** Serves the events of a task that succeeded with this text and whose stream in Redis is gone. */
async function serve(text: string, { responseMemory = createResponseMemory(), ...more }: Partial<ApiDeps> = {}) {
  const id = newId()
  const draining = new AbortController()
  const view: Partial<TaskView> = {
    ...{ id, api_key_id: 'key', kind: 'generate', status: 'succeeded', attempts: 1, source: 'ai', stream: true },
    ...{ result: { text }, created_at: new Date(), cost_usd: '0', attempt_list: [] },
  }
  const app = Fastify()
  app.decorateRequest('apiKey', { getter: () => ({ id: 'key', scopes: ['read'] }) as never })
  await app.register(events, {
    view: () => responseMemory.read(async () => view),
    state: async () => view,
    jobs: new Map([['generate', { operation: 'chat', text: (result: { text: string }) => result.text }]]),
    redis: { xrange: async () => [] },
    config: { REDIS_PREFIX: 'test' },
    watcher: { watch: () => () => {} },
    notifications: { onMore: () => () => {} },
    streams: createStreamLimit({ perKey: 100, total: 100 }),
    draining: draining.signal,
    responseMemory,
    ...more,
  } as unknown as ApiDeps)
  await app.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => {
    app.server.closeAllConnections()
    return app.close()
  })
  const { port } = app.server.address() as AddressInfo
  return { app, port, draining, path: `/api/v1/tasks/${toWire('task', id)}/events` }
}

it('a client that stops reading is dropped after 30 s, or when the server stops', async () => {
  // More than the kernel buffers of both sides hold.
  const { app, port, path, draining } = await serve('x'.repeat(32 * 1024 * 1024))
  const client = connect(port, '127.0.0.1')
  onTestFinished(() => void client.destroy())
  const [socket] = (await once(app.server, 'connection')) as [Socket]
  client.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`)
  await once(client, 'readable')
  expect(String(client.read())).toContain('200 OK')
  expect(socket.timeout).toBe(30_000)
  draining.abort()
  await app.close()
})

it.each([
  ['before the first event', {}, ['delta', 'done']],
  ['in the middle of the text', { 'last-event-id': '1000001' }, ['restart', 'delta', 'done']],
  ['after the whole text', { 'last-event-id': '1999998' }, ['done']],
])(
  'a client that connects %s gets the text of the result when the stream has expired',
  async (_, headers, expected) => {
    const { port, path } = await serve('Hello')
    const answer = await (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).text()
    const frames = answer.split('\n\n').filter(frame => frame.startsWith('event: '))
    expect(frames.map(frame => /^event: (\w+)/.exec(frame)![1])).toEqual(expected)
    const deltas = frames.filter(frame => frame.startsWith('event: delta'))
    for (const delta of deltas) expect(delta).toContain('data: {"text":"Hello"}')
  },
)

it('a client that has received the last event gets 204, so that a browser stops reconnecting', async () => {
  const { port, path } = await serve('Hello')
  const ask = (id: number) => fetch(`http://127.0.0.1:${port}${path}`, { headers: { 'last-event-id': String(id) } })
  expect((await ask(1_999_999)).status).toBe(204)
  expect(await (await ask(1_999_998)).text()).toContain('event: done')
  expect((await fetch(`http://127.0.0.1:${port}${path}`, { method: 'HEAD' })).status).toBe(404)
})

it('the last event counts against the memory for responses until the client has read it', async () => {
  const SIZE = 16 * 1024 * 1024
  const responseMemory = createResponseMemory(1.5 * SIZE)
  const { port, path } = await serve('x'.repeat(SIZE), { responseMemory })
  const slow = async () => {
    const client = connect(port, '127.0.0.1')
    onTestFinished(() => void client.destroy())
    await once(client, 'connect')
    client.pause()
    client.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nlast-event-id: 1999998\r\n\r\n`)
    // More than the headers: the final event is being sent.
    await vi.waitFor(() => expect(client.bytesRead).toBeGreaterThan(1000), 10_000)
  }
  const room = () => responseMemory.read(async () => true).catch(error => error.code)
  await slow()
  expect(await room()).toBe(true)
  await slow()
  expect(await room()).toBe('server_busy')
})

it('a client that disconnects during the lookup is not watched', async () => {
  const left = Promise.withResolvers<void>()
  const looking = Promise.withResolvers<void>()
  const watched = vi.fn(() => () => unwatched())
  const unwatched = vi.fn()
  const task = { id: newId(), api_key_id: 'key', kind: 'generate', status: 'queued', attempts: 0 }
  const { app, port, path } = await serve('', {
    view: async () => {
      looking.resolve()
      await left.promise
      return task as never
    },
    state: async () => task as never,
    watcher: { watch: watched } as never,
  })
  const [client] = [connect(port, '127.0.0.1')]
  const [socket] = (await once(app.server, 'connection')) as [Socket]
  client.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nlast-event-id: 0\r\n\r\n`)
  await looking.promise
  const gone = once(socket, 'close')
  client.destroy()
  await gone
  left.resolve()
  await vi.waitFor(() => expect(watched).toHaveBeenCalledOnce(), 10_000)
  await vi.waitFor(() => expect(unwatched).toHaveBeenCalledOnce(), 10_000)
})

import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import Fastify from 'fastify'
import { expect, it, onTestFinished } from 'vitest'
import type { TaskView } from '#shared/db/views.ts'
import { newId, toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { events } from './events.ts'

/** The events of a task that succeeded with this text and whose stream in Redis is gone. */
async function serve(text: string) {
  const id = newId()
  const draining = new AbortController()
  const view: Partial<TaskView> = {
    ...{ id, api_key_id: 'key', kind: 'generate', status: 'succeeded', attempts: 1, source: 'ai', stream: true },
    ...{ result: { text }, created_at: new Date(), cost_usd: '0', attempt_list: [] },
  }
  const app = Fastify()
  app.decorateRequest('apiKey', { getter: () => ({ id: 'key', scopes: ['read'] }) as never })
  await app.register(events, {
    view: async () => view,
    state: async () => view,
    jobs: new Map([['generate', { operation: 'chat', text: (result: { text: string }) => result.text }]]),
    redis: { xrange: async () => [] },
    config: { REDIS_PREFIX: 'test' },
    watcher: { watch: () => () => {} },
    hints: { onMore: () => () => {} },
    draining: draining.signal,
  } as unknown as ApiDeps)
  await app.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => {
    app.server.closeAllConnections()
    return app.close()
  })
  const { port } = app.server.address() as AddressInfo
  return { app, port, draining, path: `/api/v1/tasks/${toWire('task', id)}/events` }
}

it('a client that does not read its events is held for half a minute, and not when the server stops', async () => {
  // More than the kernel buffers on both sides take.
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
])('a client that comes %s gets the text of the result when the stream is gone', async (_, headers, expected) => {
  const { port, path } = await serve('Hello')
  const answer = await (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).text()
  const frames = answer.split('\n\n').filter(frame => frame.startsWith('event: '))
  expect(frames.map(frame => /^event: (\w+)/.exec(frame)![1])).toEqual(expected)
  const deltas = frames.filter(frame => frame.startsWith('event: delta'))
  for (const delta of deltas) expect(delta).toContain('data: {"text":"Hello"}')
})

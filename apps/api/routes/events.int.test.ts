import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import Fastify from 'fastify'
import { expect, it, onTestFinished } from 'vitest'
import { newId, toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { events } from './events.ts'

it('a client that does not read its events is held for half a minute, and not when the server stops', async () => {
  const id = newId()
  const draining = new AbortController()
  const view = { id, api_key_id: 'key', kind: 'generate', status: 'succeeded', attempts: 1, source: 'ai', stream: true }
  const app = Fastify()
  app.decorateRequest('apiKey', { getter: () => ({ id: 'key', scopes: ['read'] }) as never })
  await app.register(events, {
    view: async () => view,
    state: async () => view,
    // More than the kernel buffers on both sides take.
    jobs: new Map([['generate', { text: () => 'x'.repeat(32 * 1024 * 1024) }]]),
    redis: { xrange: async () => [] },
    config: { REDIS_PREFIX: 'test' },
    watcher: { watch: () => () => {} },
    hints: { onMore: () => () => {} },
    draining: draining.signal,
  } as unknown as ApiDeps)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const client = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  onTestFinished(() => {
    client.destroy()
    app.server.closeAllConnections()
  })
  const [socket] = (await once(app.server, 'connection')) as [Socket]
  client.write(`GET /api/v1/tasks/${toWire('task', id)}/events HTTP/1.1\r\nhost: a\r\n\r\n`)
  await once(client, 'readable')
  expect(String(client.read())).toContain('200 OK')
  expect(socket.timeout).toBe(30_000)
  draining.abort()
  await app.close()
})

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import fastify from 'fastify'
import { expect, it, onTestFinished, vi } from 'vitest'
import { LARGE_RESULT_BYTES } from '#shared/db/tasks/read.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { requestMetrics } from './request-metrics.ts'
import { createResponseMemory } from './response-memory.ts'

/** A server with one large response whose memory allows two of them. */
async function serve(size: number) {
  const responseMemory = createResponseMemory(1.5 * size)
  const app = fastify()
  await app.register(requestMetrics, { metrics: createMetrics('api'), responseMemory })
  const newRead = () => ({ begun: Promise.withResolvers<void>(), goOn: Promise.withResolvers<void>() })
  let reading = newRead()
  app.get('/', () => responseMemory.read(async () => 'x'.repeat(size)))
  app.get('/slow', () =>
    responseMemory.read(async () => {
      reading.begun.resolve()
      await reading.goOn.promise
      return 'x'.repeat(size)
    }),
  )
  app.setErrorHandler((error: { code: string }, _, reply) => reply.code(503).send(error.code))
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  onTestFinished(() => app.close())
  // Read completely; otherwise it counts until the stall timeout.
  async function status(): Promise<number> {
    const response = await fetch(url)
    await response.arrayBuffer()
    return response.status
  }
  /** A client that sends a request and stops reading when the response begins. */
  async function stalled(): Promise<Socket> {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    await once(socket, 'connect')
    socket.pause()
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    await vi.waitFor(() => expect(socket.bytesRead).toBeGreaterThan(0), 10_000)
    return socket
  }
  /** A client that leaves while the server reads its response from Postgres. */
  async function hasty(): Promise<void> {
    const { port } = new URL(url)
    const socket = connect(Number(port), '127.0.0.1')
    const [there] = (await once(app.server, 'connection')) as [Socket]
    socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
    await reading.begun.promise
    const gone = once(there, 'close')
    socket.destroy()
    await gone
    reading.goOn.resolve()
    reading = newRead()
  }
  return { status, stalled, hasty }
}

// More than the buffers of a connection.
const SIZE = 64 * LARGE_RESULT_BYTES

it('unread large answers are bounded; a disconnect frees their memory', async () => {
  const { status, stalled } = await serve(SIZE)
  expect(await status()).toBe(200)
  const clients = [await stalled(), await stalled()]
  expect(await status()).toBe(503)
  for (const client of clients) client.destroy()
  await vi.waitFor(async () => expect(await status()).toBe(200), 10_000)
})

it('an answer is not held when its client left during the read', async () => {
  const { status, hasty } = await serve(SIZE)
  await hasty()
  await hasty()
  for (let n = 0; n < 3; n++) expect(await status()).toBe(200)
})

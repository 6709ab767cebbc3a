import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import { expect, it, onTestFinished } from 'vitest'
import { type BodyTimeouts, bodyTimeout } from './body-timeout.ts'

const LONG = 60_000

/** A server that returns the size of the body. */
async function serve(times: BodyTimeouts) {
  const app = Fastify()
  app.addContentTypeParser('*', (_, payload, done) => {
    let size = 0
    payload.on('data', (some: Buffer) => {
      size += some.length
    })
    payload.on('end', () => done(null, size))
  })
  await app.register(bodyTimeout, times)
  app.post('/json', async ({ body }) => ({ size: body }))
  app.post('/upload', { config: { upload: true } }, async ({ body }) => ({ size: body }))
  const slowly = async (body: unknown) => ({ size: await delay(200, body) })
  app.post('/slow', ({ body }) => slowly(body))
  app.post('/slow-upload', { config: { upload: true } }, ({ body }) => slowly(body))
  await app.listen({ port: 0, host: '127.0.0.1' })
  onTestFinished(() => app.close())
  const { port } = app.server.address() as AddressInfo
  return (path: string, length: number): Socket => {
    const socket = connect(port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.write(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: x/y\r\ncontent-length: ${length}\r\n\r\n`)
    return socket
  }
}

/** Sends a byte every few milliseconds until everything is sent or the server closes the connection. */
async function trickle(socket: Socket, bytes: number) {
  let closed = false
  socket.once('close', () => {
    closed = true
  })
  socket.on('error', () => {})
  let sent = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setInterval(() => {
    if (closed || sent === bytes) {
      clearInterval(timer)
      resolve()
    } else {
      sent++
      socket.write('x')
    }
  }, 5)
  await promise
  return { closed, sent }
}

it('a body that exceeds its time is cut off, even if data keeps coming', async () => {
  const open = await serve({ bodyMs: 200, stalledMs: LONG })
  const socket = open('/json', 1000).resume()
  expect(await trickle(socket, 1000)).toMatchObject({ closed: true })
})

it('an upload may take any time while data keeps coming', async () => {
  const open = await serve({ bodyMs: 50, stalledMs: LONG })
  const socket = open('/upload', 60)
  const answer = once(socket, 'data')
  expect(await trickle(socket, 60)).toEqual({ closed: false, sent: 60 })
  expect(String(await answer)).toContain('{"size":60}')
})

it('a stalled upload is cut off', async () => {
  const open = await serve({ bodyMs: LONG, stalledMs: 100 })
  const socket = open('/upload', 60).resume()
  socket.write('x')
  await once(socket, 'close')
})

it('the time for a body does not limit its answer', async () => {
  const open = await serve({ bodyMs: 50, stalledMs: 50 })
  for (const path of ['/slow', '/slow-upload']) {
    const socket = open(path, 1)
    socket.write('x')
    expect(String(await once(socket, 'data'))).toContain('{"size":1}')
  }
})

import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { drained, dropWhenStalled } from './backpressure.ts'

/** More than the kernel buffers of both sides hold. */
const MUCH = Buffer.alloc(32 * 1024 * 1024)

/** A response to a client that starts to read and then stops, but stays connected. */
async function unread() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  onTestFinished(() => {
    client.destroy()
    server.closeAllConnections()
    server.close()
  })
  client.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  const [, response] = (await once(server, 'request')) as [unknown, ServerResponse]
  response.write('begun')
  await once(client, 'readable')
  return { client, response }
}

it('a client that stays connected and stops reading is dropped', async () => {
  const { signal } = new AbortController()
  const { response } = await unread()
  dropWhenStalled(response, 50)
  expect(response.write(MUCH)).toBe(false)
  expect(await drained(response, signal)).toBe(false)
  expect(response.destroyed).toBe(true)
  expect(await drained(response, signal)).toBe(false)
})

it('a client that stops reading is dropped also after the last write', async () => {
  const { response } = await unread()
  dropWhenStalled(response, 50)
  response.end(MUCH)
  await once(response, 'close')
  expect(response.writableFinished).toBe(false)
})

it('a stopping server does not wait for clients to read', async () => {
  const draining = new AbortController()
  const { response } = await unread()
  response.write(MUCH)
  const waiting = drained(response, draining.signal)
  draining.abort()
  expect(await waiting).toBe(false)
  expect(await drained(response, draining.signal)).toBe(false)
  expect(response.destroyed).toBe(false)
})

it('a client that reads is waited for, and no listeners remain', async () => {
  const { client, response } = await unread()
  const before = ['drain', 'close'].map(name => response.listenerCount(name))
  response.write(MUCH)
  const waiting = drained(response, new AbortController().signal)
  client.resume()
  expect(await waiting).toBe(true)
  expect(['drain', 'close'].map(name => response.listenerCount(name))).toEqual(before)
})

import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { expect, it, onTestFinished, vi } from 'vitest'
import { ADMIN, startStack } from '#shared/testing/stack.ts'

const stack = startStack()
const MIB = 1_048_576
const BODY = 8 * MIB
/** Requests with bodies of 480 MiB in total. */
const CONNECTIONS = 60
/** More memory than the process allocates otherwise, and far less than the bodies. */
const GROWTH = 200 * MIB

/** Resident memory of the API process, bytes. */
const resident = () =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${stack.api.process.pid}/status`, 'utf8'))![1]) * 1024

/** Sends a body without its last byte, as far as the server reads it. @returns the status, once the server has answered */
function sendAlmostAll(head: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const socket: Socket = connect(stack.api.port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  const piece = Buffer.alloc(65_536, 32)
  let left = BODY - 1
  socket.on('data', some => resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(String(some))?.[1])))
  socket.on('error', () => {})
  socket.on('close', () => reject(new Error('closed without an answer')))
  // Requests without an answer are closed when the test ends.
  promise.catch(() => {})
  socket.write(`${head}\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${BODY}\r\n\r\n`)
  const more = () => {
    while (left > 0 && !socket.destroyed) {
      const some = piece.subarray(0, left)
      left -= some.length
      if (!socket.write(some)) return void socket.once('drain', more)
    }
  }
  more()
  return promise
}

it('a request that no handler reads is answered without waiting for its body, which is not kept', async () => {
  for (const [head, status] of [
    ['POST /nothing HTTP/1.1', 404],
    // Without an API key.
    ['POST /api/v1/tasks/generate HTTP/1.1', 401],
    ['PUT /health HTTP/1.1', 404],
  ] as const) {
    const before = resident()
    const statuses = await Promise.all(Array.from({ length: CONNECTIONS }, () => sendAlmostAll(head)))
    expect(new Set(statuses), head).toEqual(new Set([status]))
    expect(resident() - before, head).toBeLessThan(GROWTH)
  }
})

it('the bodies of one key are bounded by its share, and another key can still send', async () => {
  const { secret } = await stack.makeKey()
  const before = resident()
  const head = `POST /api/v1/tasks/generate HTTP/1.1\r\nauthorization: Bearer ${secret}`
  const statuses: number[] = []
  for (let i = 0; i < CONNECTIONS; i++)
    sendAlmostAll(head).then(
      status => statuses.push(status),
      () => {},
    )
  // A key may have half of 64 MiB: four bodies.
  await vi.waitFor(() => expect(statuses).toHaveLength(CONNECTIONS - 4), 30_000)
  expect(new Set(statuses)).toEqual(new Set([429]))
  expect(resident() - before).toBeLessThan(GROWTH)
  const other = await stack.makeKey()
  expect((await stack.submit({ input: { prompt: 'a' } }, { key: other.secret })).status).toBe(202)
  expect((await stack.submit({ input: { prompt: 'a' } }, { key: ADMIN })).status).toBe(202)
})

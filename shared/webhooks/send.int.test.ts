import { once } from 'node:events'
import http from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Receiver, startReceiver } from '#shared/testing/receiver.ts'
import { createSend } from './send.ts'
import { parseTargetPolicy } from './target.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(() => {
  receiver.received.length = 0
  receiver.answers(response => response.writeHead(204).end())
})

const local = parseTargetPolicy('127.0.0.0/8, ::1')
const never = new AbortController().signal
const message = (url: string) => ({
  url,
  headers: { 'content-type': 'application/json', 'webhook-id': 'x' },
  body: '{"é":1}',
})
const send = (url: string, options: Partial<Parameters<typeof createSend>[0]> = {}) =>
  createSend({ policy: local, ...options })(message(url), never)

it('sends the body with POST and returns the status', async () => {
  receiver.answers(response => response.writeHead(503, { 'retry-after': '7' }).end('busy'))
  expect(await send(`${receiver.url}/hook?a=b#c`)).toEqual({ kind: 'answered', status: 503, retryAfterMs: 7000 })
  expect(receiver.received).toMatchObject([
    {
      path: '/hook?a=b',
      body: '{"é":1}',
      headers: { host: `127.0.0.1:${receiver.port}`, 'content-type': 'application/json', 'webhook-id': 'x' },
    },
  ])
})

describe('no request is made', () => {
  it.each(['localhost', 'localhost.', '127.0.0.1', '0x7f.1', '[::ffff:127.0.0.1]', '0'])(
    'to %s, which is this machine, unless it is allowed',
    async host => {
      const url = `http://${host}:${receiver.port}/`
      for (const allow of ['', '10.0.0.0/8, other.app'])
        expect(await send(url, { policy: parseTargetPolicy(allow) })).toMatchObject({ kind: 'forbidden' })
      expect(receiver.received).toEqual([])
    },
  )

  it('to a name with one forbidden address', async () => {
    const addresses = [
      { address: '127.0.0.1', family: 4 },
      { address: '10.0.0.1', family: 4 },
    ]
    expect(await send(`http://my.app:${receiver.port}/`, { resolve: async () => addresses })).toMatchObject({
      kind: 'forbidden',
    })
    expect(receiver.received).toEqual([])
  })

  it('to the target of a redirect', async () => {
    const other = await startReceiver()
    for (const status of [301, 302, 303, 307, 308]) {
      receiver.answers(response => response.writeHead(status, { location: `${other.url}/secret` }).end())
      expect(await send(receiver.url)).toMatchObject({ kind: 'answered', status })
    }
    expect(other.received).toEqual([])
    await other.close()
  })

  it('through a proxy from the environment', async () => {
    const back = http.setGlobalProxyFromEnv({ http_proxy: 'http://127.0.0.1:9', https_proxy: 'http://127.0.0.1:9' })
    try {
      expect(await send(receiver.url)).toMatchObject({ status: 204 })
    } finally {
      back()
    }
  })
})

it('connects to the checked address: the name is resolved once', async () => {
  const answers = [[{ address: '127.0.0.1', family: 4 }], [{ address: '127.0.0.2', family: 4 }]]
  let asked = 0
  const resolve = async (host: string) => {
    expect(host).toBe('rebinds.app')
    return answers[asked++]!
  }
  const policy = parseTargetPolicy('127.0.0.1')
  const url = `http://rebinds.app:${receiver.port}/`
  expect(await send(url, { resolve, policy })).toMatchObject({ kind: 'answered', status: 204 })
  expect(asked).toBe(1)
  expect(receiver.received[0]!.headers.host).toBe(`rebinds.app:${receiver.port}`)
  expect(await createSend({ policy, resolve })(message(url), never)).toMatchObject({ kind: 'forbidden' })
})

it('resolves a name that only the system knows', async () => {
  expect(await send(`http://localhost:${receiver.port}/`)).toMatchObject({ status: 204 })
})

describe('gives up', () => {
  it('on a target that does not answer, a name that does not resolve in time, and when it is stopped', async () => {
    receiver.answers(() => {})
    expect(await send(receiver.url, { timeoutMs: 50 })).toEqual({ kind: 'timeout' })
    const resolve = () => new Promise<never>(() => {})
    expect(await send(receiver.url, { timeoutMs: 50, resolve })).toEqual({ kind: 'timeout' })
    const stop = new AbortController()
    const before = receiver.received.length
    const sent = createSend({ policy: local })(message(receiver.url), stop.signal)
    await receiver.until(before + 1)
    stop.abort()
    expect(await sent).toEqual({ kind: 'stopped' })
    expect(await createSend({ policy: local })(message(receiver.url), stop.signal)).toEqual({ kind: 'stopped' })
  })

  it('on a target that is missing, has no name, speaks another protocol or hangs up', async () => {
    const server = createServer(socket => socket.once('data', () => socket.end('220 mail.example ESMTP\r\n'))).listen(0)
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    expect(await send(`http://127.0.0.1:${port}/`)).toMatchObject({ kind: 'unreachable', code: 'HPE_INVALID_CONSTANT' })
    await new Promise(resolve => server.close(resolve))
    expect(await send(`http://127.0.0.1:${port}/`)).toEqual({ kind: 'unreachable', code: 'ECONNREFUSED' })
    const nowhere = () => Promise.reject(Object.assign(new Error(), { code: 'ENOTFOUND' }))
    expect(await send('http://nowhere.app/', { resolve: nowhere })).toEqual({ kind: 'unreachable', code: 'ENOTFOUND' })
    expect(await send(`https://127.0.0.1:${receiver.port}/`)).toMatchObject({ kind: 'unreachable' })
    receiver.answers(response => response.destroy())
    expect(await send(receiver.url)).toEqual({ kind: 'unreachable', code: 'ECONNRESET' })
  })
})

it('does not read a long response, and closes one that never ends', async () => {
  const closed: Promise<void>[] = []
  for (const piece of ['x'.repeat(100_000), 'x']) {
    receiver.answers(response => {
      const drip = setInterval(() => response.write(piece), 5)
      const { promise, resolve } = Promise.withResolvers<void>()
      response.on('close', resolve)
      closed.push(promise.then(() => clearInterval(drip)))
      response.writeHead(200).write(piece)
    })
    expect(await send(receiver.url)).toMatchObject({ kind: 'answered', status: 200 })
  }
  await Promise.all(closed)
})

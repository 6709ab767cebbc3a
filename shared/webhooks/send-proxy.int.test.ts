import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { generate } from 'selfsigned'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { type ForwardProxy, startProxy } from '#shared/testing/proxy.ts'
import { createSend } from './send.ts'
import { parseTargetPolicy } from './target.ts'

let proxy: ForwardProxy
let receiver: ReturnType<typeof createServer>
let port: number
const received: { name: string | false | undefined; host: string | undefined }[] = []

beforeAll(async () => {
  const names = [{ name: 'commonName', value: 'hooks.test' }]
  const pems = await generate(names, {
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'hooks.test' }] }],
  })
  setDefaultCACertificates([...getCACertificates('default'), pems.cert])
  receiver = createServer({ key: pems.private, cert: pems.cert }, (request, response) => {
    received.push({ name: (request.socket as { servername?: string }).servername, host: request.headers.host })
    response.writeHead(204).end()
  })
  await new Promise<void>(resolve => receiver.listen(0, '127.0.0.1', resolve))
  port = (receiver.address() as AddressInfo).port
  proxy = await startProxy()
})
afterAll(async () => {
  await proxy.close()
  receiver.closeAllConnections()
  await new Promise(resolve => receiver.close(resolve))
})
afterEach(() => {
  received.length = 0
  proxy.log.length = 0
})

const sender = (addresses: string[] | null, { allow = '', noProxy = '' } = {}) => {
  const send = createSend({
    policy: parseTargetPolicy(allow),
    proxies: { http: proxy.url, https: proxy.url, noProxy },
    resolve: async () => {
      if (addresses === null) throw Object.assign(new Error('not known here'), { code: 'ENOTFOUND' })
      return addresses.map(address => ({ address, family: 4 }))
    },
  })
  return (url: string) => send({ url, headers: {}, body: '{}' }, new AbortController().signal)
}

it('the proxy receives the checked address; the target sees its own name', async () => {
  const answered = { kind: 'answered', status: 204, retryAfterMs: null }
  expect(await sender(['203.0.114.7'])(`https://hooks.test:${port}/x`)).toEqual(answered)
  expect(proxy.log).toMatchObject([{ method: 'CONNECT', target: `203.0.114.7:${port}` }])
  expect(received).toEqual([{ name: 'hooks.test', host: `hooks.test:${port}` }])
})

it.each([
  ['a private address', ['10.0.0.1'], 'https://hooks.test'],
  ['one private address of two', ['203.0.114.7', '169.254.169.254'], 'https://hooks.test'],
  ['this machine', ['127.0.0.1'], 'https://hooks.test'],
  ['a literal', ['10.0.0.1'], 'https://10.0.0.1'],
  ['a public address without TLS', ['203.0.114.7'], 'http://hooks.test'],
])('the proxy gets no request for %s', async (_, addresses, url) => {
  expect(await sender(addresses)(url)).toMatchObject({ kind: 'forbidden' })
  expect(proxy.log).toEqual([])
})

it('the proxy resolves an unknown name only if WEBHOOK_ALLOW contains it', async () => {
  const url = `https://hooks.test:${port}/`
  expect(await sender(null)(url)).toEqual({ kind: 'unreachable', code: 'ENOTFOUND' })
  expect(proxy.log).toEqual([])
  expect(await sender(null, { allow: 'hooks.test' })(url)).toMatchObject({ status: 204 })
  expect(proxy.log).toMatchObject([{ target: `hooks.test:${port}` }])
})

it('a name in NO_PROXY is requested directly', async () => {
  const send = sender(['127.0.0.1'], { allow: 'hooks.test', noProxy: '.test' })
  expect(await send(`https://hooks.test:${port}/`)).toMatchObject({ status: 204 })
  expect(proxy.log).toEqual([])
})

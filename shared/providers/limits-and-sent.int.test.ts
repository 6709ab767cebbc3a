import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ProviderConfig } from '#shared/config.ts'
import type { HeaderLimits } from '#shared/gate/types.ts'
import { textOfParts } from '#shared/requests/answer.ts'
import { type Script, startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { type CallAnswer, type CallContext, CallFailure, type CallRequest } from './define.ts'
import { createProviders } from './index.ts'

/** What every adapter reports with the answer: the limits of the provider, and whether the request was sent. */

const textOf = (answer: CallAnswer): string => textOfParts(answer.parts)
const REQUEST: CallRequest = { model: 'a-model', messages: [{ role: 'user', content: 'Say hello' }], maxTokens: 100 }
const DATE = 'Thu, 01 Jan 2026 12:00:00 GMT'

const ANTHROPIC_HEADERS = {
  // Far off the local clock, which must not matter.
  date: DATE,
  'anthropic-ratelimit-requests-limit': '50',
  'anthropic-ratelimit-requests-remaining': '49',
  'anthropic-ratelimit-requests-reset': '2026-01-01T12:00:02Z',
  'anthropic-ratelimit-tokens-limit': '120000',
  'anthropic-ratelimit-tokens-remaining': '90000',
  'anthropic-ratelimit-tokens-reset': '2026-01-01T12:00:15Z',
  'anthropic-ratelimit-input-tokens-limit': '100000',
  'anthropic-ratelimit-input-tokens-remaining': '0',
  'anthropic-ratelimit-input-tokens-reset': '2026-01-01T12:01:00Z',
  'anthropic-ratelimit-output-tokens-limit': '20000',
  'anthropic-ratelimit-output-tokens-remaining': 'garbage',
  'anthropic-ratelimit-output-tokens-reset': 'garbage',
}
const ANTHROPIC_LIMITS: HeaderLimits = {
  requests: { limit: 50, remaining: 49, resetMs: 2000 },
  tokens: { limit: 120_000, remaining: 90_000, resetMs: 15_000 },
  inputTokens: { limit: 100_000, remaining: 0, resetMs: 60_000 },
  outputTokens: { limit: 20_000, remaining: null, resetMs: null },
}
const OPENAI_HEADERS = {
  'x-ratelimit-limit-requests': '60',
  'x-ratelimit-remaining-requests': '59',
  'x-ratelimit-reset-requests': '20ms',
  'x-ratelimit-limit-tokens': '150000',
  'x-ratelimit-remaining-tokens': '149984',
  'x-ratelimit-reset-tokens': '1m2.5s',
}
const OPENAI_LIMITS: HeaderLimits = {
  requests: { limit: 60, remaining: 59, resetMs: 20 },
  tokens: { limit: 150_000, remaining: 149_984, resetMs: 62_500 },
}

type Subject = {
  name: string
  adapter: ProviderConfig['adapter']
  path: string
  headers: Record<string, string>
  limits: HeaderLimits | null
}
const openai = { adapter: 'openai', headers: OPENAI_HEADERS, limits: OPENAI_LIMITS } as const
const SUBJECTS: Subject[] = [
  { name: 'anthropic', adapter: 'anthropic', path: '', headers: ANTHROPIC_HEADERS, limits: ANTHROPIC_LIMITS },
  { name: 'openai', path: '/v1', ...openai },
  { name: 'deepseek', path: '', ...openai },
  { name: 'ollama', adapter: 'ollama', path: '', headers: { ...OPENAI_HEADERS, ...ANTHROPIC_HEADERS }, limits: null },
]
const MODES = [
  { mode: 'whole', streamed: {} },
  { mode: 'streaming', streamed: { onEvent: () => {} } },
]

async function failureOf(call: Promise<unknown>): Promise<CallFailure> {
  const outcome = await call.then(
    answer => new Error(`It succeeded: ${JSON.stringify(answer)}`),
    (error: unknown) => error,
  )
  if (!(outcome instanceof CallFailure)) throw outcome
  return outcome
}

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})
/** @returns host and port */
async function listening(server: Server): Promise<string> {
  servers.push(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}
async function closedPort(): Promise<string> {
  const server = createServer()
  const authority = await listening(server)
  await once(server.close(), 'close')
  return authority
}

describe.each(SUBJECTS)('$name', subject => {
  let upstream: Upstream
  beforeEach(async () => {
    upstream = await startUpstream()
  })
  afterEach(() => upstream.close())

  const at = (address: string, more: Partial<ProviderConfig> = {}) => {
    const { name, adapter, path } = subject
    const baseUrl = `${address}${path}`
    const config = { name, adapter, baseUrl, apiKey: 'a-key', model: null, explicit: true, ...more }
    const provider = createProviders([config]).get(name)
    if (!provider) throw new Error(`No provider ${name}`)
    return (context: Partial<CallContext> = {}, content = 'Say hello') =>
      provider.call(
        { ...REQUEST, messages: [{ role: 'user', content }] },
        { signal: new AbortController().signal, timeoutMs: 20_000, ...context },
      )
  }

  describe.each(MODES)('$mode', ({ streamed }) => {
    const run = (context: Partial<CallContext> = {}, content?: string) =>
      at(upstream.url)({ ...streamed, ...context }, content)

    it('reports the limits with an answer, in one request', async () => {
      upstream.headers(subject.headers)
      expect((await run()).limits).toEqual(subject.limits)
      expect(upstream.count()).toBe(1)
    })

    it('reports the limits of each call separately', async () => {
      upstream.script({ headers: subject.headers }, {})
      const call = at(upstream.url)
      expect((await call(streamed)).limits).toEqual(subject.limits)
      expect((await call(streamed)).limits).toBeNull()
    })

    it.each<[string, Script]>([
      ['a rate limit', { status: 429 }],
      ['an overload', { status: 529 }],
      ['a wrong key', { status: 401 }],
      ['a bad request', { status: 400 }],
      ['a page', { status: 502, body: '<html>Bad gateway</html>' }],
      ['garbage', { fault: 'garbage' }],
      ['JSON of another shape', { fault: 'wrong_shape' }],
      ['an answer without text', { text: '' }],
      ['an error under HTTP 200', { fault: 'error_event' }],
      ['a connection cut in the middle', { fault: 'cut_midway' }],
      ['a body that never ends', { fault: 'hang_midway' }],
    ])('reports the limits with %s, and that the request was sent', async (_, script) => {
      upstream.headers(subject.headers)
      upstream.script(script)
      const timeoutMs = script.fault === 'hang_midway' ? 2000 : 20_000
      expect(await failureOf(run({ timeoutMs }))).toMatchObject({ limits: subject.limits, sent: true })
      expect(upstream.count()).toBe(1)
    })

    it('reports the limits in addition to a Retry-After', async () => {
      upstream.script({ status: 429, headers: { ...subject.headers, 'retry-after': '7' } })
      const failure = await failureOf(run())
      expect(failure).toMatchObject({ kind: 'rate_limited', retryAfterMs: 7000, limits: subject.limits })
    })

    it.each(['', 'garbage', '-5', '1e9', '99999999999999999999', '\u00ff'])('ignores limits of %j', async value => {
      upstream.headers(Object.fromEntries(Object.keys(subject.headers).map(name => [name, value])))
      expect((await run()).limits).toBeNull()
      upstream.script({ status: 429 })
      expect(await failureOf(run())).toMatchObject({ kind: 'rate_limited', limits: null })
    })

    it('reports that nothing was sent to a closed port', async () => {
      const failure = await failureOf(at(`http://${await closedPort()}`)(streamed))
      expect(failure).toMatchObject({ kind: 'connection', sent: false, limits: null })
    })

    it('reports that nothing was sent to a name without an address', async () => {
      const failure = await failureOf(at('http://nowhere.invalid')(streamed))
      expect(failure).toMatchObject({ kind: 'connection', sent: false })
    })

    it('reports that nothing was sent to a port that fetch refuses', async () => {
      expect(await failureOf(at('http://127.0.0.1:6667')(streamed))).toMatchObject({ kind: 'connection', sent: false })
    })

    it('reports that nothing was sent to a server that does not speak TLS', async () => {
      const failure = await failureOf(at(upstream.url.replace('http:', 'https:'))(streamed))
      expect(failure).toMatchObject({ kind: 'connection', sent: false })
      expect(upstream.count()).toBe(0)
    })

    it('reports that nothing was sent if the TLS handshake failed', async () => {
      // Without a certificate the server shares no cipher with any client.
      const authority = await listening(createTlsServer({}).on('tlsClientError', () => {}))
      const failure = await failureOf(at(`https://${authority}`)(streamed))
      expect(failure).toMatchObject({ kind: 'connection', sent: false })
    })

    it('reports that nothing was sent if the server hung up in the TLS handshake', async () => {
      const authority = await listening(createServer(socket => socket.destroy()))
      const failure = await failureOf(at(`https://${authority}`)(streamed))
      expect(failure).toMatchObject({ kind: 'connection', sent: false })
    })

    it('reports that nothing was sent to an invalid address, or with a key that cannot be sent', async () => {
      expect((await failureOf(at('http://[')(streamed))).sent).toBe(false)
      if (subject.adapter === 'ollama') return
      expect((await failureOf(at(upstream.url, { apiKey: 'a\nkey' })(streamed))).sent).toBe(false)
      expect(upstream.count()).toBe(0)
    })

    it('reports that nothing was sent for a call that was aborted before or at once, or had no time left', async () => {
      expect(await failureOf(run({ signal: AbortSignal.abort() }))).toMatchObject({ kind: 'aborted', sent: false })
      expect(await failureOf(run({ timeoutMs: 0 }))).toMatchObject({ kind: 'timeout', sent: false })
      const controller = new AbortController()
      const failure = failureOf(run({ signal: controller.signal }))
      controller.abort()
      const { kind, sent } = await failure
      expect(kind).toBe('aborted')
      // A request reported as not sent must not be sent later. A complete further call gives it time to appear.
      await run({}, 'the other')
      if (!sent) expect(upstream.count(/^Say hello$/)).toBe(0)
    })

    it.each(['cut', 'hang', 'dribble'] as const)(
      'reports that a request was sent in spite of this fault: %s',
      async fault => {
        upstream.script({ fault })
        const controller = new AbortController()
        const failure = failureOf(run({ signal: controller.signal }))
        await upstream.arrived(1)
        controller.abort()
        expect((await failure).sent).toBe(true)
      },
    )

    it('reports that a request aborted in progress was sent', async () => {
      const gate = upstream.hold()
      const controller = new AbortController()
      const failure = failureOf(run({ signal: controller.signal }))
      await gate.waiting()
      controller.abort()
      expect(await failure).toMatchObject({ kind: 'aborted', sent: true })
      gate.release()
    })

    it('reports that a request was sent even if the server may not have read it', async () => {
      const authority = await listening(createServer(socket => socket.destroy()))
      const failure = await failureOf(at(`http://${authority}`)(streamed))
      expect(failure).toMatchObject({ kind: 'connection', sent: true })
    })

    it('keeps concurrent failures separate', async () => {
      const closed = at(`http://${await closedPort()}`)
      upstream.default({ fault: 'cut' })
      const calls = Array.from({ length: 20 }, (_, index) => failureOf(index % 2 ? run() : closed(streamed)))
      const sent = (await Promise.all(calls)).map(failure => failure.sent)
      expect(sent).toEqual(sent.map((_, index) => index % 2 === 1))
    })

    it('reaches the request limit of the upstream', async () => {
      upstream.limit({ requestsPerMinute: 2 })
      upstream.script({ text: 'one' }, { text: 'two' }, { text: 'three' })
      expect([textOf(await run()), textOf(await run())]).toEqual(['one', 'two'])
      const failure = await failureOf(run())
      expect(failure).toMatchObject({ kind: 'rate_limited', status: 429, sent: true })
      // The upstream reports whole seconds until the first of the two calls is a minute old.
      expect(failure.retryAfterMs! % 1000).toBe(0)
      expect(failure.retryAfterMs).toBeGreaterThan(30_000)
      expect(failure.retryAfterMs).toBeLessThanOrEqual(60_000)
      expect(upstream.traffic()).toMatchObject({ overruns: 1, requestsPerMinute: 3, concurrency: 1 })
      upstream.limit(null)
      expect(textOf(await run())).toBe('three')
    })

    it('reaches the token limit of the upstream', async () => {
      upstream.limit({ tokensPerMinute: 100 })
      upstream.default({ usage: { inputTokens: 30, outputTokens: 20 } })
      await run()
      await run()
      expect(await failureOf(run())).toMatchObject({ kind: 'rate_limited' })
      expect(upstream.traffic()).toMatchObject({ overruns: 1, tokensPerMinute: 100 })
    })

    it('reaches the concurrency limit of the upstream, but never with sequential calls', async () => {
      upstream.limit({ concurrency: 1 })
      const call = at(upstream.url)
      // The connection stays open briefly after the answer, when the next call arrives.
      upstream.rule('', { chunkDelayMs: 5 })
      for (let round = 0; round < 5; round++) await call(streamed)
      expect(upstream.traffic()).toMatchObject({ overruns: 0, concurrency: 1 })
      const gate = upstream.hold()
      const first = call(streamed)
      await gate.waiting()
      expect(await failureOf(call(streamed))).toMatchObject({ kind: 'rate_limited', retryAfterMs: 1000 })
      gate.release()
      await first
      expect(upstream.traffic()).toMatchObject({ overruns: 1, concurrency: 2 })
    })

    it('is logged by the upstream', async () => {
      upstream.limit({ requestsPerMinute: 1 })
      const before = Date.now()
      await run({}, 'Say [[one]] and [[two]]')
      await failureOf(run({}, 'Say [[three]]'))
      const log = upstream.log()
      expect(log).toMatchObject([
        { provider: subject.adapter, model: 'a-model', markers: ['one', 'two'], refused: false },
        { provider: subject.adapter, model: 'a-model', prompt: 'Say [[three]]', markers: ['three'], refused: true },
      ])
      for (const { at } of log) expect(at >= before && at <= Date.now()).toBe(true)
      upstream.reset()
      expect([upstream.log(), upstream.traffic().overruns]).toEqual([[], 0])
      await run()
    })
  })
})

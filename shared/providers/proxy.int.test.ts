import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import { type ForwardProxy, startProxy } from '#shared/testing/proxy.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { CallFailure } from './define.ts'
import { createProviders } from './index.ts'

let refuse: number | null = null
let proxy: ForwardProxy
let upstream: Upstream
beforeAll(async () => {
  ;[proxy, upstream] = await Promise.all([startProxy({ refuse: () => refuse }), startUpstream({ reply: 'Hello' })])
})
afterAll(() => Promise.all([proxy.close(), upstream.close()]))
afterEach(() => {
  refuse = null
  proxy.log.length = 0
})

const port = () => new URL(upstream.url).port
/** URLs with names that only the proxy can resolve. */
const providersOf = (env: Record<string, string>) => {
  const host = `http://provider.test:${port()}`
  const { providers, proxies } = parseConfig({
    ...{ ANTHROPIC_API_KEY: 'k', ANTHROPIC_BASE_URL: host, OPENAI_API_KEY: 'k', OPENAI_BASE_URL: host },
    ...{ GOOGLE_AI_API_KEY: 'k', GOOGLE_AI_BASE_URL: host, DEEPSEEK_API_KEY: 'k', DEEPSEEK_BASE_URL: host },
    OLLAMA_HOST: host,
    ...env,
  })
  return createProviders(providers, proxies)
}
const ask = (providers: ReturnType<typeof providersOf>, name: string, onEvent?: () => void) =>
  providers
    .get(name)!
    .call(
      { model: 'm', messages: [{ role: 'user', content: 'Hi' }], maxTokens: 10 },
      { signal: new AbortController().signal, timeoutMs: 20_000, ...(onEvent && { onEvent }) },
    )
const NAMES = ['anthropic', 'openai', 'google', 'deepseek', 'ollama']

describe.each(NAMES)('%s', name => {
  it.each(['whole', 'streamed'])('is called through HTTP_PROXY, with the answer %s', async how => {
    const providers = providersOf({ HTTP_PROXY: proxy.withPassword })
    expect(await ask(providers, name, how === 'streamed' ? () => {} : undefined)).toMatchObject({
      parts: [{ text: 'Hello' }],
    })
    const authorization = `Basic ${Buffer.from('me:p@ss').toString('base64')}`
    // Ollama is also asked for its context size.
    expect(proxy.log.length).toBeGreaterThan(0)
    for (const one of proxy.log) expect(one).toMatchObject({ target: `http://provider.test:${port()}`, authorization })
  })

  it('is called directly at a loopback address, or at one in NO_PROXY', async () => {
    const env = { http_proxy: proxy.url, NO_PROXY: '.other, provider.test' }
    const failed = ask(providersOf(env), name)
    await expect(failed).rejects.toMatchObject({ kind: 'connection', sent: false })
    const here = upstream.url
    const own = { ANTHROPIC_BASE_URL: here, OPENAI_BASE_URL: here, GOOGLE_AI_BASE_URL: here, DEEPSEEK_BASE_URL: here }
    expect(await ask(providersOf({ http_proxy: proxy.url, ...own, OLLAMA_HOST: here }), name)).toMatchObject({
      parts: [{ text: 'Hello' }],
    })
    expect(proxy.log).toEqual([])
  })
})

it('https:// goes through a tunnel; a proxy that refuses it leaves the request unsent', async () => {
  refuse = 403
  const providers = providersOf({ HTTPS_PROXY: proxy.withPassword, OPENAI_BASE_URL: 'https://api.test' })
  const failure = await ask(providers, 'openai').catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(CallFailure)
  expect(failure).toMatchObject({ kind: 'connection', scope: 'none', sent: false })
  const authorization = expect.stringMatching(/^Basic /)
  expect(proxy.log).toMatchObject([{ method: 'CONNECT', target: 'api.test:443', authorization }])
})

it('HTTPS_PROXY does not affect http://', async () => {
  const providers = providersOf({ HTTPS_PROXY: proxy.url, OPENAI_BASE_URL: upstream.url })
  expect(await ask(providers, 'openai')).toMatchObject({ parts: [{ text: 'Hello' }] })
  expect(proxy.log).toEqual([])
})

it('the model list of a server without a key is requested through the proxy', async () => {
  const providers = providersOf({ OPENAI_API_KEY: '', HTTP_PROXY: proxy.url })
  await providers.get('openai')!.listed?.()
  expect(proxy.log).toMatchObject([{ method: 'GET' }])
})

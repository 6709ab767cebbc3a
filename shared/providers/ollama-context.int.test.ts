import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { CallFailure, type CallRequest } from './define.ts'
import { createProviders } from './index.ts'

/** A server that cuts prompts to its context like Ollama, with four characters per token. */
type Server = {
  /** Its own context size, without a requested one or if it ignores that. */
  window?: number
  /** Context length reported by `/api/show`; null: the route does not exist. */
  contextLength?: number | null
  honours?: { numCtx?: boolean; truncate?: boolean }
  /** The reported count of prompt tokens. */
  count?: (read: number) => number | undefined
}

type Body = { truncate?: boolean; shift?: boolean; messages: { content: string }[]; options: Record<string, number> }

async function serve({ window = 4096, contextLength = null, honours = {}, count = read => read }: Server = {}) {
  const { numCtx = true, truncate = true } = honours
  const calls: Body[] = []
  const paths: string[] = []
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    paths.push(request.url ?? '')
    const json = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(`${JSON.stringify(body)}\n`)
    }
    if (request.url === '/api/show' && contextLength !== null)
      return json(200, { model_info: { 'llama.context_length': contextLength, 'llama.block_count': 28 } })
    if (request.url !== '/api/chat') return json(404, { error: 'not found' })
    const body = JSON.parse(String(Buffer.concat(parts))) as Body
    calls.push(body)
    const size = (numCtx && body.options.num_ctx) || window
    const tokens = Math.ceil(body.messages.reduce((sum, one) => sum + one.content.length, 0) / 4)
    if (truncate && body.truncate === false && tokens > size)
      return json(400, { error: 'the input length exceeds the context length' })
    const read = count(Math.min(tokens, size))
    const end = {
      done: true,
      done_reason: 'stop',
      ...(read !== undefined && { prompt_eval_count: read }),
      eval_count: 1,
    }
    json(200, { model: 'llama3.2', message: { role: 'assistant', content: 'safe' }, ...end })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const config = {
    name: 'ollama',
    adapter: 'ollama' as const,
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey: null,
    model: null,
    explicit: true,
    maxContext: 32_768,
  }
  const provider = createProviders([config]).get('ollama')!
  const ask = (content: string, more: Partial<CallRequest> = {}) =>
    provider
      .call(
        { model: 'llama3.2', messages: [{ role: 'user', content }], maxTokens: 1000, ...more },
        { signal: new AbortController().signal, timeoutMs: 20_000 },
      )
      .catch((error: unknown) => {
        if (error instanceof CallFailure) return error
        throw error
      })
  return { ask, calls, paths }
}

/** A prompt of this many tokens, as counted by the server. */
const words = (tokens: number) => 'lovely weather today, my friend. '.repeat(Math.ceil((tokens * 4) / 33))

describe('a prompt to Ollama', () => {
  it('gets a context with room for it and for the answer, and must not be cut', async () => {
    const { ask, calls } = await serve({ contextLength: 131_072 })
    expect(await ask(words(10_000))).toMatchObject({
      parts: [{ text: 'safe' }],
      usage: { inputTokens: expect.closeTo(10_000, -2) },
    })
    expect(calls).toMatchObject([{ truncate: false, shift: false, options: { num_ctx: 32_768, num_predict: 1000 } }])
  })

  it('does not reload the model for every length', async () => {
    const { ask, calls, paths } = await serve({ contextLength: 131_072 })
    for (const tokens of [5000, 10, 2000, 4000]) await ask(words(tokens))
    expect(calls.map(one => one.options.num_ctx)).toEqual([16_384, 16_384, 16_384, 16_384])
    expect(paths.filter(path => path === '/api/show')).toHaveLength(1)
  })

  it('gets a larger context if it has more tokens than estimated', async () => {
    // The estimate is two bytes per token; here each byte is a token.
    const { ask, calls } = await serve({ contextLength: 131_072, window: 4096 })
    expect(await ask('\u{1F600}'.repeat(5000), { maxTokens: 1 })).toMatchObject({ parts: [{ text: 'safe' }] })
    expect(calls.length).toBeLessThanOrEqual(2)
  })

  it('fails before the first text if the model lacks such a context', async () => {
    const { ask, calls } = await serve({ contextLength: 8192 })
    expect(await ask(words(12_000))).toMatchObject({ kind: 'context_exceeded', scope: 'provider' })
    expect(calls.every(one => one.options.num_ctx === 8192)).toBe(true)
  })

  it.each<[string, Server]>([
    ['ignores both options', { honours: { numCtx: false, truncate: false } }],
    [
      'knows num_ctx but not truncate, and has a model with less',
      { window: 2048, honours: { numCtx: false, truncate: false } },
    ],
    ['reports no count', { count: () => undefined }],
    ['fills the window that was requested', { count: () => 32_768 }],
    ['reports what was left of a conversation', { count: () => 12 }],
  ])('does not count as read by a server that %s', async (_, server) => {
    const { ask } = await serve({ contextLength: 131_072, ...server })
    expect(await ask(words(10_000))).toMatchObject({ kind: 'context_exceeded', scope: 'provider' })
  })

  it('counts completely, including instructions and earlier turns of the user', async () => {
    const { ask } = await serve({ honours: { numCtx: false, truncate: false } })
    const messages: CallRequest['messages'] = [
      { role: 'user', content: words(6000) },
      { role: 'assistant', content: 'Go on.' },
      { role: 'user', content: 'And now?' },
    ]
    expect(await ask('', { messages })).toMatchObject({ kind: 'context_exceeded' })
    const system = words(6000)
    expect(await ask('Hi', { system })).toMatchObject({ kind: 'context_exceeded' })
  })

  it('counts as read without a count if it certainly fits, because versions with a prompt cache report none', async () => {
    const { ask } = await serve({ count: () => undefined })
    expect(await ask('What a lovely photograph.')).toMatchObject({
      parts: [{ text: 'safe' }],
      finishReason: 'stop',
      usage: { inputTokens: 0 },
    })
  })

  it('leaves the rest of the context to the answer', async () => {
    const { ask, calls } = await serve({ contextLength: 8192 })
    await ask('Hi', { maxTokens: 100_000 })
    expect(calls[0]!.options.num_ctx).toBe(8192)
    expect(calls[0]!.options.num_predict).toBeLessThan(8192)
  })
})

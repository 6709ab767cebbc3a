import { setImmediate } from 'node:timers/promises'
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { ProviderConfig } from '#shared/config.ts'
import { type Script, startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { vectorOf } from '#shared/testing/upstream-wire.ts'
import { type CallContext, CallFailure, type CallRequest, type EmbedRequest, type Provider } from './define.ts'
import { createProviders } from './index.ts'

/** What every adapter does, through the provider's own SDK and over a real connection. */

type Subject = { name: string; adapter: ProviderConfig['adapter']; path: string }

const SUBJECTS: Subject[] = [
  { name: 'anthropic', adapter: 'anthropic', path: '' },
  { name: 'openai', adapter: 'openai', path: '/v1' },
  { name: 'deepseek', adapter: 'openai', path: '' },
  { name: 'google', adapter: 'openai', path: '/v1beta/openai/' },
  { name: 'ollama', adapter: 'ollama', path: '' },
]
const MODES = [
  { mode: 'whole', onDelta: undefined },
  { mode: 'streaming', onDelta: () => {} },
]
const REQUEST: CallRequest = { model: 'a-model', messages: [{ role: 'user', content: 'Say hello' }], maxTokens: 100 }
const SCHEMA = {
  type: 'object',
  properties: { word: { type: 'string', maxLength: 9 } },
  required: ['word'],
  additionalProperties: false,
}

const configOf = (subject: Subject, address: string, more: Partial<ProviderConfig> = {}): ProviderConfig => ({
  name: subject.name,
  adapter: subject.adapter,
  baseUrl: `${address}${subject.path}`,
  apiKey: 'a-key',
  model: null,
  explicit: true,
  ...more,
})
function providerOf(config: ProviderConfig): Provider {
  const provider = createProviders([config]).get(config.name)
  if (!provider) throw new Error(`No provider ${config.name}`)
  return provider
}
type Context = Omit<Partial<CallContext>, 'onDelta'> & { onDelta?: CallContext['onDelta'] | undefined }
const contextOf = ({ onDelta, ...rest }: Context = {}): CallContext => {
  return { signal: new AbortController().signal, timeoutMs: 20_000, ...rest, ...(onDelta ? { onDelta } : {}) }
}
async function failureOf(call: Promise<unknown>): Promise<CallFailure> {
  const outcome = await call.then(
    answer => new Error(`It succeeded: ${JSON.stringify(answer)}`),
    (error: unknown) => error,
  )
  if (!(outcome instanceof CallFailure)) throw outcome
  return outcome
}

/** After it a connection is there and free, so that a time limit finds the next call at the upstream. */
async function connected(call: () => Promise<unknown>): Promise<void> {
  await call()
  await setImmediate()
}

describe.each(SUBJECTS)('$name', subject => {
  const streamsOnly = subject.adapter === 'ollama'
  let upstream: Upstream
  let provider: Provider
  beforeEach(async () => {
    upstream = await startUpstream()
    provider = providerOf(configOf(subject, upstream.url))
  })
  afterEach(() => upstream.close())

  const call = (request: Partial<CallRequest> = {}, context: Context = {}) =>
    provider.call({ ...REQUEST, ...request }, contextOf(context))
  const sent = () => upstream.calls[0]?.body ?? {}

  describe.each(MODES)('$mode', ({ mode, onDelta }) => {
    const streaming = mode === 'streaming'
    const run = (request: Partial<CallRequest> = {}) => call(request, { onDelta })

    it('answers with text, model, stop reason and usage, in one request', async () => {
      upstream.script({ text: 'Hello you', usage: { inputTokens: 30, outputTokens: 7 } })
      expect(await run()).toEqual({
        text: 'Hello you',
        stop: 'end',
        model: 'a-model',
        usage: { inputTokens: 30, outputTokens: 7, cacheReadTokens: 0, cacheWriteTokens: 0 },
        limits: null,
      })
      expect(upstream.count()).toBe(1)
      expect(upstream.calls[0]?.streaming).toBe(streaming || streamsOnly)
    })

    it('counts cached tokens as input', async () => {
      upstream.script({ usage: { inputTokens: 90, outputTokens: 2, cacheReadTokens: 50, cacheWriteTokens: 10 } })
      const { usage } = await run()
      expect(usage?.inputTokens).toBe(90)
      expect(usage?.cacheReadTokens).toBe(streamsOnly ? 0 : 50)
      expect(usage?.cacheWriteTokens).toBe(subject.adapter === 'anthropic' ? 10 : 0)
    })

    it('says null when the provider reports no usage', async () => {
      upstream.script({ usage: null })
      expect((await run()).usage).toBeNull()
    })

    it('tells an answer that was cut off', async () => {
      upstream.script({ stop: 'max_tokens', text: 'Half an' })
      expect(await run()).toMatchObject({ stop: 'max_tokens', text: 'Half an' })
    })

    it('takes a cut-off answer without text for what it is', async () => {
      upstream.script({ stop: 'max_tokens', text: '' })
      expect(await run()).toMatchObject({ stop: 'max_tokens', text: '' })
    })

    it.skipIf(streamsOnly)('tells a refusal', async () => {
      upstream.script({ stop: 'refusal', text: 'I would rather not.' })
      expect(await run()).toMatchObject({ stop: 'refusal', text: 'I would rather not.' })
    })

    it('calls an answer without text none, and still charges it', async () => {
      upstream.script({ text: '', usage: { inputTokens: 8, outputTokens: 0 } })
      const failure = await failureOf(run())
      expect(failure).toMatchObject({ kind: 'bad_response', usage: { inputTokens: 8 } })
    })

    it('keeps text whole that is cut through its characters', async () => {
      const text = 'Grüße, 世界 👩‍👩‍👧‍👦!'
      upstream.script({ text, chunks: [text], sliceBytes: 1 })
      expect((await run()).text).toBe(text)
    })

    it('survives U+0000 and lone surrogates', async () => {
      const text = 'a\0b\ud83dc'
      upstream.script({ text, chunks: [text] })
      expect((await run()).text).toBe(text)
    })

    it('keeps 50 calls apart that run at the same time', async () => {
      const gate = upstream.hold()
      const ids = Array.from({ length: 50 }, (_, index) => `call ${index}.`)
      for (const id of ids) upstream.rule(`^${id}$`, { text: `Answer to ${id}` })
      const answers = ids.map(content => run({ messages: [{ role: 'user', content }] }))
      await gate.waiting(50)
      gate.release()
      expect((await Promise.all(answers)).map(answer => answer.text)).toEqual(ids.map(id => `Answer to ${id}`))
      expect(upstream.count()).toBe(50)
    })

    it.each<[string, Script, Partial<CallFailure>]>([
      ['rate limit', { status: 429 }, { kind: 'rate_limited', scope: 'none', status: 429 }],
      ['overload', { status: 529 }, { kind: 'overloaded', scope: 'none' }],
      ['busy server', { status: 503 }, { kind: 'overloaded', scope: 'none' }],
      ['server error', { status: 500 }, { kind: 'server_error', scope: 'none', status: 500 }],
      ['bad gateway with a page', { status: 502, body: '<html>Bad gateway</html>' }, { kind: 'server_error' }],
      ['gateway timeout', { status: 504 }, { kind: 'timeout', scope: 'none' }],
      ['conflict', { status: 409 }, { kind: 'server_error', scope: 'none' }],
      ['wrong key', { status: 401 }, { kind: 'auth', scope: 'provider' }],
      ['forbidden', { status: 403 }, { kind: 'auth', scope: 'provider' }],
      ['empty account', { status: 402 }, { kind: 'no_balance', scope: 'provider', status: 402 }],
      ['unknown model', { status: 404 }, { kind: 'unknown_model', scope: 'provider', status: 404 }],
      ['invalid request', { status: 400 }, { kind: 'invalid_request', scope: 'task', status: 400 }],
      ['request too large', { status: 413 }, { kind: 'invalid_request', scope: 'task' }],
      ['wrong key called invalid', { status: 400, message: 'API key not valid.' }, { kind: 'auth', scope: 'provider' }],
      [
        'empty account called invalid',
        { status: 400, message: 'Your credit balance is too low' },
        { kind: 'no_balance' },
      ],
      ['connection closed before headers', { fault: 'cut' }, { kind: 'connection', scope: 'none', status: null }],
      ['connection cut in the middle', { fault: 'cut_midway' }, { kind: 'connection', scope: 'none' }],
      ['garbage', { fault: 'garbage' }, { kind: 'bad_response', scope: 'none' }],
      ['a web page', { fault: 'html' }, { kind: 'bad_response', scope: 'none' }],
      ['JSON of another shape', { fault: 'wrong_shape' }, { kind: 'bad_response', scope: 'none' }],
      ['an empty body', { fault: 'empty' }, { kind: 'bad_response', scope: 'none' }],
      ['an error under HTTP 200', { fault: 'error_event' }, { kind: 'overloaded', scope: 'none' }],
    ])('fails once and for the right reason: %s', async (_, script, expected) => {
      upstream.script(script)
      expect(await failureOf(run())).toMatchObject(expected)
      expect(upstream.count()).toBe(1)
    })

    it('fails when the answer ends in good order but too early', async () => {
      upstream.script({ fault: 'truncated' })
      const { kind } = await failureOf(run())
      expect(kind).toBe(streaming || streamsOnly ? 'connection' : 'bad_response')
    })

    it('fails when nobody listens', async () => {
      await upstream.close()
      expect(await failureOf(run())).toMatchObject({ kind: 'connection', scope: 'none', status: null })
      upstream = await startUpstream()
    })

    it.each([
      [429, { 'retry-after': '7' }, 7000],
      [503, { 'retry-after-ms': '1500' }, 1500],
      [529, {}, null],
    ])('reads Retry-After of a %i (%j)', async (status, headers, expected) => {
      upstream.script({ status, headers: headers as Record<string, string> })
      expect((await failureOf(run())).retryAfterMs).toBe(expected)
    })

    it('understands an error body that is an array, with the wait inside', async () => {
      const details = [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '34s' }]
      upstream.script({ status: 429, body: [{ error: { code: 429, status: 'RESOURCE_EXHAUSTED', details } }] })
      expect(await failureOf(run())).toMatchObject({ kind: 'rate_limited', retryAfterMs: 34_000 })
    })

    it.each(['hang', 'hang_midway', 'dribble'] as const)('ends a call at its time limit: %s', async fault => {
      await connected(call)
      upstream.default({ fault })
      const failure = await failureOf(call({}, { onDelta, timeoutMs: 100 }))
      expect(failure).toMatchObject({
        kind: 'timeout',
        scope: 'none',
        message: 'No complete answer within 100 ms',
      })
      if (upstream.count() > 1) await upstream.aborted(1)
    })

    it.each(['before the headers', 'in the middle'])('stops at once when aborted %s', async when => {
      const gate = upstream.hold({ midway: when === 'in the middle' })
      const controller = new AbortController()
      const failure = failureOf(call({}, { onDelta, signal: controller.signal }))
      await gate.waiting()
      controller.abort()
      expect(await failure).toMatchObject({ kind: 'aborted', scope: 'none' })
      await upstream.aborted(1)
      gate.release()
    })

    it('makes no request for a call that was aborted before, or has no time left', async () => {
      expect(await failureOf(call({}, { onDelta, signal: AbortSignal.abort() }))).toMatchObject({ kind: 'aborted' })
      expect(await failureOf(call({}, { onDelta, timeoutMs: 0 }))).toMatchObject({ kind: 'timeout' })
      expect(upstream.count()).toBe(0)
    })

    it('leaves no listener on the signal of its caller', async () => {
      const { signal } = new AbortController()
      const listeners = new Set<unknown>()
      const { addEventListener, removeEventListener } = signal
      signal.addEventListener = (type: string, listener: never, options?: never) => {
        listeners.add(listener)
        addEventListener.call(signal, type, listener, options)
      }
      signal.removeEventListener = (type: string, listener: never) => {
        listeners.delete(listener)
        removeEventListener.call(signal, type, listener)
      }
      await call({}, { onDelta, signal })
      expect(listeners.size).toBe(0)
    })
  })

  it('streams the text in pieces that add up to the answer', async () => {
    upstream.script({ text: 'one two three', chunks: ['one ', 'two ', 'three'] })
    const pieces: string[] = []
    const { text } = await call({}, { onDelta: piece => pieces.push(piece) })
    expect(pieces).toEqual(['one ', 'two ', 'three'])
    expect(text).toBe('one two three')
  })

  it('passes text on before the answer is complete', async () => {
    const gate = upstream.hold({ midway: true })
    upstream.script({ text: 'one two', chunks: ['one ', 'two'] })
    const { promise: first, resolve } = Promise.withResolvers<string>()
    const answer = call({}, { onDelta: resolve })
    expect(await first).toBe('one ')
    gate.release()
    expect((await answer).text).toBe('one two')
  })

  it('passes no text on once it was aborted', async () => {
    const controller = new AbortController()
    const pieces: string[] = []
    upstream.script({ text: 'one two three', chunks: ['one ', 'two ', 'three'] })
    const onDelta = (piece: string) => {
      pieces.push(piece)
      controller.abort()
    }
    expect((await failureOf(call({}, { onDelta, signal: controller.signal }))).kind).toBe('aborted')
    await upstream.arrived(1)
    expect(pieces).toEqual(['one '])
  })

  it('asks for the whole answer when nobody listens, but where headers would come only with it', async () => {
    await call({}, { timeoutMs: 600_000 })
    expect(upstream.calls[0]?.streaming).toBe(subject.name === 'ollama')
  })

  it('sends model, system prompt, messages and key', async () => {
    const messages: CallRequest['messages'] = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
      { role: 'user', content: 'Bye' },
    ]
    await call({ system: 'Be short', messages })
    expect(upstream.calls[0]?.prompt).toBe('Be short\nHi\nHello\nBye')
    expect(sent().model).toBe('a-model')
    if (subject.adapter !== 'ollama') expect(upstream.calls[0]?.headers.authorization).toBe('Bearer a-key')
  })

  it.each(['cut_midway', 'error_event', 'truncated', 'hang_midway'] as const)(
    'does not know what a stream has cost that fails in the middle: %s',
    async fault => {
      await connected(call)
      upstream.script({ fault, usage: { inputTokens: 40, cacheReadTokens: 30, outputTokens: 9 } })
      const failure = await failureOf(
        call({}, { onDelta: () => {}, timeoutMs: fault === 'hang_midway' ? 2000 : 20_000 }),
      )
      expect(failure).toMatchObject({ usage: null, begun: true, sent: true })
    },
  )

  it('does not know what a stream has cost that is aborted in the middle', async () => {
    const controller = new AbortController()
    upstream.script({ fault: 'dribble', usage: { inputTokens: 40, outputTokens: 9 } })
    const failure = failureOf(call({}, { onDelta: () => controller.abort(), signal: controller.signal }))
    expect(await failure).toMatchObject({ kind: 'aborted', usage: null, begun: true })
  })

  it('knows that a call that was refused had no answer begun', async () => {
    upstream.script({ status: 529 })
    expect(await failureOf(call({}, { onDelta: () => {} }))).toMatchObject({ kind: 'overloaded', begun: false })
  })

  it('has as many calls under way as it is given, and uses their connections again', async () => {
    for (let round = 0; round < 5; round++) {
      const gate = upstream.hold()
      const answers = Array.from({ length: 20 }, () => call())
      await gate.waiting(20)
      gate.release()
      await Promise.all(answers)
    }
    const connections = new Set(upstream.calls.map(({ connection }) => connection))
    expect(upstream.count()).toBe(100)
    // Not 20: undici has a connection back a moment after the answer.
    expect(connections.size).toBeLessThanOrEqual(40)
  })
})

describe.each(SUBJECTS.filter(one => ['openai', 'google', 'ollama'].includes(one.name)))(
  'vectors of $name',
  subject => {
    let upstream: Upstream
    let provider: Provider
    beforeEach(async () => {
      upstream = await startUpstream()
      provider = providerOf(configOf(subject, upstream.url, { embeds: { model: 'mine' } }))
    })
    afterEach(() => upstream.close())

    const TEXTS = ['one', 'two', 'Grüße, 世界']
    const embed = (request: Partial<EmbedRequest> = {}, context: Context = {}) =>
      provider.embedding!.call({ model: 'an-embedding', texts: TEXTS, ...request }, contextOf(context))

    it('come in the order of the texts, with model and usage, in one request', async () => {
      upstream.script({ usage: { inputTokens: 12 } })
      expect(await embed()).toEqual({
        vectors: TEXTS.map(text => vectorOf(text, 8)),
        model: 'an-embedding',
        usage: { inputTokens: 12, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 },
        limits: null,
      })
      expect(upstream.count()).toBe(1)
      expect(upstream.calls[0]).toMatchObject({ streaming: false, body: { model: 'an-embedding', input: TEXTS } })
      expect(upstream.calls[0]!.body).not.toHaveProperty('dimensions')
    })

    it('are as long as was asked for', async () => {
      const { vectors } = await embed({ dimensions: 3 })
      expect(vectors).toEqual(TEXTS.map(text => vectorOf(text, 3)))
      expect(upstream.calls[0]!.body).toMatchObject({ dimensions: 3 })
    })

    it('come without usage from who reports none', async () => {
      upstream.script({ usage: null })
      expect((await embed()).usage).toBeNull()
    })

    it('come as they are, however many and long: the kind judges', async () => {
      upstream.script({ vectors: [[1, 2], []] })
      expect((await embed()).vectors).toEqual([[1, 2], []])
    })

    it.each<[string, Script, Partial<CallFailure>]>([
      ['rate limit', { status: 429, headers: { 'retry-after': '7' } }, { kind: 'rate_limited', retryAfterMs: 7000 }],
      ['busy server', { status: 503 }, { kind: 'overloaded' }],
      ['wrong key', { status: 401 }, { kind: 'auth', scope: 'provider' }],
      ['unknown model', { status: 404 }, { kind: 'unknown_model', scope: 'provider' }],
      ['invalid request', { status: 400, message: 'too long' }, { kind: 'invalid_request', scope: 'task' }],
      ['connection closed before headers', { fault: 'cut' }, { kind: 'connection' }],
      ['connection cut in the middle', { fault: 'cut_midway' }, { kind: 'connection' }],
      ['an answer that ends too early', { fault: 'truncated' }, { kind: 'bad_response' }],
      ['garbage', { fault: 'garbage' }, { kind: 'bad_response' }],
      ['a web page', { fault: 'html' }, { kind: 'bad_response' }],
      ['an empty body', { fault: 'empty' }, { kind: 'bad_response' }],
      ['JSON of another shape', { fault: 'wrong_shape' }, { kind: 'bad_response' }],
      ['null', { body: 'null' }, { kind: 'bad_response' }],
      ['vectors of text', { vectors: [['a'], ['b'], ['c']] }, { kind: 'bad_response' }],
      ['vectors in base64, which nobody asked for', { vectors: ['AAAA', 'AAAA', 'AAAA'] }, { kind: 'bad_response' }],
      ['nothing in their place', { vectors: [null, null, null] }, { kind: 'bad_response' }],
      ['an error under HTTP 200', { fault: 'error_event' }, { kind: 'overloaded' }],
    ])('fail once and for the right reason: %s', async (_, script, expected) => {
      upstream.script(script)
      expect(await failureOf(embed())).toMatchObject(expected)
      expect(upstream.count()).toBe(1)
    })

    it.each(['hang', 'hang_midway'] as const)('end at the time limit: %s', async fault => {
      await connected(embed)
      upstream.default({ fault })
      expect(await failureOf(embed({}, { timeoutMs: 100 }))).toMatchObject({ kind: 'timeout' })
      if (upstream.count() > 1) await upstream.aborted(1)
    })

    it('stop at once when aborted', async () => {
      const gate = upstream.hold()
      const controller = new AbortController()
      const failure = failureOf(embed({}, { signal: controller.signal }))
      await gate.waiting()
      controller.abort()
      expect(await failure).toMatchObject({ kind: 'aborted' })
      await upstream.aborted(1)
      gate.release()
    })

    it('are of the configured model when none is named', async () => {
      expect(await provider.embedding!.defaultModel()).toBe('mine')
    })
  },
)

it('has every call wait as long as its own time limit says, for the headers and between the parts', async () => {
  const upstream = await startUpstream()
  onTestFinished(() => upstream.close())
  // Stands for the agent that fetch has, with limits of 300 s; undici rounds up to a second or so.
  const before = getGlobalDispatcher()
  const impatient = new Agent({ headersTimeout: 100, bodyTimeout: 100 })
  setGlobalDispatcher(impatient)
  try {
    upstream.rule('headers', { delayMs: 2500 })
    const gate = upstream.hold({ when: /parts/, midway: true })
    const ask = (content: string) =>
      Promise.all(
        SUBJECTS.flatMap(subject =>
          MODES.map(({ onDelta }) => {
            const request: CallRequest = { ...REQUEST, messages: [{ role: 'user', content }] }
            return providerOf(configOf(subject, upstream.url)).call(request, contextOf({ onDelta }))
          }),
        ),
      )
    const answers = await Promise.all([ask('parts'), ask('headers').finally(gate.release)])
    expect(answers.flat()).toHaveLength(4 * SUBJECTS.length)
  } finally {
    setGlobalDispatcher(before)
    await impatient.close()
  }
})

describe('what the providers do each in their own way', () => {
  let upstream: Upstream
  beforeEach(async () => {
    upstream = await startUpstream()
  })
  afterEach(() => upstream.close())

  const named = (name: string, more: Partial<ProviderConfig> = {}) => {
    const subject = SUBJECTS.find(row => row.name === name) as Subject
    return providerOf(configOf(subject, upstream.url, more))
  }
  const bodyOf = async (name: string, request: Partial<CallRequest>) => {
    await named(name).call({ ...REQUEST, ...request }, contextOf())
    return upstream.calls.at(-1)?.body ?? {}
  }

  it('limits the output under the name that the server knows', async () => {
    expect(await bodyOf('anthropic', {})).toMatchObject({ max_tokens: 100 })
    const openai = await bodyOf('openai', {})
    expect(openai).toMatchObject({ max_completion_tokens: 100 })
    expect(openai).not.toHaveProperty('max_tokens')
    expect(await bodyOf('deepseek', {})).toMatchObject({ max_tokens: 100 })
    expect(await bodyOf('google', {})).toMatchObject({ max_tokens: 100 })
    expect(await bodyOf('ollama', {})).toMatchObject({ options: { num_predict: 100 } })
  })

  it('sends the temperature only where it is taken', async () => {
    const temperature = 0
    expect(await bodyOf('anthropic', { temperature })).not.toHaveProperty('temperature')
    expect(await bodyOf('openai', { temperature, model: 'gpt-5.4-mini' })).not.toHaveProperty('temperature')
    expect(await bodyOf('openai', { temperature, model: 'gpt-4.1' })).toMatchObject({ temperature })
    expect(await bodyOf('deepseek', { temperature })).toMatchObject({ temperature })
    expect(await bodyOf('ollama', { temperature })).toMatchObject({ options: { temperature } })
  })

  it('asks for JSON of a schema', async () => {
    const openai = { type: 'json_schema', json_schema: { name: 'answer', schema: SCHEMA } }
    expect(await bodyOf('openai', { schema: SCHEMA })).toMatchObject({ response_format: openai })
    expect(await bodyOf('google', { schema: SCHEMA })).toMatchObject({ response_format: openai })
    expect(await bodyOf('ollama', { schema: SCHEMA })).toMatchObject({ format: SCHEMA })
  })

  it('puts the schema into the prompt for DeepSeek, which knows JSON but no schema', async () => {
    const body = await bodyOf('deepseek', { schema: SCHEMA, system: 'Be short' })
    expect(body.response_format).toEqual({ type: 'json_object' })
    const prompt = upstream.calls[0]?.prompt ?? ''
    expect(prompt).toMatch(/^Be short/)
    expect(prompt).toContain(JSON.stringify(SCHEMA))
  })

  it('keeps Anthropic to the subset of JSON Schema that it takes', async () => {
    const { output_config } = await bodyOf('anthropic', { schema: SCHEMA })
    const word = { type: 'string', description: '{maxLength: 9}' }
    expect(output_config).toEqual({ format: { type: 'json_schema', schema: { ...SCHEMA, properties: { word } } } })
  })

  it('puts a schema into the prompt that Anthropic’s subset cannot express', async () => {
    const schema = { type: 'object', properties: { anything: {} } }
    expect(await bodyOf('anthropic', { schema })).not.toHaveProperty('output_config')
    expect(upstream.calls[0]?.prompt).toContain(JSON.stringify(schema))
  })

  it('tells an empty account from a rate limit, which OpenAI both calls 429', async () => {
    upstream.script({ status: 429, code: 'insufficient_quota' })
    const failure = await failureOf(named('openai').call(REQUEST, contextOf()))
    expect(failure).toMatchObject({ kind: 'no_balance', scope: 'provider', status: 429 })
  })

  it.each([
    ['anthropic', 'overloaded_error', 'overloaded'],
    ['anthropic', 'rate_limit_error', 'rate_limited'],
    ['anthropic', 'api_error', 'server_error'],
    ['anthropic', 'invalid_request_error', 'invalid_request'],
    ['openai', 'rate_limit_exceeded', 'rate_limited'],
    ['openai', 'insufficient_quota', 'no_balance'],
    ['openai', 'server_error', 'server_error'],
    ['openai', '529', 'overloaded'],
  ])('classifies an error in the stream of %s: %s', async (name, code, kind) => {
    upstream.script({ fault: 'error_event', code, message: 'Sorry' })
    const context = contextOf({ onDelta: () => {} })
    expect((await failureOf(named(name).call(REQUEST, context))).kind).toBe(kind)
  })

  const streamed = (name: string, events: object[]) => {
    const lines = (event: object) =>
      `${'type' in event ? `event: ${event.type}\n` : ''}data: ${JSON.stringify(event)}\n\n`
    upstream.script({ body: events.map(lines).join('') })
    return named(name).call(REQUEST, contextOf({ onDelta: () => {} }))
  }
  const error = { type: 'server_error', message: 'Sorry' }
  const chunk = (usage: object | null, choice: object | null = { delta: { content: 'Hi' }, finish_reason: null }) => ({
    model: 'm',
    choices: choice ? [choice] : [],
    usage,
  })
  const start = { type: 'message_start', message: { model: 'm', usage: { input_tokens: 9, output_tokens: 1 } } }
  const counted = { prompt_tokens: 9, completion_tokens: 2 }

  it('does not take for the whole what Google, in every chunk, counts so far', async () => {
    const events = [chunk({ ...counted, completion_tokens: 1 }), chunk(counted), { error }]
    const failure = await failureOf(streamed('google', events))
    expect(failure).toMatchObject({ kind: 'server_error', begun: true, usage: null })
  })

  it('charges a stream that fails after the provider counted the whole for just that', async () => {
    const done = { delta: {}, finish_reason: 'stop' }
    const chunks = [chunk(null), chunk(null, done), chunk(counted, null), { error }]
    expect((await failureOf(streamed('openai', chunks))).usage).toMatchObject({ inputTokens: 9, outputTokens: 2 })
    const end = { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 25 } }
    const failure = await failureOf(streamed('anthropic', [start, end]))
    expect(failure).toMatchObject({ kind: 'connection', begun: true, usage: { inputTokens: 9, outputTokens: 25 } })
  })

  it('does not take Anthropic’s first count for the last one, should that be missing', async () => {
    const events = [
      start,
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi' } },
      { type: 'message_delta', delta: { stop_reason: 'end_turn' } },
      { type: 'message_stop' },
    ]
    expect(await streamed('anthropic', events)).toMatchObject({ text: 'Hi', usage: null })
  })

  it.each(['openai', 'anthropic'])('knows that %s had not begun to answer when an error came first', async name => {
    expect(await failureOf(streamed(name, [{ type: 'error', error }]))).toMatchObject({
      kind: 'server_error',
      begun: false,
      usage: null,
    })
  })

  const completion = (usage: Record<string, number>, finish_reason = 'stop') => ({
    model: 'a-model',
    choices: [{ index: 0, finish_reason, message: { role: 'assistant', content: 'Hi' } }],
    usage,
  })

  it('reads DeepSeek’s cache hits', async () => {
    const usage = { prompt_tokens: 90, completion_tokens: 3, prompt_cache_hit_tokens: 64, prompt_cache_miss_tokens: 26 }
    upstream.script({ body: completion(usage) })
    const answer = await named('deepseek').call(REQUEST, contextOf())
    expect(answer.usage).toEqual({ inputTokens: 90, outputTokens: 3, cacheReadTokens: 64, cacheWriteTokens: 0 })
  })

  it('charges Gemini’s thoughts, which only the total counts', async () => {
    upstream.script({ body: completion({ prompt_tokens: 20, completion_tokens: 198, total_tokens: 623 }) })
    const answer = await named('google').call(REQUEST, contextOf())
    expect(answer.usage).toMatchObject({ inputTokens: 20, outputTokens: 603 })
  })

  it('takes DeepSeek’s lack of resources in mid-answer for an overload', async () => {
    const usage = { prompt_tokens: 9, completion_tokens: 1 }
    upstream.script({ body: completion(usage, 'insufficient_system_resource') })
    const failure = await failureOf(named('deepseek').call(REQUEST, contextOf()))
    expect(failure).toMatchObject({ kind: 'overloaded', begun: true, usage: { inputTokens: 9 } })
  })

  it('takes a count that Ollama leaves out for 0', async () => {
    upstream.script({
      body: '{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true,"eval_count":4}\n',
    })
    const { usage } = await named('ollama').call(REQUEST, contextOf())
    expect(usage).toMatchObject({ inputTokens: 0, outputTokens: 4 })
  })

  it('has the configured model as the default one', async () => {
    for (const { name } of SUBJECTS) expect(await named(name, { model: 'mine' }).defaultModel()).toBe('mine')
  })

  it('finds the first model of an Ollama that can chat, and remembers it', async () => {
    upstream.models(['nomic-bert', 'llama3.2'])
    const ollama = named('ollama', { explicit: false })
    expect(await ollama.defaultModel()).toBe('llama3.2')
    upstream.models(['other'])
    expect(await ollama.defaultModel()).toBe('llama3.2')
  })

  it('makes vectors only where the provider has models for them', () => {
    for (const { name } of SUBJECTS) expect(named(name).embedding === null, name).toBe(name !== 'ollama')
    expect(named('openai', { embeds: { model: null } }).embedding).not.toBeNull()
  })

  it('takes the order that OpenAI’s format says, not that in which vectors come', async () => {
    const of = (...indexes: unknown[]) =>
      upstream.script({ body: { data: indexes.map((index, n) => ({ index, embedding: [n] })), model: 'm' } })
    const embed = () =>
      named('openai', { embeds: { model: null } }).embedding!.call({ model: 'm', texts: ['a', 'b'] }, contextOf())
    of(1, 0)
    expect((await embed()).vectors).toEqual([[1], [0]])
    of(undefined, undefined)
    expect((await embed()).vectors).toEqual([[0], [1]])
    for (const [a, b] of [
      [0, 0],
      [0, 2],
      [-1, 0],
      ['x', 0],
    ]) {
      of(a, b)
      expect((await failureOf(embed())).kind).toBe('bad_response')
    }
  })

  it('has a long text refused by Ollama rather than cut off in silence', async () => {
    await named('ollama').embedding!.call({ model: 'm', texts: ['a'] }, contextOf())
    expect(upstream.calls[0]?.body).toMatchObject({ truncate: false })
  })

  it('finds the first model of an Ollama for either use', async () => {
    upstream.models(['mxbai-embed-large', 'llama3.2', 'nomic-bert'])
    const ollama = named('ollama', { explicit: false })
    expect(await ollama.defaultModel()).toBe('llama3.2')
    expect(await ollama.embedding!.defaultModel()).toBe('mxbai-embed-large')
    upstream.models(['llama3.2'])
    expect(await named('ollama').embedding!.defaultModel()).toBeNull()
  })

  it('does without an Ollama that is not there, even if its model is configured', async () => {
    await upstream.close()
    expect(await named('ollama').defaultModel()).toBeNull()
    expect(await named('ollama', { explicit: false, model: 'mine' }).defaultModel()).toBeNull()
    upstream = await startUpstream()
  })
})

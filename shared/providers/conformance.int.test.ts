import { setImmediate } from 'node:timers/promises'
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { ProviderConfig } from '#shared/config.ts'
import { type StreamEvent, textOfParts } from '#shared/requests/answer.ts'
import { type Script, startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { vectorOf } from '#shared/testing/upstream-wires/index.ts'
import {
  type CallAnswer,
  type CallContext,
  CallFailure,
  type CallRequest,
  type EmbedRequest,
  type Provider,
} from './define.ts'
import { createProviders } from './index.ts'

/** Requirements of every adapter, tested through the provider's own SDK and over a real connection. */

type Subject = { name: string; adapter: ProviderConfig['adapter']; path: string }

const SUBJECTS: Subject[] = [
  { name: 'anthropic', adapter: 'anthropic', path: '' },
  { name: 'openai', adapter: 'openai', path: '/v1' },
  { name: 'deepseek', adapter: 'openai', path: '' },
  { name: 'google', adapter: 'openai', path: '/v1beta/openai/' },
  { name: 'ollama', adapter: 'ollama', path: '' },
]
const MODES = [
  { mode: 'whole', onEvent: undefined },
  { mode: 'streaming', onEvent: () => {} },
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
const textOf = (answer: CallAnswer): string => textOfParts(answer.parts)
const deltaOf = (event: StreamEvent): string => ('delta' in event ? event.delta : '')

type Context = Omit<Partial<CallContext>, 'onEvent'> & { onEvent?: CallContext['onEvent'] | undefined }
const contextOf = ({ onEvent, ...rest }: Context = {}): CallContext => {
  return { signal: new AbortController().signal, timeoutMs: 20_000, ...rest, ...(onEvent ? { onEvent } : {}) }
}
async function failureOf(call: Promise<unknown>): Promise<CallFailure> {
  const outcome = await call.then(
    answer => new Error(`It succeeded: ${JSON.stringify(answer)}`),
    (error: unknown) => error,
  )
  if (!(outcome instanceof CallFailure)) throw outcome
  return outcome
}

/** Opens a connection, so that the next call reaches the upstream before its timeout. */
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

  describe.each(MODES)('$mode', ({ mode, onEvent }) => {
    const streaming = mode === 'streaming'
    const run = (request: Partial<CallRequest> = {}) => call(request, { onEvent })

    it('returns text, model, finish reason and usage, in one request', async () => {
      upstream.script({ text: 'Hello you', usage: { inputTokens: 30, outputTokens: 7 } })
      expect(await run()).toEqual({
        parts: [{ type: 'text', text: 'Hello you' }],
        finishReason: 'stop',
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
      expect(usage?.cacheWriteTokens).toBe(streamsOnly ? 0 : 10)
    })

    it('counts reasoning tokens if the provider reports them', async () => {
      upstream.script({ usage: { inputTokens: 9, outputTokens: 70, reasoningTokens: 60 } }, {})
      const { usage } = await run()
      expect(usage).toMatchObject({ outputTokens: 70, ...(!streamsOnly && { reasoningTokens: 60 }) })
      expect((await run()).usage).not.toHaveProperty('reasoningTokens')
    })

    it('returns null if the provider reports no usage', async () => {
      upstream.script({ usage: null })
      expect((await run()).usage).toBeNull()
    })

    it('recognizes an answer that was cut off', async () => {
      upstream.script({ stop: 'max_tokens', text: 'Half an' })
      expect(await run()).toMatchObject({ finishReason: 'length', parts: [{ text: 'Half an' }] })
    })

    it('accepts an answer without text if it was cut off', async () => {
      upstream.script({ stop: 'max_tokens', text: '' })
      expect(await run()).toMatchObject({ finishReason: 'length', parts: [] })
    })

    it.skipIf(streamsOnly)('recognizes a refusal', async () => {
      upstream.script({ stop: 'refusal', text: 'I would rather not.' })
      expect(await run()).toMatchObject({ finishReason: 'refusal', parts: [{ text: 'I would rather not.' }] })
    })

    it('refuses an answer without text, and still charges it', async () => {
      upstream.script({ text: '', usage: { inputTokens: 8, outputTokens: 0 } })
      const failure = await failureOf(run())
      expect(failure).toMatchObject({ kind: 'bad_response', usage: { inputTokens: 8 } })
    })

    it('keeps characters that are split between chunks', async () => {
      const text = 'Grüße, 世界 👩‍👩‍👧‍👦!'
      upstream.script({ text, chunks: [text], sliceBytes: 1 })
      expect(textOf(await run())).toBe(text)
    })

    it('survives U+0000 and lone surrogates', async () => {
      const text = 'a\0b\ud83dc'
      upstream.script({ text, chunks: [text] })
      expect(textOf(await run())).toBe(text)
    })

    it('keeps 50 concurrent calls separate', async () => {
      const gate = upstream.hold()
      const ids = Array.from({ length: 50 }, (_, index) => `call ${index}.`)
      for (const id of ids) upstream.rule(`^${id}$`, { text: `Answer to ${id}` })
      const answers = ids.map(content => run({ messages: [{ role: 'user', content }] }))
      await gate.waiting(50)
      gate.release()
      expect((await Promise.all(answers)).map(textOf)).toEqual(ids.map(id => `Answer to ${id}`))
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
    ])('fails once with the right kind: %s', async (_, script, expected) => {
      upstream.script(script)
      expect(await failureOf(run())).toMatchObject(expected)
      expect(upstream.count()).toBe(1)
    })

    it('fails if the answer ends cleanly but too early', async () => {
      upstream.script({ fault: 'truncated' })
      const { kind } = await failureOf(run())
      expect(kind).toBe(streaming || streamsOnly ? 'connection' : 'bad_response')
    })

    it('fails if no server listens', async () => {
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

    it('reads the wait from an error body that is an array', async () => {
      const details = [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '34s' }]
      upstream.script({ status: 429, body: [{ error: { code: 429, status: 'RESOURCE_EXHAUSTED', details } }] })
      expect(await failureOf(run())).toMatchObject({ kind: 'rate_limited', retryAfterMs: 34_000 })
    })

    it.each(['hang', 'hang_midway', 'dribble'] as const)('ends a call at its timeout: %s', async fault => {
      await connected(call)
      upstream.default({ fault })
      const failure = await failureOf(call({}, { onEvent, timeoutMs: 100 }))
      expect(failure).toMatchObject({
        kind: 'timeout',
        scope: 'none',
        message: 'No complete answer within 100 ms',
      })
      if (upstream.count() > 1) await upstream.aborted(1)
    })

    it.each(['before the headers', 'in the middle'])('stops at once if aborted %s', async when => {
      const gate = upstream.hold({ midway: when === 'in the middle' })
      const controller = new AbortController()
      const failure = failureOf(call({}, { onEvent, signal: controller.signal }))
      await gate.waiting()
      controller.abort()
      expect(await failure).toMatchObject({ kind: 'aborted', scope: 'none' })
      await upstream.aborted(1)
      gate.release()
    })

    it('makes no request for an aborted call, or without time left', async () => {
      expect(await failureOf(call({}, { onEvent, signal: AbortSignal.abort() }))).toMatchObject({ kind: 'aborted' })
      expect(await failureOf(call({}, { onEvent, timeoutMs: 0 }))).toMatchObject({ kind: 'timeout' })
      expect(upstream.count()).toBe(0)
    })

    it('leaves no listener on the caller’s signal', async () => {
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
      await call({}, { onEvent, signal })
      expect(listeners.size).toBe(0)
    })
  })

  it('streams the text in pieces that add up to the answer', async () => {
    upstream.script({ text: 'one two three', chunks: ['one ', 'two ', 'three'] })
    const pieces: string[] = []
    const text = textOf(await call({}, { onEvent: event => pieces.push(deltaOf(event)) }))
    expect(pieces).toEqual(['one ', 'two ', 'three'])
    expect(text).toBe('one two three')
  })

  it('emits text before the answer is complete', async () => {
    const gate = upstream.hold({ midway: true })
    upstream.script({ text: 'one two', chunks: ['one ', 'two'] })
    const { promise: first, resolve } = Promise.withResolvers<string>()
    const answer = call({}, { onEvent: event => resolve(deltaOf(event)) })
    expect(await first).toBe('one ')
    gate.release()
    expect(textOf(await answer)).toBe('one two')
  })

  it('emits no text after an abort', async () => {
    const controller = new AbortController()
    const pieces: string[] = []
    upstream.script({ text: 'one two three', chunks: ['one ', 'two ', 'three'] })
    const onEvent = (event: StreamEvent) => {
      pieces.push(deltaOf(event))
      controller.abort()
    }
    expect((await failureOf(call({}, { onEvent, signal: controller.signal }))).kind).toBe('aborted')
    await upstream.arrived(1)
    expect(pieces).toEqual(['one '])
  })

  it('does not stream without a reader, unless the headers would come only with the answer', async () => {
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
        call({}, { onEvent: () => {}, timeoutMs: fault === 'hang_midway' ? 2000 : 20_000 }),
      )
      expect(failure).toMatchObject({ usage: null, begun: true, sent: true })
    },
  )

  it('reports no usage for a stream that is aborted midway', async () => {
    const controller = new AbortController()
    upstream.script({ fault: 'dribble', usage: { inputTokens: 40, outputTokens: 9 } })
    const failure = failureOf(call({}, { onEvent: () => controller.abort(), signal: controller.signal }))
    expect(await failure).toMatchObject({ kind: 'aborted', usage: null, begun: true })
  })

  it('marks a refused call as not begun', async () => {
    upstream.script({ status: 529 })
    expect(await failureOf(call({}, { onEvent: () => {} }))).toMatchObject({ kind: 'overloaded', begun: false })
  })

  it('runs all given calls concurrently, and reuses their connections', async () => {
    for (let round = 0; round < 5; round++) {
      const gate = upstream.hold()
      const answers = Array.from({ length: 20 }, () => call())
      await gate.waiting(20)
      gate.release()
      await Promise.all(answers)
    }
    const connections = new Set(upstream.calls.map(({ connection }) => connection))
    expect(upstream.count()).toBe(100)
    // Not 20, because undici releases a connection shortly after the answer.
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

    it('are in the order of the texts, with model and usage, in one request', async () => {
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

    it('have the requested length', async () => {
      const { vectors } = await embed({ dimensions: 3 })
      expect(vectors).toEqual(TEXTS.map(text => vectorOf(text, 3)))
      expect(upstream.calls[0]!.body).toMatchObject({ dimensions: 3 })
    })

    it('have no usage if the provider reports none', async () => {
      upstream.script({ usage: null })
      expect((await embed()).usage).toBeNull()
    })

    it('are returned unchecked in any number and length, because the kind checks them', async () => {
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
      ['vectors in base64, which was not requested', { vectors: ['AAAA', 'AAAA', 'AAAA'] }, { kind: 'bad_response' }],
      ['nothing in their place', { vectors: [null, null, null] }, { kind: 'bad_response' }],
      ['an error under HTTP 200', { fault: 'error_event' }, { kind: 'overloaded' }],
    ])('fail once with the right kind: %s', async (_, script, expected) => {
      upstream.script(script)
      expect(await failureOf(embed())).toMatchObject(expected)
      expect(upstream.count()).toBe(1)
    })

    it.each(['hang', 'hang_midway'] as const)('end at the timeout: %s', async fault => {
      await connected(embed)
      upstream.default({ fault })
      expect(await failureOf(embed({}, { timeoutMs: 100 }))).toMatchObject({ kind: 'timeout' })
      if (upstream.count() > 1) await upstream.aborted(1)
    })

    it('stop at once if aborted', async () => {
      const gate = upstream.hold()
      const controller = new AbortController()
      const failure = failureOf(embed({}, { signal: controller.signal }))
      await gate.waiting()
      controller.abort()
      expect(await failure).toMatchObject({ kind: 'aborted' })
      await upstream.aborted(1)
      gate.release()
    })

    it('use the configured model if none is named', async () => {
      expect(await provider.embedding!.defaultModel()).toBe('mine')
    })
  },
)

it('every call waits for headers and chunks up to its own timeout', async () => {
  const upstream = await startUpstream()
  onTestFinished(() => upstream.close())
  // Replaces the agent of fetch, whose timeouts are 300 s; undici rounds timeouts up to about a second.
  const before = getGlobalDispatcher()
  const impatient = new Agent({ headersTimeout: 100, bodyTimeout: 100 })
  setGlobalDispatcher(impatient)
  try {
    upstream.rule('headers', { delayMs: 2500 })
    const gate = upstream.hold({ when: /parts/, midway: true })
    const ask = (content: string) =>
      Promise.all(
        SUBJECTS.flatMap(subject =>
          MODES.map(({ onEvent }) => {
            const request: CallRequest = { ...REQUEST, messages: [{ role: 'user', content }] }
            return providerOf(configOf(subject, upstream.url)).call(request, contextOf({ onEvent }))
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

describe('differences between providers', () => {
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

  it('limits the output with the parameter that the server knows', async () => {
    expect(await bodyOf('anthropic', {})).toMatchObject({ max_tokens: 100 })
    const openai = await bodyOf('openai', {})
    expect(openai).toMatchObject({ max_completion_tokens: 100 })
    expect(openai).not.toHaveProperty('max_tokens')
    expect(await bodyOf('deepseek', {})).toMatchObject({ max_tokens: 100 })
    expect(await bodyOf('google', {})).toMatchObject({ max_tokens: 100 })
    expect(await bodyOf('ollama', {})).toMatchObject({ options: { num_predict: 100 } })
  })

  it('sends the temperature only where it is accepted', async () => {
    const temperature = 0
    expect(await bodyOf('anthropic', { sampling: { temperature } })).not.toHaveProperty('temperature')
    expect(await bodyOf('openai', { sampling: { temperature }, model: 'gpt-5.4-mini' })).not.toHaveProperty(
      'temperature',
    )
    expect(await bodyOf('openai', { sampling: { temperature }, model: 'gpt-4.1' })).toMatchObject({ temperature })
    expect(await bodyOf('deepseek', { sampling: { temperature } })).toMatchObject({ temperature })
    expect(await bodyOf('ollama', { sampling: { temperature } })).toMatchObject({ options: { temperature } })
  })

  it('requests JSON that matches a schema', async () => {
    const openai = { type: 'json_schema', json_schema: { name: 'answer', schema: SCHEMA } }
    expect(await bodyOf('openai', { schema: SCHEMA })).toMatchObject({ response_format: openai })
    expect(await bodyOf('google', { schema: SCHEMA })).toMatchObject({ response_format: openai })
    expect(await bodyOf('ollama', { schema: SCHEMA })).toMatchObject({ format: SCHEMA })
  })

  it('puts the schema into the prompt for DeepSeek, whose JSON mode has no schema', async () => {
    const body = await bodyOf('deepseek', { schema: SCHEMA, system: 'Be short' })
    expect(body.response_format).toEqual({ type: 'json_object' })
    const prompt = upstream.calls[0]?.prompt ?? ''
    expect(prompt).toMatch(/^Be short/)
    expect(prompt).toContain(JSON.stringify(SCHEMA))
  })

  it('sends Anthropic its subset of JSON Schema', async () => {
    const { output_config } = await bodyOf('anthropic', { schema: SCHEMA })
    const word = { type: 'string', description: '{maxLength: 9}' }
    expect(output_config).toEqual({ format: { type: 'json_schema', schema: { ...SCHEMA, properties: { word } } } })
  })

  it.each([
    ['JSON mode', { type: 'object' }, { short: 'yes' }],
    [
      'free keys',
      { type: 'object', properties: { counts: { type: 'object', additionalProperties: { type: 'integer' } } } },
      { counts: { tea: 2 } },
    ],
    [
      'free keys in a closed object',
      {
        type: 'object',
        properties: { counts: { type: 'object', additionalProperties: { type: 'integer' } } },
        required: ['counts'],
        additionalProperties: false,
      },
      { counts: { tea: 2 } },
    ],
    [
      'definitions of draft 7',
      {
        $schema: 'http://json-schema.org/draft-07/schema#',
        type: 'object',
        properties: { a: { $ref: '#/definitions/A' } },
        additionalProperties: false,
        definitions: { A: { type: 'object', properties: { b: { type: 'string' } }, additionalProperties: false } },
      },
      { a: { b: 'x' } },
    ],
  ])('does not restrict the answer of Anthropic: %s', async (_, schema, value) => {
    upstream.script({ text: JSON.stringify(value) })
    const answer = await providerOf(configOf(SUBJECTS[0]!, upstream.url)).call({ ...REQUEST, schema }, contextOf())
    expect(JSON.parse(textOf(answer))).toEqual(value)
  })

  it('puts a schema that Anthropic’s subset cannot express into the prompt', async () => {
    const schema = { type: 'object', properties: { anything: {} } }
    expect(await bodyOf('anthropic', { schema })).not.toHaveProperty('output_config')
    expect(upstream.calls[0]?.prompt).toContain(JSON.stringify(schema))
  })

  it('distinguishes an empty account from a rate limit, both 429 at OpenAI', async () => {
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
    const context = contextOf({ onEvent: () => {} })
    expect((await failureOf(named(name).call(REQUEST, context))).kind).toBe(kind)
  })

  const streamed = (name: string, events: object[]) => {
    const lines = (event: object) =>
      `${'type' in event ? `event: ${event.type}\n` : ''}data: ${JSON.stringify(event)}\n\n`
    upstream.script({ body: events.map(lines).join('') })
    return named(name).call(REQUEST, contextOf({ onEvent: () => {} }))
  }
  const error = { type: 'server_error', message: 'Sorry' }
  const chunk = (usage: object | null, choice: object | null = { delta: { content: 'Hi' }, finish_reason: null }) => ({
    model: 'm',
    choices: choice ? [choice] : [],
    usage,
  })
  const start = { type: 'message_start', message: { model: 'm', usage: { input_tokens: 9, output_tokens: 1 } } }
  const counted = { prompt_tokens: 9, completion_tokens: 2 }

  it('does not treat Google’s intermediate counts as final', async () => {
    const events = [chunk({ ...counted, completion_tokens: 1 }), chunk(counted), { error }]
    const failure = await failureOf(streamed('google', events))
    expect(failure).toMatchObject({ kind: 'server_error', begun: true, usage: null })
  })

  it('charges the final count if a stream fails after it', async () => {
    const done = { delta: {}, finish_reason: 'stop' }
    const chunks = [chunk(null), chunk(null, done), chunk(counted, null), { error }]
    expect((await failureOf(streamed('openai', chunks))).usage).toMatchObject({ inputTokens: 9, outputTokens: 2 })
    const end = { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 25 } }
    const failure = await failureOf(streamed('anthropic', [start, end]))
    expect(failure).toMatchObject({ kind: 'connection', begun: true, usage: { inputTokens: 9, outputTokens: 25 } })
  })

  it('does not treat Anthropic’s first count as final if the last one is missing', async () => {
    const events = [
      start,
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi' } },
      { type: 'message_delta', delta: { stop_reason: 'end_turn' } },
      { type: 'message_stop' },
    ]
    expect(await streamed('anthropic', events)).toMatchObject({ parts: [{ text: 'Hi' }], usage: null })
  })

  it.each([
    ['openai', {}],
    ['openai', { prompt_tokens: 'many', completion_tokens: -5 }],
    ['openai', { prompt_tokens: 20 }],
    ['google', { prompt_tokens: null, completion_tokens: null }],
  ])('an incomplete or malformed usage of %s, %j, is unknown and not free', async (name, usage) => {
    const done = { delta: { content: 'Hi' }, finish_reason: 'stop' }
    expect(await streamed(name, [chunk(usage, done), chunk(usage, null)])).toMatchObject({
      parts: [{ text: 'Hi' }],
      usage: null,
    })
  })

  it.each(['openai', 'anthropic'])('marks an answer of %s as not begun if an error comes first', async name => {
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

  it('charges Gemini’s reasoning, which only the total includes', async () => {
    upstream.script({ body: completion({ prompt_tokens: 20, completion_tokens: 198, total_tokens: 623 }) })
    const answer = await named('google').call(REQUEST, contextOf())
    expect(answer.usage).toMatchObject({ inputTokens: 20, outputTokens: 603 })
  })

  it('treats DeepSeek’s lack of resources during an answer as overload', async () => {
    const usage = { prompt_tokens: 9, completion_tokens: 1 }
    upstream.script({ body: completion(usage, 'insufficient_system_resource') })
    const failure = await failureOf(named('deepseek').call(REQUEST, contextOf()))
    expect(failure).toMatchObject({ kind: 'overloaded', begun: true, usage: { inputTokens: 9 } })
  })

  it('reads a count that Ollama omits as 0', async () => {
    upstream.script({
      body: '{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true,"eval_count":4}\n',
    })
    const { usage } = await named('ollama').call(REQUEST, contextOf())
    expect(usage).toMatchObject({ inputTokens: 0, outputTokens: 4 })
  })

  it('uses the configured model as default', async () => {
    for (const { name } of SUBJECTS) expect(await named(name, { model: 'mine' }).defaultModel()).toBe('mine')
  })

  it('finds the first model of an Ollama that can chat, and remembers it', async () => {
    upstream.models(['nomic-bert', 'llama3.2'])
    const ollama = named('ollama', { explicit: false })
    expect(await ollama.defaultModel()).toBe('llama3.2')
    upstream.models(['other'])
    expect(await ollama.defaultModel()).toBe('llama3.2')
  })

  it('offers embeddings only for providers with embedding models', () => {
    for (const { name } of SUBJECTS) expect(named(name).embedding === null, name).toBe(name !== 'ollama')
    expect(named('openai', { embeds: { model: null } }).embedding).not.toBeNull()
  })

  it('orders vectors by OpenAI’s index, not by their position', async () => {
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

  it('has Ollama refuse a long text instead of cutting it silently', async () => {
    await named('ollama').embedding!.call({ model: 'm', texts: ['a'] }, contextOf())
    expect(upstream.calls[0]?.body).toMatchObject({ truncate: false })
  })

  it('finds the first model of an Ollama for each operation', async () => {
    upstream.models(['mxbai-embed-large', 'llama3.2', 'nomic-bert'])
    const ollama = named('ollama', { explicit: false })
    expect(await ollama.defaultModel()).toBe('llama3.2')
    expect(await ollama.embedding!.defaultModel()).toBe('mxbai-embed-large')
    upstream.models(['llama3.2'])
    expect(await named('ollama').embedding!.defaultModel()).toBeNull()
  })

  it('ignores an Ollama that does not run, even if its model is configured', async () => {
    await upstream.close()
    expect(await named('ollama').defaultModel()).toBeNull()
    expect(await named('ollama', { explicit: false, model: 'mine' }).defaultModel()).toBeNull()
    upstream = await startUpstream()
  })
})

import { createHash } from 'node:crypto'

/** The provider's side of the three wire formats. See `upstream.ts`. */

export type WireName = 'anthropic' | 'openai' | 'ollama'
export type Stop = 'end' | 'max_tokens' | 'refusal'

export type WireAnswer = {
  text: string
  /** One per text of the input, for an embeddings call. */
  vectors: unknown[]
  /** The text in chunks, for a stream. */
  chunks: string[]
  stop: Stop
  /** `inputTokens` includes cached tokens; null: no usage is reported. */
  usage: {
    inputTokens: number
    outputTokens: number
    cacheReadTokens: number
    cacheWriteTokens: number
    reasoningTokens?: number
  } | null
  model: string
  /** OpenAI's `stream_options.include_usage`; without it a stream reports no usage. */
  usageInStream: boolean
}

export type Wire = {
  name: WireName
  streamType: string
  streams(body: Record<string, unknown>): boolean
  whole(answer: WireAnswer): unknown
  /** A stream in three parts: before the text, one piece per chunk, after the text. */
  head(answer: WireAnswer): string[]
  piece(chunk: string, answer: WireAnswer): string
  tail(answer: WireAnswer): string[]
  /** Body of an HTTP error. */
  error(status: number, message: string, code: string | undefined): unknown
  /** An error in the middle of a stream, after status 200. */
  errorEvent(message: string, code: string | undefined): string
  /** JSON of another shape, as a body and as a piece of a stream. */
  wrongShape: unknown
  wrongPiece: string
}

type Content = string | { text?: string }[]
const textOf = (content: Content | undefined) =>
  typeof content === 'string' ? content : (content ?? []).map(block => block.text ?? '').join('')

/** All text of the request, system prompt first. */
export function sentText(body: Record<string, unknown>): string {
  const messages = (body.messages ?? []) as { content?: Content }[]
  const inputs = [body.input ?? []].flat() as string[]
  return [textOf(body.system as Content), ...inputs, ...messages.map(message => textOf(message.content))]
    .filter(Boolean)
    .join('\n')
}

const sse = (data: unknown, event?: string) => `${event ? `event: ${event}\n` : ''}data: ${JSON.stringify(data)}\n\n`
const named = (data: { type: string; [field: string]: unknown }) => sse(data, data.type)

/* Anthropic */

const ANTHROPIC_STOPS = { end: 'end_turn', max_tokens: 'max_tokens', refusal: 'refusal' }
const ANTHROPIC_ERRORS: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
}
const anthropicUsage = ({ usage }: WireAnswer) =>
  usage && {
    input_tokens: usage.inputTokens - usage.cacheReadTokens - usage.cacheWriteTokens,
    cache_creation_input_tokens: usage.cacheWriteTokens,
    cache_read_input_tokens: usage.cacheReadTokens,
    output_tokens: usage.outputTokens,
    ...(usage.reasoningTokens !== undefined && {
      output_tokens_details: { thinking_tokens: usage.reasoningTokens },
    }),
  }
const anthropicMessage = (answer: WireAnswer) => ({
  id: 'msg_upstream',
  type: 'message',
  role: 'assistant',
  model: answer.model,
  content: answer.text ? [{ type: 'text', text: answer.text }] : [],
  stop_reason: ANTHROPIC_STOPS[answer.stop],
  stop_sequence: null,
  ...(answer.usage ? { usage: anthropicUsage(answer) } : {}),
})
const anthropicError = (type: string, message: string) => ({ type: 'error', error: { type, message } })

const anthropic: Wire = {
  name: 'anthropic',
  streamType: 'text/event-stream',
  streams: body => body.stream === true,
  whole: anthropicMessage,
  head: answer => {
    const message = { ...anthropicMessage(answer), content: [], stop_reason: null }
    const usage = answer.usage ? { usage: { ...anthropicUsage(answer), output_tokens: 1 } } : {}
    return [
      named({ type: 'message_start', message: { ...message, ...usage } }),
      named({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
      named({ type: 'ping' }),
    ]
  },
  piece: text => named({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }),
  tail: answer => [
    named({ type: 'content_block_stop', index: 0 }),
    named({
      type: 'message_delta',
      delta: { stop_reason: ANTHROPIC_STOPS[answer.stop], stop_sequence: null },
      ...(answer.usage ? { usage: { output_tokens: answer.usage.outputTokens, input_tokens: null } } : {}),
    }),
    named({ type: 'message_stop' }),
  ],
  error: (status, message, code) => anthropicError(code ?? ANTHROPIC_ERRORS[status] ?? 'api_error', message),
  errorEvent: (message, code) => named(anthropicError(code ?? 'overloaded_error', message)),
  wrongShape: { type: 'message', content: 'no list' },
  wrongPiece: named({ type: 'message_start' }),
}

/* OpenAI and compatible servers */

const OPENAI_STOPS = { end: 'stop', max_tokens: 'length', refusal: 'stop' }
const openaiUsage = ({ usage }: WireAnswer) =>
  usage && {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cacheReadTokens, cache_write_tokens: usage.cacheWriteTokens },
    ...(usage.reasoningTokens !== undefined && {
      completion_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    }),
  }
const openaiChunk = (answer: WireAnswer, choices: unknown[], more = {}) =>
  sse({ id: 'chatcmpl-upstream', object: 'chat.completion.chunk', created: 0, model: answer.model, choices, ...more })
const openaiText = (text: string, stop: Stop) =>
  stop === 'refusal' ? { content: null, refusal: text || 'No.' } : { content: text, refusal: null }

const openai: Wire = {
  name: 'openai',
  streamType: 'text/event-stream',
  streams: body => body.stream === true,
  whole: answer => ({
    id: 'chatcmpl-upstream',
    object: 'chat.completion',
    created: 0,
    model: answer.model,
    choices: [
      {
        index: 0,
        finish_reason: OPENAI_STOPS[answer.stop],
        message: { role: 'assistant', ...openaiText(answer.text, answer.stop) },
      },
    ],
    ...(answer.usage ? { usage: openaiUsage(answer) } : {}),
  }),
  head: answer => [openaiChunk(answer, [{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }])],
  piece: (text, answer) =>
    openaiChunk(answer, [{ index: 0, delta: openaiText(text, answer.stop), finish_reason: null }]),
  tail: answer => [
    openaiChunk(answer, [{ index: 0, delta: {}, finish_reason: OPENAI_STOPS[answer.stop] }]),
    ...(answer.usage && answer.usageInStream ? [openaiChunk(answer, [], { usage: openaiUsage(answer) })] : []),
    'data: [DONE]\n\n',
  ],
  error: (_status, message, code) => ({
    error: { message, type: code ?? 'upstream_error', param: null, code: code ?? null },
  }),
  errorEvent: (message, code) => sse({ error: { message, type: 'server_error', code: code ?? 'server_error' } }),
  wrongShape: { object: 'chat.completion', choices: [] },
  wrongPiece: sse({ object: 'chat.completion.chunk', choices: 'none' }),
}

/* Ollama */

const ollamaPart = (answer: WireAnswer, content: string, more = {}) => ({
  model: answer.model,
  created_at: '2026-01-01T00:00:00Z',
  message: { role: 'assistant', content },
  done: false,
  ...more,
})
const ollamaEnd = ({ usage, stop }: WireAnswer) => ({
  done: true,
  done_reason: stop === 'max_tokens' ? 'length' : 'stop',
  total_duration: 1,
  ...(usage ? { prompt_eval_count: usage.inputTokens, eval_count: usage.outputTokens } : {}),
})

const ollama: Wire = {
  name: 'ollama',
  streamType: 'application/x-ndjson',
  streams: body => body.stream !== false,
  whole: answer => ollamaPart(answer, answer.text, ollamaEnd(answer)),
  head: () => [],
  piece: (text, answer) => `${JSON.stringify(ollamaPart(answer, text))}\n`,
  tail: answer => [`${JSON.stringify(ollamaPart(answer, '', ollamaEnd(answer)))}\n`],
  error: (_status, message) => ({ error: message }),
  errorEvent: message => `${JSON.stringify({ error: message })}\n`,
  wrongShape: { version: '0.0.0' },
  wrongPiece: '{"version":"0.0.0"}\n',
}

/* Embeddings, which are never streamed */

/** A vector with these dimensions that depends only on the text. */
export const vectorOf = (text: string, dimensions: number): number[] =>
  Array.from({ length: dimensions }, (_, i) => {
    const [byte = 0] = createHash('sha256').update(`${i} ${text}`).digest()
    return byte / 128 - 1
  })

const openaiVectors: Wire = {
  ...openai,
  streams: () => false,
  whole: ({ vectors, model, usage }) => ({
    object: 'list',
    data: vectors.map((embedding, index) => ({ object: 'embedding', index, embedding })),
    model,
    ...(usage ? { usage: { prompt_tokens: usage.inputTokens, total_tokens: usage.inputTokens } } : {}),
  }),
  wrongShape: { object: 'list', data: 'none' },
}

const ollamaVectors: Wire = {
  ...ollama,
  streams: () => false,
  whole: ({ vectors, model, usage }) => ({
    model,
    embeddings: vectors,
    total_duration: 1,
    load_duration: 1,
    ...(usage ? { prompt_eval_count: usage.inputTokens } : {}),
  }),
}

/** By path. OpenAI-compatible servers differ in whether `/v1` is part of it. */
export function wireOf(path: string): Wire | null {
  if (path.endsWith('/chat/completions')) return openai
  if (path.endsWith('/embeddings')) return openaiVectors
  if (path === '/api/embed') return ollamaVectors
  if (path === '/v1/messages') return anthropic
  return path === '/api/chat' ? ollama : null
}

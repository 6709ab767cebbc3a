import { halvesOf, named, type Wire, type WireAnswer } from './wire.ts'

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
    cache_creation: null,
    output_tokens: usage.outputTokens,
    output_tokens_details: usage.reasoningTokens === undefined ? null : { thinking_tokens: usage.reasoningTokens },
    server_tool_use: null,
    service_tier: 'standard',
    speed: null,
    inference_geo: null,
  }
const SIGNATURE = 'c2lnbmVkIGJ5IHVwc3RyZWFt'
const stopOf = ({ stop, toolCalls }: WireAnswer) =>
  stop === 'end' && toolCalls.length > 0 ? 'tool_use' : ANTHROPIC_STOPS[stop]
const blocksOf = ({ thinking, text, toolCalls }: WireAnswer) => [
  ...(thinking ? [{ type: 'thinking', thinking, signature: SIGNATURE }] : []),
  ...(text ? [{ type: 'text', text, citations: null }] : []),
  ...toolCalls.map(({ id, name, arguments: input }) => ({
    type: 'tool_use',
    id,
    name,
    input: JSON.parse(input),
    caller: { type: 'direct' },
  })),
]
/** A block that comes in pieces. */
const streamed = (index: number, block: object, deltas: object[]) => [
  named({ type: 'content_block_start', index, content_block: block }),
  ...deltas.map(delta => named({ type: 'content_block_delta', index, delta })),
  named({ type: 'content_block_stop', index }),
]
const streamedThinking = ({ thinking }: WireAnswer) =>
  thinking
    ? streamed(0, { type: 'thinking', thinking: '', signature: '' }, [
        { type: 'thinking_delta', thinking },
        { type: 'signature_delta', signature: SIGNATURE },
      ])
    : []
const textIndex = ({ thinking }: WireAnswer) => (thinking ? 1 : 0)
const hasText = ({ text, toolCalls }: WireAnswer) => text !== '' || toolCalls.length === 0
const streamedCalls = (answer: WireAnswer) =>
  answer.toolCalls.flatMap(({ id, name, arguments: input }, n) =>
    streamed(
      textIndex(answer) + (hasText(answer) ? 1 : 0) + n,
      { type: 'tool_use', id, name, input: {}, caller: { type: 'direct' } },
      halvesOf(input).map(partial_json => ({ type: 'input_json_delta', partial_json })),
    ),
  )
const anthropicMessage = (answer: WireAnswer) => ({
  id: 'msg_upstream',
  type: 'message',
  role: 'assistant',
  model: answer.model,
  content: blocksOf(answer),
  stop_reason: stopOf(answer),
  stop_sequence: null,
  stop_details: null,
  container: null,
  diagnostics: null,
  ...(answer.usage ? { usage: anthropicUsage(answer) } : {}),
})
const anthropicError = (type: string, message: string) => ({ type: 'error', error: { type, message } })

/** The counts that the last event does not repeat. */
const NO_COUNTS = {
  input_tokens: null,
  cache_creation_input_tokens: null,
  cache_read_input_tokens: null,
  output_tokens_details: null,
  server_tool_use: null,
}

export const anthropic: Wire = {
  name: 'anthropic',
  streamType: 'text/event-stream',
  streams: body => body.stream === true,
  whole: anthropicMessage,
  head: answer => {
    const message = { ...anthropicMessage(answer), content: [], stop_reason: null }
    const usage = answer.usage ? { usage: { ...anthropicUsage(answer), output_tokens: 1 } } : {}
    return [
      named({ type: 'message_start', message: { ...message, ...usage } }),
      ...streamedThinking(answer),
      ...(hasText(answer)
        ? [
            named({
              type: 'content_block_start',
              index: textIndex(answer),
              content_block: { type: 'text', text: '', citations: null },
            }),
          ]
        : []),
      named({ type: 'ping' }),
    ]
  },
  piece: (text, answer) =>
    named({ type: 'content_block_delta', index: textIndex(answer), delta: { type: 'text_delta', text } }),
  tail: answer => [
    ...(hasText(answer) ? [named({ type: 'content_block_stop', index: textIndex(answer) })] : []),
    ...streamedCalls(answer),
    named({
      type: 'message_delta',
      delta: { stop_reason: stopOf(answer), stop_sequence: null, stop_details: null, container: null },
      ...(answer.usage ? { usage: { ...NO_COUNTS, output_tokens: answer.usage.outputTokens } } : {}),
    }),
    named({ type: 'message_stop' }),
  ],
  error: (status, message, code) => anthropicError(code ?? ANTHROPIC_ERRORS[status] ?? 'api_error', message),
  errorEvent: (message, code) => named(anthropicError(code ?? 'overloaded_error', message)),
  wrongShape: { type: 'message', content: 'no list' },
  wrongPiece: named({ type: 'message_start' }),
}

import { halvesOf, type Stop, sse, type Wire, type WireAnswer } from './wire.ts'

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
const stopOf = ({ stop, toolCalls }: WireAnswer) =>
  stop === 'end' && toolCalls.length > 0 ? 'tool_calls' : OPENAI_STOPS[stop]
const callOf = ({ id, name, arguments: written }: WireAnswer['toolCalls'][number], pieces = written) => ({
  id,
  type: 'function',
  function: { name, arguments: pieces },
})
const each = <T>({ choices }: WireAnswer, choice: (index: number) => T): T[] =>
  Array.from({ length: choices }, (_, index) => choice(index))
const callDeltas = ({ toolCalls }: WireAnswer) =>
  toolCalls.flatMap((call, index) => [
    { tool_calls: [{ index, ...callOf(call, '') }] },
    ...halvesOf(call.arguments).map(piece => ({ tool_calls: [{ index, function: { arguments: piece } }] })),
  ])
const openaiText = (text: string, stop: Stop) =>
  stop === 'refusal' ? { content: null, refusal: text || 'No.' } : { content: text, refusal: null }

export const openai: Wire = {
  name: 'openai',
  streamType: 'text/event-stream',
  streams: body => body.stream === true,
  whole: answer => ({
    id: 'chatcmpl-upstream',
    object: 'chat.completion',
    created: 0,
    model: answer.model,
    choices: each(answer, index => ({
      index,
      finish_reason: stopOf(answer),
      logprobs: null,
      message: {
        role: 'assistant',
        ...openaiText(answer.text, answer.stop),
        ...(answer.toolCalls.length > 0 && {
          content: answer.text || null,
          tool_calls: answer.toolCalls.map(call => callOf(call)),
        }),
      },
    })),
    ...(answer.usage ? { usage: openaiUsage(answer) } : {}),
  }),
  head: answer =>
    each(answer, index =>
      openaiChunk(answer, [{ index, delta: { role: 'assistant', content: '' }, finish_reason: null }]),
    ),
  piece: (text, answer) =>
    each(answer, index =>
      openaiChunk(answer, [{ index, delta: openaiText(text, answer.stop), finish_reason: null }]),
    ).join(''),
  tail: answer => [
    ...each(answer, index =>
      [...callDeltas(answer).map(delta => ({ delta, stop: null })), { delta: {}, stop: stopOf(answer) }]
        .map(({ delta, stop }) => openaiChunk(answer, [{ index, delta, finish_reason: stop }]))
        .join(''),
    ),
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

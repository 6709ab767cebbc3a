import type { Wire, WireAnswer } from './wire.ts'

const callsOf = ({ toolCalls }: WireAnswer) =>
  toolCalls.length > 0 && {
    tool_calls: toolCalls.map(({ name, arguments: written }) => ({
      function: { name, arguments: JSON.parse(written) },
    })),
  }
const ollamaPart = (answer: WireAnswer, message: object, more = {}) => ({
  model: answer.model,
  created_at: '2026-01-01T00:00:00Z',
  message: { role: 'assistant', content: '', ...message },
  done: false,
  ...more,
})
const ollamaEnd = ({ usage, stop }: WireAnswer) => ({
  done: true,
  done_reason: stop === 'max_tokens' ? 'length' : 'stop',
  total_duration: 1,
  ...(usage ? { prompt_eval_count: usage.inputTokens, eval_count: usage.outputTokens } : {}),
})

const line = (part: object) => `${JSON.stringify(part)}\n`

export const ollama: Wire = {
  name: 'ollama',
  streamType: 'application/x-ndjson',
  streams: body => body.stream !== false,
  whole: answer =>
    ollamaPart(
      answer,
      { content: answer.text, ...(answer.thinking && { thinking: answer.thinking }), ...callsOf(answer) },
      ollamaEnd(answer),
    ),
  head: answer => (answer.thinking ? [line(ollamaPart(answer, { thinking: answer.thinking }))] : []),
  piece: (content, answer) => line(ollamaPart(answer, { content })),
  tail: answer => [
    ...(answer.toolCalls.length > 0 ? [line(ollamaPart(answer, { ...callsOf(answer) }))] : []),
    line(ollamaPart(answer, {}, ollamaEnd(answer))),
  ],
  error: (_status, message) => ({ error: message }),
  errorEvent: message => `${JSON.stringify({ error: message })}\n`,
  wrongShape: { version: '0.0.0' },
  wrongPiece: '{"version":"0.0.0"}\n',
}

/** The provider's side of a wire format. See `upstream.ts`. */

export type WireName = 'anthropic' | 'openai' | 'ollama'
export type Stop = 'end' | 'max_tokens' | 'refusal'

export type WireAnswer = {
  text: string
  /** One per text of the input, for an embeddings call. */
  vectors: unknown[]
  /** The text in chunks, for a stream. */
  chunks: string[]
  /** Reasoning before the text. OpenAI does not show it. */
  thinking?: string
  /** Calls after the text. `arguments` is JSON. */
  toolCalls: { id: string; name: string; arguments: string }[]
  /** OpenAI's `n`: this many equal choices. */
  choices: number
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

type Content = string | { text?: string; content?: Content }[]
const textOf = (content: Content | undefined): string =>
  typeof content === 'string'
    ? content
    : (content ?? []).map(block => block.text ?? (block.content ? textOf(block.content) : '')).join('')

/** All text of the request, system prompt first. */
export function sentText(body: Record<string, unknown>): string {
  const messages = (body.messages ?? []) as { content?: Content }[]
  const inputs = [body.input ?? []].flat() as string[]
  return [textOf(body.system as Content), ...inputs, ...messages.map(message => textOf(message.content))]
    .filter(Boolean)
    .join('\n')
}

export const sse = (data: unknown, event?: string) =>
  `${event ? `event: ${event}\n` : ''}data: ${JSON.stringify(data)}\n\n`
export const named = (data: { type: string; [field: string]: unknown }) => sse(data, data.type)

export const halvesOf = (text: string): string[] => [text.slice(0, text.length / 2), text.slice(text.length / 2)]

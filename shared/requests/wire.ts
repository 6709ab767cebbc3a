import type { TokenUsage } from '#shared/models/tokens.ts'
import type { ChatAnswer, StreamEvent } from './answer.ts'
import type { ChatRequest, Wire } from './request.ts'

/** Why a request is refused. `param`: the field, in the notation of the wire format: `messages[0].content`. */
export type RequestFault = { code: string; param: string | null; message: string }

/** A request body, read. `maxTokens`: the output limit that the client set. */
export type ParsedRequest = {
  request: ChatRequest
  model: string | undefined
  maxTokens: number | undefined
  stream: boolean
  /**
   * Fields that only a provider with this wire format can honour: they change the answer, and the neutral request does not carry
   * them. In the notation of the wire format.
   */
  untranslated: string[]
}

/** What a provider receives. `maxTokens` is always sent, so that the cost of the call has an upper bound. */
export type OutgoingRequest = ChatRequest & { model: string; maxTokens: number }

/** What an answer is rendered with: the values that Sluice decides. */
export type AnswerContext = {
  /** The id of the task without dashes; ids of the answer are made of it. */
  id: string
  /** Start of the task, Unix seconds. */
  created: number
  /** The client's request body. */
  body: Record<string, unknown>
}

/** A wire format, in both directions. One folder per format; `index.ts` registers it. */
export type WireFormat = {
  wire: Wire
  /** Reads a client's request. Names the first field that is wrong. */
  parse(body: Record<string, unknown>): ParsedRequest | RequestFault
  /**
   * Renders a request for a provider with this wire format. A request of the same format is passed on unchanged, except for model,
   * output limit and stream options.
   */
  render(request: OutgoingRequest, options: { stream: boolean }): Record<string, unknown>
  /**
   * The parts of a request that this wire format cannot express, named as fields of `ChatRequest` (`sampling.topK`, `audio`,
   * `thinking`, `tool_result.image`, …). The translation drops them.
   */
  losses(request: ChatRequest): string[]
  /** Reads a provider's answer. @throws CallFailure bad_response */
  readAnswer(body: unknown): ChatAnswer
  /** Reads a provider's stream, event by event. */
  readStream(): StreamReader
  /** Renders an answer for a client. */
  renderAnswer(answer: ChatAnswer, context: AnswerContext): Record<string, unknown>
  /** Renders a stream for a client. */
  renderStream(context: AnswerContext): StreamRenderer
}

export type StreamReader = {
  /** The pieces of one event of the provider. */
  read(event: unknown): StreamEvent[]
  /** The final usage so far; null: not reported yet. */
  usage(): TokenUsage | null
  /** The whole answer, after the last event. @throws CallFailure if the stream ended early */
  answer(): ChatAnswer
}

/** All functions return Server-Sent Events, as text to send; '' for nothing. */
export type StreamRenderer = {
  write(event: StreamEvent): string
  /** The rest of the stream after the last event. */
  end(answer: ChatAnswer): string
  /** The end of a stream that failed after it had begun. */
  fail(error: { code: string; message: string }): string
}

export const isFault = (one: object): one is RequestFault => 'code' in one && 'param' in one

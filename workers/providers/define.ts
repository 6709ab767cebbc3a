import type { ProviderConfig } from '#shared/config.ts'
import type { HeaderLimits } from '#shared/gate/types.ts'

/** The port between the pipeline and a provider's own SDK. One adapter a file; all pass `conformance.int.test.ts`. */

export type Message = { role: 'user' | 'assistant'; content: string }

export type CallRequest = {
  model: string
  system?: string
  messages: Message[]
  /** Always sent, so that the cost of a call has an upper bound. */
  maxTokens: number
  temperature?: number
  /** JSON Schema of the wanted answer: the provider is asked for JSON of this shape. */
  schema?: Record<string, unknown>
}

export type EmbedRequest = {
  model: string
  /** Each with a vector of its own. */
  texts: string[]
  /** How long the vectors are to be; absent: as the model makes them. */
  dimensions?: number
}

export type CallContext = {
  /** Aborted when the task is cancelled, its deadline passes or the process stops. The adapter then rejects at once. */
  signal: AbortSignal
  /** Upper bound of the whole call, milliseconds. */
  timeoutMs: number
  /** Text as the model writes it. Set only when somebody wants to read it; the adapter then streams. */
  onDelta?: (text: string) => void
  /** W3C trace context, sent along as a header. */
  traceparent?: string
}

/** Token counts as the provider reported them. `inputTokens` includes cached ones. */
export type Usage = {
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
}

export type CallAnswer = {
  /** As the model wrote it: may hold U+0000 and lone surrogates, and is empty only if it was cut off or refused. */
  text: string
  /** Why the model stopped, in one vocabulary for all providers. */
  stop: 'end' | 'max_tokens' | 'refusal' | 'other'
  /** null: the provider did not say. */
  usage: Usage | null
  /** The model that answered, as the provider names it. */
  model: string
  /** What the provider's rate-limit headers said; null: nothing. */
  limits: HeaderLimits | null
}

export type EmbedAnswer = Pick<CallAnswer, 'usage' | 'model' | 'limits'> & {
  /** In the order of the texts, as the provider sent them: their number, lengths and values are the kind's to check. */
  vectors: number[][]
}

/** One closed vocabulary for what came of a call; also the metrics label. */
export const CALL_FAILURES = [
  'rate_limited',
  'overloaded',
  'server_error',
  'timeout',
  'connection',
  'bad_response',
  'auth',
  'no_balance',
  'unknown_model',
  'invalid_request',
  'aborted',
] as const
export type CallFailureKind = (typeof CALL_FAILURES)[number]

/**
 * Thrown by an adapter for every failed call, and nothing else.
 * `scope` says who cannot succeed: `none` nobody, try again; `provider` not this provider and model; `task` nowhere.
 */
export class CallFailure extends Error {
  readonly kind: CallFailureKind
  readonly scope: 'none' | 'provider' | 'task'
  /** HTTP status, if there was an answer. */
  readonly status: number | null
  /** What the provider's Retry-After asked for, milliseconds, an hour at most. */
  readonly retryAfterMs: number | null
  /** Final usage, if the provider had reported it before the call failed; never what it counted half way. */
  readonly usage: Usage | null
  /** What the provider's rate-limit headers said, if they came; null: nothing. `guarded` knows. */
  limits: HeaderLimits | null
  /** false: the request surely never reached the provider, so that nobody is billed for it. `guarded` knows. */
  sent: boolean
  /** true: the provider had begun to answer, and may bill for what it wrote. `guarded` knows of streams. */
  begun: boolean

  constructor(kind: CallFailureKind, message: string, more: FailureDetails = {}) {
    // It may quote what the provider sent, and ends up in Postgres, which takes neither U+0000 nor half a surrogate.
    super(message.replaceAll('\0', '').slice(0, 500).toWellFormed(), { cause: more.cause })
    this.kind = kind
    this.scope = SCOPE[kind]
    this.status = more.status ?? null
    this.retryAfterMs = more.retryAfterMs ?? null
    this.usage = more.usage ?? null
    this.limits = more.limits ?? null
    this.sent = more.sent ?? true
    this.begun = more.begun ?? false
  }
}

type FailureDetails = Partial<Pick<CallFailure, 'status' | 'retryAfterMs' | 'usage' | 'limits' | 'sent' | 'begun'>> & {
  cause?: unknown
}

const SCOPE: Record<CallFailureKind, CallFailure['scope']> = {
  rate_limited: 'none',
  overloaded: 'none',
  server_error: 'none',
  timeout: 'none',
  connection: 'none',
  bad_response: 'none',
  auth: 'provider',
  no_balance: 'provider',
  unknown_model: 'provider',
  invalid_request: 'task',
  aborted: 'none',
}

/** What the HTTP status of an error answer means, the same for every provider. */
export function kindOfStatus(status: number): CallFailureKind {
  if (status === 429) return 'rate_limited'
  if (status === 503 || status === 529) return 'overloaded'
  if (status === 408 || status === 504) return 'timeout'
  if (status === 401 || status === 403 || status === 407) return 'auth'
  if (status === 402) return 'no_balance'
  // 405 and 410: this address or model does not do that (any more), whatever the task.
  if (status === 404 || status === 405 || status === 410) return 'unknown_model'
  if (status === 409 || status === 425 || status >= 500) return 'server_error'
  if (status >= 400) return 'invalid_request'
  return 'bad_response'
}

/** What a provider may ask for at most, milliseconds: an answer that says more is not to stop a model for days. */
const MOST_ASKED_MS = 3_600_000
export const boundedWait = (ms: number): number => Math.min(Math.max(0, ms), MOST_ASKED_MS)

/**
 * Reads `retry-after-ms` (milliseconds) or `retry-after` (seconds or an HTTP date).
 * @returns milliseconds, an hour at most, or null when there is none that can be understood
 */
export function retryAfter(headers: { get(name: string): string | null } | undefined, now = Date.now()): number | null {
  const ms = headers?.get('retry-after-ms')
  if (ms && Number.isFinite(Number(ms))) return boundedWait(Number(ms))
  const value = headers?.get('retry-after')
  if (!value) return null
  const seconds = Number(value)
  if (Number.isFinite(seconds)) return boundedWait(seconds * 1000)
  // V8 would read "soon 5" as a day in May.
  const date = /\d\d:\d\d:\d\d/.test(value) ? Date.parse(value) : Number.NaN
  return Number.isNaN(date) ? null : boundedWait(date - now)
}

export interface Provider {
  readonly name: string
  /** @throws CallFailure, and nothing else */
  call(request: CallRequest, context: CallContext): Promise<CallAnswer>
  /**
   * The model to ask when nobody named one, or null if the provider cannot be used now.
   * Only providers that have to be found at run time do I/O here (bounded, cached).
   */
  defaultModel(): Promise<string | null>
  /** null: this provider makes no vectors, and is not asked for any. */
  readonly embedding: {
    /** @throws CallFailure, and nothing else */
    call(request: EmbedRequest, context: Omit<CallContext, 'onDelta'>): Promise<EmbedAnswer>
    /** As `defaultModel`. */
    defaultModel(): Promise<string | null>
  } | null
}

/** Makes a provider of its configuration; the SDK client is made once, here. */
export type ProviderFactory = (config: ProviderConfig) => Provider

/** After one of these the same provider and model are not asked again for the same task. */
export const DEAD_END_KINDS = CALL_FAILURES.filter(kind => SCOPE[kind] === 'provider')

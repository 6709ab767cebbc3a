import type { ProviderConfig } from '#shared/config.ts'
import type { HeaderLimits } from '#shared/gate/types.ts'
import type { ModelCapabilities } from '#shared/models/capabilities.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'
import { now } from '#shared/process/clock.ts'
import type { ChatAnswer, StreamEvent } from '#shared/requests/answer.ts'
import type { OutgoingRequest } from '#shared/requests/wire.ts'

/**
 * The port between the engine and the SDKs of providers. One adapter per file; each passes `conformance.int.test.ts`.
 */

export type CallRequest = OutgoingRequest

export type EmbedRequest = {
  model: string
  /** The answer has one vector per text. */
  texts: string[]
  /** Length of the vectors; absent: the model's default. */
  dimensions?: number
}

export type CallContext = {
  /** Aborts when the task is cancelled, its deadline passes or the process stops. The adapter then rejects at once. */
  signal: AbortSignal
  /** Upper bound of the whole call, milliseconds. */
  timeoutMs: number
  /** Receives the answer while the model writes it. If it is set, the adapter streams. */
  onEvent?: (event: StreamEvent) => void
  /** W3C trace context, sent as a header. */
  traceparent?: string
}

export type Usage = TokenUsage

/** Without parts only if the answer was cut off or refused. `limits`: from the provider's rate-limit headers; null: none. */
export type CallAnswer = ChatAnswer & { limits: HeaderLimits | null }

export type EmbedAnswer = Pick<CallAnswer, 'usage' | 'model' | 'limits'> & {
  /** In the order of the texts, as sent by the provider. The kind checks their number, lengths and values. */
  vectors: number[][]
}

/** Every way in which a call can fail. A metric label, so the set is closed. */
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
  /** The model cannot do what the request asks for, such as reading images. */
  'unsupported',
  /** The prompt exceeds the model's context window, or the provider read only part of it. */
  'context_exceeded',
  'invalid_request',
  'aborted',
] as const
export type CallFailureKind = (typeof CALL_FAILURES)[number]

/**
 * The only error that adapters throw. `scope`: where the call cannot succeed: `none`: a retry may succeed; `provider`:
 * not with this provider and model; `task`: with no provider.
 */
export class CallFailure extends Error {
  readonly kind: CallFailureKind
  readonly scope: 'none' | 'provider' | 'task'
  /** HTTP status; null: there was no answer. */
  readonly status: number | null
  /**
   * Wait requested by the provider's Retry-After, milliseconds, at most an hour. The engine turns it into a pause of
   * the model.
   */
  readonly retryAfterMs: number | null
  /** Final usage, if the provider reported it before the call failed; never an intermediate count. */
  readonly usage: Usage | null
  /** Limits from the provider's rate-limit headers; null: none. Set by `guarded`. */
  limits: HeaderLimits | null
  /** false: the request certainly never reached the provider, so that it is not billed. Set by `guarded`. */
  sent: boolean
  /** true: the provider had begun to answer, and may bill for the output. `guarded` sets it for streams. */
  begun: boolean

  constructor(kind: CallFailureKind, message: string, more: FailureDetails = {}) {
    // The message may quote the provider. Postgres stores neither U+0000 nor lone surrogates.
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
  unsupported: 'provider',
  context_exceeded: 'provider',
  invalid_request: 'task',
  aborted: 'none',
}

/** The meaning of an HTTP error status, the same for every provider. */
export function kindOfStatus(status: number): CallFailureKind {
  if (status === 429) return 'rate_limited'
  if (status === 503 || status === 529) return 'overloaded'
  if (status === 408 || status === 504) return 'timeout'
  if (status === 401 || status === 403 || status === 407) return 'auth'
  if (status === 402) return 'no_balance'
  // 405 and 410: the endpoint or model does not support the operation (any more).
  if (status === 404 || status === 405 || status === 410) return 'unknown_model'
  if (status === 409 || status === 425 || status >= 500) return 'server_error'
  if (status >= 400) return 'invalid_request'
  return 'bad_response'
}

/** Maximum wait that a provider may request, milliseconds, so that one answer cannot pause a model for days. */
const MAX_ASKED_MS = 3_600_000
export const boundedWait = (ms: number): number => Math.min(Math.max(0, ms), MAX_ASKED_MS)

/**
 * Reads `retry-after-ms` (milliseconds) or `retry-after` (seconds or an HTTP date).
 * @returns milliseconds, at most an hour; null: the header is missing or invalid
 */
export function retryAfter(headers: { get(name: string): string | null } | undefined, at = now()): number | null {
  const ms = headers?.get('retry-after-ms')
  if (ms && Number.isFinite(Number(ms))) return boundedWait(Number(ms))
  const value = headers?.get('retry-after')
  if (!value) return null
  const seconds = Number(value)
  if (Number.isFinite(seconds)) return boundedWait(seconds * 1000)
  // V8 would parse "soon 5" as a day in May.
  const date = /\d\d:\d\d:\d\d/.test(value) ? Date.parse(value) : Number.NaN
  return Number.isNaN(date) ? null : boundedWait(date - at)
}

export interface Provider {
  readonly name: string
  /** Makes a free request to test whether the provider answers again. Rejects if it does not. */
  ping(signal: AbortSignal): Promise<void>
  /** @throws CallFailure, and nothing else */
  call(request: CallRequest, context: CallContext): Promise<CallAnswer>
  /**
   * The model for requests that name none; null: the provider cannot be used now. Only providers that are discovered at
   * run time do I/O here (bounded, cached).
   */
  defaultModel(): Promise<string | null>
  /** The models that the server lists; null: it does not answer. Absent: a vendor whose models are in the catalogue. */
  readonly listed?: () => Promise<readonly string[] | null>
  /** What the server says that a model can do. Absent: it does not say. Bounded and cached; it does not reject. */
  readonly capabilities?: (model: string, signal: AbortSignal) => Promise<ModelCapabilities>
  /** null: the provider has no embedding models. */
  readonly embedding: {
    /** @throws CallFailure, and nothing else */
    call(request: EmbedRequest, context: Omit<CallContext, 'onEvent'>): Promise<EmbedAnswer>
    /** As `defaultModel`. */
    defaultModel(): Promise<string | null>
  } | null
}

/** Creates a provider from its configuration, with one SDK client. */
export type ProviderFactory = (config: ProviderConfig, fetch?: typeof globalThis.fetch) => Provider

/** After one of these failures, the task does not call the same provider and model again. */
export const DEAD_END_KINDS = CALL_FAILURES.filter(kind => SCOPE[kind] === 'provider')

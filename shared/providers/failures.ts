import { subscribe } from 'node:diagnostics_channel'
import { boundedWait, CallFailure, type CallFailureKind, kindOfStatus, retryAfter, type Usage } from './define.ts'

/**
 * Codes and types in the body of an error. A streamed error arrives under HTTP 200, so its body is the only
 * information. Sources: Anthropic's and OpenAI's API references, DeepSeek's error codes.
 */
const STREAMED: Record<string, CallFailureKind> = {
  overloaded_error: 'overloaded',
  rate_limit_error: 'rate_limited',
  api_error: 'server_error',
  timeout_error: 'timeout',
  authentication_error: 'auth',
  permission_error: 'auth',
  billing_error: 'no_balance',
  not_found_error: 'unknown_model',
  invalid_request_error: 'invalid_request',
  request_too_large: 'invalid_request',
  rate_limit_exceeded: 'rate_limited',
  requests: 'rate_limited',
  tokens: 'rate_limited',
  server_error: 'server_error',
  invalid_api_key: 'auth',
}

/** Codes that are more precise than the HTTP status. */
const PRECISE: Record<string, CallFailureKind> = {
  insufficient_quota: 'no_balance',
  billing_hard_limit_reached: 'no_balance',
  billing_not_active: 'no_balance',
  model_not_found: 'unknown_model',
  // llama.cpp
  exceed_context_size_error: 'context_exceeded',
}

/**
 * Errors with status 400 that the request did not cause. Without this table, a wrong key or an empty account would fail
 * the task instead of moving it to the next provider.
 */
const MISNAMED_400: readonly [RegExp, CallFailureKind][] = [
  [/credit balance is too low/i, 'no_balance'],
  [/API_KEY_INVALID|API key not valid|API key expired/i, 'auth'],
  [/model not exist/i, 'unknown_model'],
  // Ollama. Another model may.
  [/does not support (tools|thinking|vision|images|chat)/i, 'unsupported'],
  [/input length exceeds the context length|exceeds the available context size/i, 'context_exceeded'],
]

/** Fields of the errors of the three SDKs. Each SDK omits some of them. */
type SdkError = {
  message?: string
  status?: number
  headers?: Headers
  error?: unknown
  type?: unknown
  code?: unknown
  cause?: unknown
}

/** Turns any error of an SDK, of fetch or of a parser into a CallFailure. `usage`: reported before the error. */
export function toCallFailure(thrown: unknown, usage: Usage | null = null): CallFailure {
  if (thrown instanceof CallFailure) return thrown
  const error = (typeof thrown === 'object' && thrown !== null ? thrown : { message: String(thrown) }) as SdkError
  if (typeof error.status === 'number') {
    return failureOfAnswer(error.status, error.headers, error.error, error.message, usage, thrown)
  }
  const message = error.message ?? 'The provider failed'
  if (error.headers || typeof error.type === 'string') {
    return new CallFailure(kindOfStreamed(error), message, { usage, cause: thrown })
  }
  return new CallFailure(kindOfTransport(error), describe(error), { usage, cause: thrown })
}

/**
 * The failure for an HTTP error answer.
 * @param body parsed JSON, or text; Google's may be an array
 */
export function failureOfAnswer(
  status: number,
  headers: Headers | undefined,
  body: unknown,
  message: string | undefined,
  usage: Usage | null = null,
  cause?: unknown,
): CallFailure {
  const text = `${message ?? ''} ${typeof body === 'string' ? body : (JSON.stringify(body) ?? '')}`
  const precise = codesOf(body).map(code => PRECISE[code])
  const misnamed = status === 400 ? MISNAMED_400.find(([pattern]) => pattern.test(text))?.[1] : undefined
  const kind = precise.find(Boolean) ?? misnamed ?? kindOfStatus(status)
  return new CallFailure(kind, message ?? `HTTP ${status}`, {
    status,
    retryAfterMs: retryAfter(headers) ?? (status === 429 || status === 503 ? retryDelayOf(body) : null),
    usage,
    cause,
  })
}

/** The failure for an error object in place of an answer: a streamed event, or a body under HTTP 200. */
export function failureOfBody(error: unknown, usage: Usage | null = null): CallFailure {
  const fields = (typeof error === 'object' && error !== null ? error : {}) as SdkError
  const message = typeof error === 'string' ? error : (fields.message ?? JSON.stringify(error))
  return new CallFailure(kindOfStreamed({ message, error }), message, { usage })
}

function kindOfStreamed(error: SdkError): CallFailureKind {
  for (const code of codesOf(error, codesOf(error.error))) {
    const status = Number(code)
    // vLLM and aggregators use the HTTP status as `code`.
    const kind = PRECISE[code] ?? STREAMED[code] ?? (status >= 400 && status < 600 ? kindOfStatus(status) : undefined)
    if (kind && kind !== 'server_error') return kind
  }
  // OpenAI and Ollama have no code for overload.
  return /overloaded|busy|capacity/i.test(error.message ?? '') ? 'overloaded' : 'server_error'
}

/** The codes of an error and of its nested `error`; `code` precedes `type`, because it is more precise. */
function codesOf(body: unknown, more: string[] = []): string[] {
  if (typeof body !== 'object' || body === null) return more
  const { code, type, error } = body as SdkError
  const own = [code, type].filter(value => typeof value === 'string' || typeof value === 'number').map(String)
  return error && error !== body ? [...own, ...codesOf(error), ...more] : [...own, ...more]
}

/** No complete answer arrived. undici hides the reason in a chain of causes. */
function kindOfTransport(error: SdkError): CallFailureKind {
  for (const { name, message = '', code } of causes(error)) {
    if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'timeout'
    if (typeof code === 'string' && /^(E[A-Z]+|UND_ERR_[A-Z_]+)$|CERT|TLS/.test(code)) return 'connection'
    if (/^(fetch failed|terminated|Connection error\.?)$/.test(message) || name === 'SocketError') return 'connection'
    if (/^Request timed out/.test(message)) return 'timeout'
  }
  // Other errors come from reading an answer that is not JSON or not of the documented shape.
  return 'bad_response'
}

/** Errors of connections that were never established: no address, refused, unreachable, untrusted. */
const unconnected = new WeakSet<object>()
let watching = false

/**
 * Records connection errors. The error alone is not sufficient: established connections fail with the same TLS and
 * routing codes. undici reports failed connects on this channel, and writes requests only to established connections.
 */
export function watchConnections() {
  if (watching) return
  watching = true
  subscribe('undici:client:connectError', message => {
    const { error } = message as { error?: unknown }
    if (typeof error === 'object' && error !== null) unconnected.add(error)
  })
}

/** Whether a request was certainly not sent, because no connection was established. */
export function failedToConnect(thrown: unknown): boolean {
  // fetch refuses some ports without connecting.
  return causes(thrown).some(cause => unconnected.has(cause) || cause.message === 'bad port')
}

function* causes(error: unknown): Generator<SdkError & { name?: string }> {
  for (let at = error, depth = 0; typeof at === 'object' && at !== null && depth < 5; depth++) {
    yield at
    at = (at as SdkError).cause
  }
}

function describe(error: SdkError): string {
  const messages = [...causes(error)].map(cause => cause.message || String(cause.code ?? '')).filter(Boolean)
  return [...new Set(messages)].join(': ') || 'The provider failed'
}

/**
 * Gemini sends no Retry-After header, but a google.rpc.RetryInfo in the details of the error: `"retryDelay": "34s"`. Do
 * not search the text for it, because the text may quote the client.
 */
function retryDelayOf(body: unknown): number | null {
  const [first] = [typeof body === 'string' ? parsed(body) : body].flat()
  const { error = first } = Object(first) as SdkError
  const { details } = Object(error) as { details?: unknown }
  const info = Array.isArray(details) ? details.find(one => one?.['@type'] === RETRY_INFO) : undefined
  const seconds = /^(\d+(?:\.\d+)?)s$/.exec(String(info?.retryDelay))?.[1]
  return seconds === undefined ? null : boundedWait(Number(seconds) * 1000)
}

const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import { errorFrom, SluiceApiError, SluiceConnectionError } from './errors.ts'

export type ClientOptions = {
  /** Such as `http://127.0.0.1:8080`. */
  baseUrl: string
  apiKey: string
  fetch?: typeof fetch
  /** Maximum number of retries. Default 4. */
  retries?: number
  /** Maximum wait before the first retry, in milliseconds, doubled each time. Default 500. */
  backoffMs?: number
  /** Parses responses. Default: JSON.parse, which rounds integers above 2^53. */
  parseJson?: (text: string) => unknown
}

export type RequestOptions = { signal?: AbortSignal | undefined }

type Call = RequestOptions & {
  method: 'GET' | 'POST' | 'DELETE'
  path: string
  headers?: Record<string, string>
  json?: unknown
  /** Called for each attempt. */
  body?: (() => { body: ReadableStream<Uint8Array>; type: string }) | undefined
  /** Whether repeating the request is harmless. `once`: its body cannot be sent again. */
  repeatable: boolean | 'once'
  /** Limit of the time until the response begins, and with `json` until it has been read; null: none. */
  timeoutMs?: number | null
}

export type Http = ReturnType<typeof createHttp>

const TIMEOUT_MS = 30_000
const MAX_BACKOFF_MS = 8_000
/** With a longer Retry-After the request fails. */
const MAX_RETRY_AFTER_SECONDS = 60
/** Responses of a proxy whose server restarts, and of the server whose database restarts. */
const UNAVAILABLE = [502, 503, 504]

export function createHttp(options: ClientOptions) {
  const { apiKey, retries = 4, backoffMs = 500, parseJson = JSON.parse } = options
  const base = baseOf(options.baseUrl)
  const doFetch = options.fetch ?? fetch

  /** One attempt. @throws SluiceApiError, SluiceConnectionError */
  async function attempt<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    const { timeoutMs = TIMEOUT_MS } = call
    const sent = call.body?.()
    const type = sent?.type ?? (call.json === undefined ? null : 'application/json')
    const body = sent?.body ?? (call.json === undefined ? null : JSON.stringify(call.json))
    let late = false
    const { signal, abort, release } = follow(call.signal)
    const timer =
      timeoutMs === null
        ? null
        : setTimeout(() => {
            late = true
            abort()
          }, timeoutMs)
    let streams = false
    try {
      const response = await doFetch(base + call.path, {
        method: call.method,
        headers: { authorization: `Bearer ${apiKey}`, ...(type && { 'content-type': type }), ...call.headers },
        signal,
        ...(body !== null && { body }),
        // fetch requires it for a streamed body.
        ...(sent && { duplex: 'half' }),
      } as RequestInit)
      if (!response.ok) throw await errorFrom(response)
      const answer = await read(response)
      streams = answer === response && response.body !== null
      if (streams) releases.set(response, release)
      return answer
    } catch (error) {
      call.signal?.throwIfAborted()
      if (error instanceof SluiceApiError) throw error
      const why = late ? `no answer for ${(timeoutMs ?? 0) / 1000} s` : reasonOf(error)
      throw new SluiceConnectionError(`${base}: ${why}`, { cause: error })
    } finally {
      if (timer) clearTimeout(timer)
      if (!streams) release()
    }
  }

  async function withRetries<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      call.signal?.throwIfAborted()
      try {
        return await attempt(call, read)
      } catch (error) {
        const wait = tries < retries ? waitBefore(error, call, backoffMs * 2 ** tries) : null
        if (wait === null) throw error
        await pause(wait, call.signal)
      }
    }
  }

  return {
    /** @throws SluiceApiError, SluiceConnectionError, or the reason of `signal` */
    request: (call: Call) => withRetries(call, async response => response),
    /** Also reads the response. */
    json: <T>(call: Call): Promise<T> => withRetries(call, response => readJson<T>(response, parseJson)),
    parseJson,
  }
}

/** Of responses whose body is still to be read. */
const releases = new WeakMap<Response, () => void>()

/** A signal that aborts with `leader`, or on its own. Not `AbortSignal.any`, because Node never releases nested signals. */
function follow(leader: AbortSignal | undefined) {
  const follower = new AbortController()
  const abort = () => follower.abort(leader?.reason)
  leader?.addEventListener('abort', abort)
  return { signal: follower.signal, abort, release: () => leader?.removeEventListener('abort', abort) }
}

async function readJson<T>(response: Response, parse: (text: string) => unknown): Promise<T> {
  const text = await response.text()
  try {
    return parse(text) as T
  } catch {
    throw new SluiceApiError('The answer is not JSON.', {
      status: response.status,
      code: null,
      request_id: response.headers.get('x-request-id'),
      retryAfter: null,
      body: text,
    })
  }
}

/** @throws the reason of `signal` */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch((error: unknown) => {
    signal?.throwIfAborted()
    throw error
  })
}

/** Wait before the next attempt, in milliseconds, with full jitter; null: do not retry. */
export function waitBefore(failure: unknown, call: Pick<Call, 'repeatable'>, maxMs: number): number | null {
  if (call.repeatable === 'once') return null
  const backoff = Math.random() * Math.min(maxMs, MAX_BACKOFF_MS)
  if (failure instanceof SluiceConnectionError) return call.repeatable ? backoff : null
  if (!(failure instanceof SluiceApiError)) return null
  // 429: the server has done nothing. 409 with Retry-After: the same request is being accepted.
  const again =
    failure.status === 429 ||
    (call.repeatable && (UNAVAILABLE.includes(failure.status) || failure.code === 'idempotency_in_flight'))
  const asked = failure.retryAfter ?? 0
  return again && asked <= MAX_RETRY_AFTER_SECONDS ? asked * 1000 + backoff : null
}

function baseOf(url: string): string {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) {
    throw new TypeError(`baseUrl must be an http(s) URL, not ${JSON.stringify(url)}`)
  }
  return url.replace(/\/+$/, '')
}

/** The bytes of a response. The iteration throws SluiceConnectionError if the connection breaks before the end. */
export async function* bytesOf(response: Response, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    // In Node it is iterable, although the type does not say so.
    yield* response.body as unknown as AsyncIterable<Uint8Array>
  } catch (error) {
    signal?.throwIfAborted()
    throw new SluiceConnectionError(`${response.url}: ${reasonOf(error)}`, { cause: error })
  } finally {
    releases.get(response)?.()
  }
}

/** fetch throws "fetch failed" with the reason as its cause. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause ? error.cause : error
  if (cause instanceof AggregateError && cause.errors.length > 0) return reasonOf(cause.errors[0])
  return cause instanceof Error ? cause.message || cause.name : String(cause)
}

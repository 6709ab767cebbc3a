import { setTimeout as delay } from 'node:timers/promises'
import { errorFrom, SluiceApiError, SluiceConnectionError } from './errors.ts'

export type ClientOptions = {
  /** Such as `http://127.0.0.1:8080`. */
  baseUrl: string
  apiKey: string
  fetch?: typeof fetch
  /** How often a request is made again at most; default 4. */
  retries?: number
  /** The first wait before that, milliseconds, at most; doubled each time. Default 500. */
  backoffMs?: number
}

export type RequestOptions = { signal?: AbortSignal | undefined }

type Call = RequestOptions & {
  method: 'GET' | 'POST' | 'DELETE'
  path: string
  headers?: Record<string, string>
  json?: unknown
  /** Called for each try. */
  body?: (() => { body: ReadableStream<Uint8Array>; type: string }) | undefined
  /** `once`: its body cannot be sent again. Otherwise, whether doing it twice does no harm. */
  repeatable: boolean | 'once'
  /** Upper bound of the time until the answer begins, and with `json` until it has been read; null: none. */
  timeoutMs?: number | null
}

export type Http = ReturnType<typeof createHttp>

const TIMEOUT_MS = 30_000
const MOST_BACKOFF_MS = 8_000
/** A server that asks for more is not waited for. */
const MOST_RETRY_AFTER_SECONDS = 60
/** What a proxy answers while the server behind it restarts, and what the server answers while its database does. */
const AWAY = [502, 503, 504]

export function createHttp(options: ClientOptions) {
  const { apiKey, retries = 4, backoffMs = 500 } = options
  const base = baseOf(options.baseUrl)
  const doFetch = options.fetch ?? fetch

  /** One try. @throws SluiceApiError, SluiceConnectionError */
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
        // What fetch demands of a body that is a stream.
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

  async function tried<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
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
    request: (call: Call) => tried(call, async response => response),
    /** The same, and reads the answer. */
    json: <T>(call: Call): Promise<T> => tried(call, readJson<T>),
  }
}

/** Of answers whose body is still to be read. */
const releases = new WeakMap<Response, () => void>()

/** A signal that is aborted with `leader`, or by itself. Not `AbortSignal.any`: of one that is nested Node never lets go. */
function follow(leader: AbortSignal | undefined) {
  const follower = new AbortController()
  const abort = () => follower.abort(leader?.reason)
  leader?.addEventListener('abort', abort)
  return { signal: follower.signal, abort, release: () => leader?.removeEventListener('abort', abort) }
}

async function readJson<T>(response: Response): Promise<T> {
  const text = await response.text()
  try {
    return JSON.parse(text) as T
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

/** Milliseconds, with full jitter; null: it is not to be made again. */
export function waitBefore(failure: unknown, call: Pick<Call, 'repeatable'>, most: number): number | null {
  if (call.repeatable === 'once') return null
  const backoff = Math.random() * Math.min(most, MOST_BACKOFF_MS)
  if (failure instanceof SluiceConnectionError) return call.repeatable ? backoff : null
  if (!(failure instanceof SluiceApiError)) return null
  // 429: the server did nothing yet. 409 with Retry-After: this very request is being accepted right now.
  const again =
    failure.status === 429 ||
    (call.repeatable && (AWAY.includes(failure.status) || failure.code === 'idempotency_in_flight'))
  const asked = failure.retryAfter ?? 0
  return again && asked <= MOST_RETRY_AFTER_SECONDS ? asked * 1000 + backoff : null
}

function baseOf(url: string): string {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) {
    throw new TypeError(`baseUrl must be an http(s) URL, not ${JSON.stringify(url)}`)
  }
  return url.replace(/\/+$/, '')
}

/** The bytes of an answer. The iteration throws SluiceConnectionError if the connection breaks before their end. */
export async function* bytesOf(response: Response, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    // Node's is iterable, whichever type the name stands for.
    yield* response.body as unknown as AsyncIterable<Uint8Array>
  } catch (error) {
    signal?.throwIfAborted()
    throw new SluiceConnectionError(`${response.url}: ${reasonOf(error)}`, { cause: error })
  } finally {
    releases.get(response)?.()
  }
}

/** fetch says "fetch failed" and puts the reason below. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause ? error.cause : error
  if (cause instanceof AggregateError && cause.errors.length > 0) return reasonOf(cause.errors[0])
  return cause instanceof Error ? cause.message || cause.name : String(cause)
}

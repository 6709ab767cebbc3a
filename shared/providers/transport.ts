import { AsyncLocalStorage } from 'node:async_hooks'
import {
  Agent,
  type Dispatcher,
  ProxyAgent,
  request,
  type RequestInit as UndiciInit,
  fetch as undiciFetch,
} from 'undici'
import { type ProxySettings, proxyFor } from '#shared/settings/proxy.ts'

/** The state that the transport shares with the call in progress. */
export type TrackedCall = {
  signal: AbortSignal
  streaming: boolean
  /** A request was started and may have reached the provider. */
  fetched: boolean
  /** Sent as a header. */
  traceparent: string | undefined
  /** Called with the headers of an answer as soon as they arrive; the body may never arrive. */
  heard(headers: Headers): void
}

const inFlight = new AsyncLocalStorage<TrackedCall>()
export const trackCall = <T>(carried: TrackedCall, run: () => Promise<T>): Promise<T> => inFlight.run(carried, run)

/**
 * No timeouts, because `guarded` has them. No HTTP/2, which undici would choose: a broken connection would abort all
 * calls on it. With HTTP/1.1 each call has its own connection.
 */
const OPTIONS = { headersTimeout: 0, bodyTimeout: 0, allowH2: false }
const direct = new Agent(OPTIONS)

/** Chooses the connections of a request: through a proxy if the settings name one for its URL. */
function createDispatchers(proxies: ProxySettings | undefined): (url: string) => Dispatcher {
  if (!proxies) return () => direct
  const agents = new Map<string, Dispatcher>()
  return url => {
    const uri = proxyFor(proxies, new URL(url))
    if (uri === null) return direct
    let agent = agents.get(uri)
    // `https://` goes through a tunnel. `http://` is forwarded, because not every proxy opens tunnels to any port.
    if (!agent) {
      agent = new ProxyAgent({ ...OPTIONS, uri })
      agents.set(uri, agent)
    }
    return agent
  }
}

/**
 * undici's fetch instead of Node's, which has fixed timeouts of 300 s for the headers and for each pause in the body,
 * and accepts only agents of its own version.
 */
const streamingFetch = (input: Parameters<typeof fetch>[0], init: RequestInit | undefined, dispatcher: Dispatcher) =>
  // The types differ only by version.
  undiciFetch(String(input), {
    ...(init as object as UndiciInit),
    dispatcher,
  }) as Promise<unknown> as Promise<Response>

/**
 * The fetch of the SDKs. Unstreamed answers use undici's `request`, which costs less than half as much as fetch
 * (decision 0020). Streams, and requests outside a call, use undici's fetch.
 */
const createTrackedFetch =
  (dispatcherOf: (url: string) => Dispatcher): typeof fetch =>
  async (input, init) => {
    const call = inFlight.getStore()
    // The caller of an aborted call was already told that nothing was sent.
    call?.signal.throwIfAborted()
    if (call) call.fetched = true
    if (call?.traceparent) init = { ...init, headers: withTrace(init?.headers, call.traceparent) }
    if (!call || call.streaming || typeof init?.body !== 'string') {
      const response = await streamingFetch(input, init, dispatcherOf(String(input)))
      call?.heard(response.headers)
      return response
    }
    try {
      const { statusCode, headers, body } = await request(String(input), {
        dispatcher: dispatcherOf(String(input)),
        method: 'POST',
        headers: Object.fromEntries(init.headers instanceof Headers ? init.headers : new Headers(init.headers)),
        body: init.body,
        signal: init.signal ?? null,
      })
      const known = new Headers()
      for (const [name, value] of Object.entries(headers))
        for (const one of [value].flat()) if (one !== undefined) known.append(name, one)
      call.heard(known)
      return new WholeResponse(await body.text(), { status: statusCode, headers: known })
    } catch (error) {
      init.signal?.throwIfAborted()
      // The error that fetch throws, which the SDKs recognize.
      throw new TypeError('fetch failed', { cause: error })
    }
  }

/** `trackedFetch` through the proxies of the settings. */
export const createFetch = (proxies: ProxySettings | undefined): typeof fetch =>
  proxies ? createTrackedFetch(createDispatchers(proxies)) : trackedFetch

export const trackedFetch: typeof fetch = createTrackedFetch(createDispatchers(undefined))

function withTrace(headers: ConstructorParameters<typeof Headers>[0], traceparent: string): Headers {
  const all = new Headers(headers)
  all.set('traceparent', traceparent)
  return all
}

/**
 * A response whose body has already arrived. Turning it into a stream and reading that would cost more than everything
 * else.
 */
class WholeResponse extends Response {
  override readonly text: () => Promise<string>
  override readonly json: () => Promise<unknown>
  constructor(text: string, init: ResponseInit) {
    super(null, init)
    this.text = async () => text
    this.json = async () => JSON.parse(text)
  }
}

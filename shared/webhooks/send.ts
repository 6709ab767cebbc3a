import http from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'
import { createResolve, type Resolve } from './resolve.ts'
import { parseRetryAfter } from './retry.ts'
import { hostOf, mayReach, refusal, type TargetPolicy } from './target.ts'

export type Sent =
  | { kind: 'answered'; status: number; retryAfterMs: number | null }
  /** Nobody was asked: the address is not one that may be. */
  | { kind: 'forbidden'; message: string }
  | { kind: 'timeout' }
  /** `code` such as ECONNREFUSED, ENOTFOUND. */
  | { kind: 'unreachable'; code: string }
  /** By `signal`. */
  | { kind: 'stopped' }

export type Send = (
  message: { url: string; headers: Record<string, string>; body: string },
  signal: AbortSignal,
) => Promise<Sent>

/** Name, connection and the head of the answer. */
const TIMEOUT_MS = 10_000
/** Of the answer's body, which nobody reads, so that a receiver can finish writing it. */
const MOST_BODY_BYTES = 4096
const BODY_MS = 1000

/**
 * POSTs to targets that clients named. Addresses are checked after the name was resolved, and those that were checked
 * are connected to. No redirect is followed, no proxy asked and no connection kept.
 */
export function createSend(options: { policy: TargetPolicy; resolve?: Resolve; timeoutMs?: number }): Send {
  const { policy, resolve = createResolve(), timeoutMs = TIMEOUT_MS } = options
  const plain = new http.Agent()
  const tls = new https.Agent()

  return async ({ url: text, headers, body }, stop) => {
    if (stop.aborted) return { kind: 'stopped' }
    const cancel = new AbortController()
    const abort = () => cancel.abort()
    let late = false
    const timer = setTimeout(() => {
      late = true
      abort()
    }, timeoutMs)
    stop.addEventListener('abort', abort)
    try {
      const url = new URL(text)
      const addresses = await unlessAborted(resolve(hostOf(url)), cancel.signal)
      if (!addresses.every(({ address }) => mayReach(url, address, policy)))
        return { kind: 'forbidden', message: refusal(url) }
      const { promise, resolve: done, reject } = Promise.withResolvers<http.IncomingMessage>()
      const request = (url.protocol === 'https:' ? https : http).request({
        method: 'POST',
        agent: url.protocol === 'https:' ? tls : plain,
        host: hostOf(url),
        port: url.port,
        path: `${url.pathname}${url.search}`,
        headers: { ...headers, 'content-length': Buffer.byteLength(body) },
        // Not called for a literal address, which is itself what was checked.
        lookup: ((_, { all }, callback) =>
          all
            ? callback(null, addresses)
            : callback(null, addresses[0]!.address, addresses[0]!.family)) as LookupFunction,
        signal: cancel.signal,
      })
      // Also after the answer's head, when nobody waits any more.
      request.on('error', reject)
      request.on('response', done)
      request.end(body)
      const response = await promise
      skipBody(response)
      const { statusCode: status = 0 } = response
      return { kind: 'answered', status, retryAfterMs: parseRetryAfter(response.headers['retry-after'], Date.now()) }
    } catch (error) {
      if (stop.aborted) return { kind: 'stopped' }
      if (late) return { kind: 'timeout' }
      return { kind: 'unreachable', code: String((error as NodeJS.ErrnoException).code ?? 'EUNKNOWN') }
    } finally {
      clearTimeout(timer)
      stop.removeEventListener('abort', abort)
    }
  }
}

function skipBody(response: http.IncomingMessage): void {
  let bytes = 0
  const timer = setTimeout(() => response.destroy(), BODY_MS)
  response.on('close', () => clearTimeout(timer))
  response.on('error', () => {})
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > MOST_BODY_BYTES) response.destroy()
  })
}

/** DNS cannot be interrupted: it is left alone. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  return Promise.race([work, promise])
}

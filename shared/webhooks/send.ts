import http from 'node:http'
import https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { now } from '#shared/process/clock.ts'
import { type ProxySettings, proxyEnv, proxyFor } from '#shared/settings/proxy.ts'
import { createResolve, type Resolve } from './resolve.ts'
import { parseRetryAfter } from './retry.ts'
import { hostName, isAllowedAddress, isAllowedName, notAllowedMessage, type TargetPolicy } from './target.ts'

export type SendOutcome =
  | { kind: 'answered'; status: number; retryAfterMs: number | null }
  /** The address is not allowed. No request was made. */
  | { kind: 'forbidden'; message: string }
  | { kind: 'timeout' }
  /** `code` such as ECONNREFUSED, ENOTFOUND. */
  | { kind: 'unreachable'; code: string }
  /** Aborted by `signal`. */
  | { kind: 'stopped' }

export type Send = (
  message: { url: string; headers: Record<string, string>; body: string },
  signal: AbortSignal,
) => Promise<SendOutcome>

/** Time for name resolution, connection and response headers. */
const TIMEOUT_MS = 10_000
/** The response body is discarded up to these limits, so that the receiver can finish writing it. */
const MAX_BODY_BYTES = 4096
const BODY_MS = 1000

/**
 * Sends POST requests to targets chosen by clients. Names are resolved first, and the connection goes to the checked address, also
 * through a proxy, which receives the address instead of the name. Only a name that does not resolve here and that WEBHOOK_ALLOW
 * contains is resolved by the proxy. Redirects are not followed, and connections are not kept.
 */
export function createSend(options: {
  policy: TargetPolicy
  proxies?: ProxySettings | undefined
  resolve?: Resolve
  timeoutMs?: number
}): Send {
  const { policy, proxies, resolve = createResolve(), timeoutMs = TIMEOUT_MS } = options
  const plain = new http.Agent()
  const tls = new https.Agent()

  const agents = new Map<string, http.Agent>()
  const agentOf = (proxy: string, protocol: string): http.Agent => {
    const key = `${protocol} ${proxy}`
    let agent = agents.get(key)
    if (!agent) {
      agent = new (protocol === 'https:' ? https : http).Agent({ proxyEnv: proxyEnv(proxy) })
      agents.set(key, agent)
    }
    return agent
  }

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
      const proxy = proxies ? proxyFor(proxies, url) : null
      const host = hostName(url)
      const addresses = await unlessAborted(resolve(host), cancel.signal).catch(error => {
        if (proxy === null || cancel.signal.aborted || !isAllowedName(host, policy)) throw error
        return []
      })
      if (!addresses.every(({ address }) => isAllowedAddress(url, address, policy)))
        return { kind: 'forbidden', message: notAllowedMessage(url) }
      const { promise, resolve: done, reject } = Promise.withResolvers<http.IncomingMessage>()
      const request = (url.protocol === 'https:' ? https : http).request({
        method: 'POST',
        ...(proxy === null
          ? { agent: url.protocol === 'https:' ? tls : plain, host }
          : {
              agent: agentOf(proxy, url.protocol),
              host: addresses[0]?.address ?? host,
              servername: isIP(host) ? '' : host,
            }),
        port: url.port,
        path: `${url.pathname}${url.search}`,
        headers: { host: url.host, ...headers, 'content-length': Buffer.byteLength(body) },
        // Not called for a literal address, which was checked itself.
        lookup: ((_, { all }, callback) =>
          all
            ? callback(null, addresses)
            : callback(null, addresses[0]!.address, addresses[0]!.family)) as LookupFunction,
        signal: cancel.signal,
      })
      // Also needed after the response headers, when the promise is settled.
      request.on('error', reject)
      request.on('response', done)
      request.end(body)
      const response = await promise
      skipBody(response)
      const { statusCode: status = 0 } = response
      return { kind: 'answered', status, retryAfterMs: parseRetryAfter(response.headers['retry-after'], now()) }
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
    if (bytes > MAX_BODY_BYTES) response.destroy()
  })
}

/** Rejects when aborted. The DNS lookup itself cannot be interrupted and continues. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  return Promise.race([work, promise])
}

import http from 'node:http'
import https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { type ProxySettings, proxyEnv, proxyFor } from '#shared/settings/proxy.ts'
import { createResolve, type Resolve } from './resolve.ts'
import { hostName, isAllowedAddress, isAllowedName, notAllowedMessage, type TargetPolicy } from './target.ts'

export type GuardedOptions = {
  policy: TargetPolicy
  proxies?: ProxySettings | undefined
  resolve?: Resolve | undefined
}

/** `body`: absent for GET. */
export type GuardedMessage = { url: URL; method: 'GET' | 'POST'; headers: Record<string, string>; body?: string }

export type GuardedAnswer =
  | { kind: 'answered'; response: http.IncomingMessage }
  /** The address is not allowed. No request was made. */
  | { kind: 'forbidden'; message: string }

/**
 * Makes HTTP requests to targets chosen by clients. Names are resolved first, and the connection goes to the checked address, also
 * through a proxy, which receives the address instead of the name. Only a name that does not resolve here and that WEBHOOK_ALLOW
 * contains is resolved by the proxy. Redirects are not followed, and connections are not kept.
 */
export function createGuardedRequest({ policy, proxies, resolve = createResolve() }: GuardedOptions) {
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

  /** @throws the error of the connection, or the reason of the signal */
  return async ({ url, method, headers, body }: GuardedMessage, signal: AbortSignal): Promise<GuardedAnswer> => {
    const proxy = proxies ? proxyFor(proxies, url) : null
    const host = hostName(url)
    const addresses = await unlessAborted(resolve(host), signal).catch(error => {
      if (proxy === null || signal.aborted || !isAllowedName(host, policy)) throw error
      return []
    })
    if (!addresses.every(({ address }) => isAllowedAddress(url, address, policy)))
      return { kind: 'forbidden', message: notAllowedMessage(url) }
    const { promise, resolve: done, reject } = Promise.withResolvers<http.IncomingMessage>()
    const request = (url.protocol === 'https:' ? https : http).request({
      method,
      ...(proxy === null
        ? { agent: url.protocol === 'https:' ? tls : plain, host }
        : {
            agent: agentOf(proxy, url.protocol),
            host: addresses[0]?.address ?? host,
            servername: isIP(host) ? '' : host,
          }),
      port: url.port,
      path: `${url.pathname}${url.search}`,
      headers: {
        host: url.host,
        ...headers,
        ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
      },
      // Not called for a literal address, which was checked itself.
      lookup: ((_, { all }, callback) =>
        all
          ? callback(null, addresses)
          : callback(null, addresses[0]!.address, addresses[0]!.family)) as LookupFunction,
      signal,
    })
    // Also needed after the response headers, when the promise is settled.
    request.on('error', reject)
    request.on('response', done)
    request.end(body)
    return { kind: 'answered', response: await promise }
  }
}

/** Rejects when aborted. The DNS lookup itself cannot be interrupted and continues. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  return Promise.race([work, promise])
}

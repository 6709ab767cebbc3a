import { isIPv6 } from 'node:net'
import type { ProviderDescriptor } from '#shared/models/providers.ts'
import { ConfigError } from './config-error.ts'

/**
 * Converts a provider's address to the form that its SDK expects. Accepts addresses with or without a trailing slash, with or without
 * the version of the API, and URLs of endpoints. Keeps other paths, because gateways have their own.
 * @throws ConfigError if the address is invalid; the message does not contain it
 */
export function providerUrl(
  { env, adapter, baseUrl }: { env: { url: string; key?: string }; adapter: Adapter | 'none'; baseUrl: string },
  address: string | undefined,
): string {
  if (address === undefined) return baseUrl
  const text = adapter === 'ollama' ? ollamaAddress(address) : address
  const url = text !== null && !/\s/.test(text) ? URL.parse(text) : null
  if (!url || !/^https?:$/.test(url.protocol))
    throw new ConfigError(`${env.url}: is not an address such as ${baseUrl}; it must begin with http:// or https://`)
  if (url.username || url.password)
    throw new ConfigError(`${env.url}: must not hold a user name or password${env.key ? `; use ${env.key}` : ''}`)
  if (url.search || url.hash) throw new ConfigError(`${env.url}: must not have a query or fragment`)
  return `${url.origin}${PATHS[adapter](url.pathname.replace(/\/+$/, ''), url, new URL(baseUrl))}`
}

type Adapter = ProviderDescriptor['adapter']

const PATHS: Record<Adapter | 'none', (path: string, url: URL, vendor: URL) => string> = {
  none: path => path,
  /** The SDK adds `/v1/messages`. */
  anthropic: path => path.replace(/\/v1(?:\/messages)?$/, ''),
  /** The SDK adds `/chat/completions`. The address includes the version, unless the vendor's own address has none. */
  openai(path, url, vendor) {
    const own = vendor.pathname.replace(/\/+$/, '')
    const base = path.replace(/\/(?:chat\/completions|completions|embeddings|models|responses)$/, '')
    if (base === '') return own
    // Google serves OpenAI's format below its own version: `/v1beta/openai`.
    const version = /^(\/v1(?:beta)?)\//.exec(`${own}/`)?.[1]
    const isPart = own !== version && (base === version || (url.host === vendor.host && /^\/v1(?:beta)?$/.test(base)))
    return own.startsWith('/') && isPart ? own : base
  },
  /** The SDK adds `/api/chat`. Under `/v1` Ollama serves OpenAI's format. */
  ollama: path => path.replace(/\/(?:v1|api)$/, ''),
}

/**
 * Reads `OLLAMA_HOST` in the forms of Ollama's own tools: `host`, `host:port`, `:port`, an IPv6 address with or without brackets, or a
 * URL. Without a scheme the default port is 11434. An address for all interfaces (0.0.0.0) means this machine.
 * @returns null: invalid
 */
function ollamaAddress(address: string): string | null {
  if (/\s/.test(address)) return null
  if (/^https?:\/\//i.test(address)) {
    const url = URL.parse(address)
    if (url) url.hostname = reachable(url.hostname)
    return url?.href ?? null
  }
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(address)) return null
  const [authority = '', path] = address.split(/\/(.*)/s)
  const [, host = '', port = '11434'] = isIPv6(authority)
    ? ['', `[${authority}]`]
    : (/^(.*?)(?::(\d+))?$/.exec(authority) ?? [])
  return `http://${reachable(host || '127.0.0.1')}:${port}${path ? `/${path}` : ''}`
}

const reachable = (host: string) =>
  host === '0.0.0.0' ? '127.0.0.1' : /^\[(?:::|0:0:0:0:0:0:0:0)\]$/.test(host) ? '[::1]' : host

import { BlockList, isIP } from 'node:net'
import { Type } from 'typebox'
import { cleanSetting } from './clean.ts'
import { ConfigError } from './config-error.ts'

/** Forward proxies for outgoing HTTP, by the scheme of the request. */
export type ProxySettings = {
  http: string | null
  https: string | null
  /** The text of `NO_PROXY`. */
  noProxy: string
}

const proxy = (of: string) =>
  Type.Optional(
    Type.String({
      minLength: 1,
      description: `Forward proxy for ${of}: \`http://user:password@host:port\`, or \`https://\`. The lower-case name takes precedence.`,
    }),
  )

export const proxySettings = {
  HTTPS_PROXY: proxy('`https://` requests to providers, webhooks, S3 and the trace collector'),
  HTTP_PROXY: proxy('their `http://` requests'),
  NO_PROXY: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Hosts to which requests go without a proxy, comma-separated: `host` (includes its subdomains), `.suffix`, `host:port`, addresses, CIDRs, or `*`. Loopback addresses never use a proxy.',
    }),
  ),
}

/** @throws ConfigError that names the setting, without its value, which may contain a password */
export function parseProxies(env: Record<string, string | undefined>): ProxySettings {
  const read = (name: keyof typeof proxySettings) =>
    cleanSetting(name.toLowerCase(), env[name.toLowerCase()]) ?? cleanSetting(name, env[name])
  const url = (name: 'HTTPS_PROXY' | 'HTTP_PROXY') => {
    const text = read(name)
    if (text === undefined) return null
    const parsed = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`)
    if (!parsed || !/^https?:$/.test(parsed.protocol) || /\s/.test(text))
      throw new ConfigError(`${name}: is not the address of an HTTP proxy, such as http://proxy.internal:3128`)
    return parsed.href.replace(/\/$/, '')
  }
  return { http: url('HTTP_PROXY'), https: url('HTTPS_PROXY'), noProxy: read('NO_PROXY') ?? '' }
}

/** The proxy for a request; null: none. */
export function proxyFor({ http, https, noProxy }: ProxySettings, url: URL): string | null {
  const proxy = url.protocol === 'https:' ? https : http
  if (proxy === null) return null
  const host = url.hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase()
  if (isOwn(host)) return null
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  const entries = noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)
  return entries.some(entry => isExempt(entry, host, port)) ? null : proxy
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/** Loopback addresses: a proxy would connect to its own machine. */
const isOwn = (host: string) =>
  host === 'localhost' || host.endsWith('.localhost') || (isIP(host) !== 0 && LOOPBACK.check(host, familyOf(host)))

const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4')

function isExempt(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true
  const [net = '', bits] = entry.split('/')
  if (bits !== undefined) return isIP(net) !== 0 && isIP(host) === isIP(net) && inSubnet(host, net, Number(bits))
  const [, name = entry, onlyPort] = isIP(entry) ? [] : (/^\[?(.*?)\]?(?::(\d+))?$/.exec(entry) ?? [])
  if (onlyPort !== undefined && onlyPort !== port) return false
  if (isIP(name) || isIP(host)) return name === host
  const suffix = name.replace(/^\*?\./, '').replace(/\.$/, '')
  return suffix !== '' && (host === suffix || host.endsWith(`.${suffix}`))
}

function inSubnet(host: string, net: string, bits: number): boolean {
  const most = isIP(net) === 6 ? 128 : 32
  if (!Number.isInteger(bits) || bits < 0 || bits > most) return false
  const list = new BlockList()
  list.addSubnet(net, bits, familyOf(net))
  return list.check(host, familyOf(host))
}

/** The option `proxyEnv` of agents of `node:http`, which create the tunnel themselves. */
export const proxyEnv = (proxy: string): { HTTP_PROXY: string; HTTPS_PROXY: string } => ({
  HTTP_PROXY: proxy,
  HTTPS_PROXY: proxy,
})

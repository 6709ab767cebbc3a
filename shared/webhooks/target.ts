import { BlockList, isIP } from 'node:net'

/** What the operator lets webhooks reach beyond public addresses. */
export type TargetPolicy = {
  names: ReadonlySet<string>
  /** Of names below these, such as `.internal`. */
  suffixes: readonly string[]
  /** By family: a BlockList takes an IPv4 address for the IPv6 address that maps it. */
  addresses: Record<4 | 6, BlockList>
  /** Some names may be reached only by what they resolve to. */
  byAddress: boolean
}

const list = (family: 'ipv4' | 'ipv6', subnets: string) => {
  const found = new BlockList()
  for (const subnet of subnets.trim().split(/\s+/)) {
    const [net, prefix] = subnet.split('/') as [string, string]
    found.addSubnet(net, Number(prefix), family)
  }
  return found
}

/**
 * Not for everybody (IANA's special-purpose registries): this network, private, carrier-grade NAT, loopback, link-local
 * with the clouds' metadata, protocol assignments, examples, 6to4 relays, benchmarks, multicast, reserved, broadcast; and
 * 168.63.129.16, by which Azure's machines reach their host.
 */
const NOT_PUBLIC_4 = list(
  'ipv4',
  `0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
  192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32`,
)
/** All that is given out to the public. Loopback, unique-local, link-local, multicast, mapped and NAT64 are not in it. */
const GLOBAL_6 = list('ipv6', '2000::/3')
/** But for protocol assignments (Teredo, ORCHID, benchmarks), examples and 6to4, some of which hold an IPv4 address. */
const NOT_PUBLIC_6 = list('ipv6', '2001::/23 2001:db8::/32 2002::/16 3fff::/20')

const isPublic = (address: string, family: 4 | 6): boolean =>
  family === 4
    ? !NOT_PUBLIC_4.check(address, 'ipv4')
    : GLOBAL_6.check(address, 'ipv6') && !NOT_PUBLIC_6.check(address, 'ipv6')

const NAME = /^(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/

/**
 * Reads WEBHOOK_ALLOW: addresses, CIDRs and names, `*.` for all names below, comma-separated.
 * @throws naming the part that is none of these
 */
export function parseTargets(allow: string): TargetPolicy {
  const names = new Set<string>()
  const suffixes: string[] = []
  const addresses = { 4: new BlockList(), 6: new BlockList() }
  let byAddress = false
  for (const part of allow.split(',').map(one => one.trim().toLowerCase())) {
    if (part === '') continue
    const [net = '', prefix, ...more] = part.split('/')
    const family = isIP(net) as 0 | 4 | 6
    const most = family === 4 ? 32 : 128
    const bits = prefix === undefined ? most : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN
    if (family !== 0 && more.length === 0 && bits <= most && !net.includes('%')) {
      addresses[family].addSubnet(net, bits, family === 4 ? 'ipv4' : 'ipv6')
      byAddress = true
    } else if (family === 0 && NAME.test(part) && !/(^|\.)\d+$/.test(part)) {
      if (part.startsWith('*.')) suffixes.push(part.slice(1))
      else names.add(part)
    } else {
      throw new Error(`"${part}" is no address, CIDR or name`)
    }
  }
  return { names, suffixes, addresses, byAddress }
}

/** The host of a URL as policies and resolvers name it. The parser has brought IPv4 to its usual form, whatever it was written as. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')

const isNamed = (host: string, policy: TargetPolicy): boolean =>
  policy.names.has(host) || policy.suffixes.some(suffix => host.endsWith(suffix))

/**
 * Whether `address`, which the host of `url` is or resolves to, may be connected to. Without TLS only what the operator
 * allowed: an answer on the way is otherwise anybody's.
 */
export function mayReach(url: URL, address: string, policy: TargetPolicy): boolean {
  const family = isIP(address) as 0 | 4 | 6
  // A zone (`fe80::1%eth0`) is only ever link-local.
  if (family === 0 || address.includes('%')) return false
  if (isNamed(hostOf(url), policy) || policy.addresses[family].check(address, family === 4 ? 'ipv4' : 'ipv6'))
    return true
  return url.protocol === 'https:' && isPublic(address, family)
}

/**
 * What can be said of a webhook's URL before its name is resolved. Whether it may be reached is decided again when it is.
 * @returns what is wrong with it; null: nothing that shows
 */
export function assertTarget(text: string, policy: TargetPolicy): string | null {
  // The parser would drop white space, some of it silently from the middle.
  const url = /[\s\p{Cc}]/u.test(text) ? null : URL.parse(text)
  if (!url || url.hostname === '') return 'is not a URL'
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must begin with https://'
  if (url.username !== '' || url.password !== '') return 'must not hold a user name or password'
  const host = hostOf(url)
  if (isIP(host)) return mayReach(url, host, policy) ? null : refusal(url)
  if (isNamed(host, policy)) return null
  if (host === 'localhost' || host.endsWith('.localhost')) return policy.byAddress ? null : refusal(url)
  return url.protocol === 'http:' && !policy.byAddress ? refusal(url) : null
}

/** Without the address that a name resolved to, which may be nobody else's business. */
export const refusal = (url: URL): string =>
  url.protocol === 'http:'
    ? 'is not allowed: only https:// to public addresses is, unless WEBHOOK_ALLOW names the target'
    : 'is not allowed: only public addresses are, unless WEBHOOK_ALLOW names the target'

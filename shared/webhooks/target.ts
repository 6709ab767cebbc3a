import { BlockList, isIP } from 'node:net'

/** Targets that the operator allows beyond public addresses. */
export type TargetPolicy = {
  names: ReadonlySet<string>
  /** Names below these are allowed, such as `.internal`. */
  suffixes: readonly string[]
  /** Separate by family, because a BlockList treats an IPv4 address like the IPv6 address that maps it. */
  addresses: Record<4 | 6, BlockList>
  /** There are allowed addresses, so that any name may be allowed after its resolution. */
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
 * Not public (IANA's special-purpose registries): this network, private, carrier-grade NAT, loopback, link-local
 * with the clouds' metadata, protocol assignments, examples, 6to4 relays, benchmarks, multicast, reserved, broadcast; and
 * 168.63.129.16, the host of Azure's virtual machines.
 */
const NOT_PUBLIC_4 = list(
  'ipv4',
  `0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
  192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32`,
)
/** The public range. It excludes loopback, unique-local, link-local, multicast, mapped and NAT64 addresses. */
const GLOBAL_6 = list('ipv6', '2000::/3')
/** Exceptions: protocol assignments (Teredo, ORCHID, benchmarks), examples and 6to4. Some of them contain an IPv4 address. */
const NOT_PUBLIC_6 = list('ipv6', '2001::/23 2001:db8::/32 2002::/16 3fff::/20')

const isPublic = (address: string, family: 4 | 6): boolean =>
  family === 4
    ? !NOT_PUBLIC_4.check(address, 'ipv4')
    : GLOBAL_6.check(address, 'ipv6') && !NOT_PUBLIC_6.check(address, 'ipv6')

const NAME = /^(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/

/**
 * Parses WEBHOOK_ALLOW: comma-separated addresses, CIDRs and names, with `*.` for all names below.
 * @throws an Error that names the invalid part
 */
export function parseTargetPolicy(allow: string): TargetPolicy {
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

/** The host of a URL without brackets and final dot. The URL parser normalises all notations of IPv4. */
export const hostName = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')

/** Whether the operator allows the name, whatever it resolves to. */
export const isAllowedName = (host: string, policy: TargetPolicy): boolean =>
  policy.names.has(host) || policy.suffixes.some(suffix => host.endsWith(suffix))

/**
 * Whether a connection to `address`, the resolved host of `url`, is allowed. Without TLS only targets that the operator allowed: others
 * could be intercepted.
 */
export function isAllowedAddress(url: URL, address: string, policy: TargetPolicy): boolean {
  const family = isIP(address) as 0 | 4 | 6
  // Addresses with a zone (`fe80::1%eth0`) are link-local.
  if (family === 0 || address.includes('%')) return false
  if (isAllowedName(hostName(url), policy) || policy.addresses[family].check(address, family === 4 ? 'ipv4' : 'ipv6'))
    return true
  return url.protocol === 'https:' && isPublic(address, family)
}

/**
 * Checks a webhook's URL before its name is resolved. The resolved address is checked at each delivery.
 * @returns the problem; null: none
 */
export function targetProblem(text: string, policy: TargetPolicy): string | null {
  // The URL parser removes white space silently.
  const url = /[\s\p{Cc}]/u.test(text) ? null : URL.parse(text)
  if (!url || url.hostname === '') return 'is not a URL'
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must begin with https://'
  if (url.username !== '' || url.password !== '') return 'must not hold a user name or password'
  const host = hostName(url)
  if (isIP(host)) return isAllowedAddress(url, host, policy) ? null : notAllowedMessage(url)
  if (isAllowedName(host, policy)) return null
  if (host === 'localhost' || host.endsWith('.localhost')) return policy.byAddress ? null : notAllowedMessage(url)
  return url.protocol === 'http:' && !policy.byAddress ? notAllowedMessage(url) : null
}

/** Does not reveal the address that a name resolved to. */
export const notAllowedMessage = (url: URL): string =>
  url.protocol === 'http:'
    ? 'is not allowed: only https:// to public addresses is, unless WEBHOOK_ALLOW names the target'
    : 'is not allowed: only public addresses are, unless WEBHOOK_ALLOW names the target'

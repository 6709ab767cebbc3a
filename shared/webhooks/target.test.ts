import { isIPv4 } from 'node:net'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hostName, isAllowedAddress, parseTargetPolicy, targetProblem } from './target.ts'

const none = parseTargetPolicy('')
const https = new URL('https://x.app')
const http = new URL('http://x.app')

const byte = fc.integer({ min: 0, max: 255 })
const ipv4 = fc.tuple(byte, byte, byte, byte)
const within = (net: [number, number, number, number], bits: number) =>
  ipv4.map(random => {
    const mask = (bits === 0 ? 0 : ~0 << (32 - bits)) >>> 0
    const value = ((toNumber(net) & mask) | (toNumber(random) & ~mask)) >>> 0
    return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255] as [number, number, number, number]
  })
const toNumber = ([a, b, c, d]: [number, number, number, number]) => ((a << 24) | (b << 16) | (c << 8) | d) >>> 0
const text = (one: [number, number, number, number]) => one.join('.')

const inside = fc.oneof(
  within([127, 0, 0, 1], 8),
  within([10, 0, 0, 0], 8),
  within([172, 16, 0, 0], 12),
  within([192, 168, 0, 0], 16),
  within([169, 254, 0, 0], 16),
  within([100, 64, 0, 0], 10),
  within([0, 0, 0, 0], 8),
  within([224, 0, 0, 0], 4),
  within([240, 0, 0, 0], 4),
)

/** Every notation of an IPv4 address in the WHATWG parser, in inet_aton and in practice. */
const written = (address: fc.Arbitrary<[number, number, number, number]>) =>
  fc
    .tuple(
      address,
      fc.constantFrom(1, 2, 3, 4),
      fc.array(fc.constantFrom(10, 16, 8), { minLength: 4, maxLength: 4 }),
      fc.constantFrom('', '.'),
      fc.boolean(),
    )
    .map(([one, count, radixes, dot, wide]) => {
      const last = toNumber(one) % 256 ** (5 - count)
      const parts = [...one.slice(0, count - 1), last]
      const spelled = parts.map((part, index) => {
        const radix = radixes[index]!
        return (radix === 16 ? '0x' : radix === 8 ? '0' : '') + part.toString(radix)
      })
      const host = spelled.join('.') + dot
      // URL parsers accept full-width digits and dots.
      return wide
        ? host.replace(/\d/g, digit => String.fromCodePoint(0xff10 + Number(digit))).replaceAll('.', '。')
        : host
    })

/** IPv6 addresses that contain an IPv4 address: compatible, mapped, translated, NAT64, 6to4, Teredo server. */
const embedding = ([a, b, c, d]: [number, number, number, number]) => {
  const hex = (one: number, two: number) => ((one << 8) | two).toString(16)
  const [high, low] = [hex(a, b), hex(c, d)]
  return [
    `::${high}:${low}`,
    `::ffff:${high}:${low}`,
    `::ffff:${a}.${b}.${c}.${d}`,
    `::ffff:0:${high}:${low}`,
    `64:ff9b::${high}:${low}`,
    `64:ff9b:1::${high}:${low}`,
    `2002:${high}:${low}::1`,
    `2001:0:${high}:${low}::`,
  ]
}

describe('a special-purpose address', () => {
  it('is refused in every notation', () => {
    fc.assert(
      fc.property(written(inside), host => {
        for (const scheme of ['http', 'https', 'HTTPS'])
          expect(targetProblem(`${scheme}://${host}:8080/hook?a=b`, none), host).toMatch(/not allowed/)
      }),
    )
  })

  it('is refused inside an IPv6 address, like any other IPv4 address', () => {
    fc.assert(
      fc.property(fc.oneof(inside, ipv4), one => {
        for (const address of embedding(one)) {
          expect(targetProblem(`https://[${address}]/`, none), address).toMatch(/not allowed/)
          expect(isAllowedAddress(https, address, none), address).toBe(false)
        }
      }),
    )
  })

  it.each([
    ...[
      '127.0.0.1',
      '169.254.169.254',
      '100.100.100.200',
      '192.0.0.192',
      '168.63.129.16',
      '255.255.255.255',
      '0.0.0.0',
    ],
    ...['198.18.0.1', '192.0.2.1', '203.0.113.9', '::', '::1', 'fe80::1', 'fe80::1%eth0', 'fc00::1', 'fd00:ec2::254'],
    ...['ff02::1', 'fec0::1', '100::1', '2001:db8::1', '2001:10::1', '3fff::1', '5f00::1', '4000::1', 'localhost', ''],
  ])('such as %s is refused', address => {
    expect(isAllowedAddress(https, address, none)).toBe(false)
  })
})

describe('a public address', () => {
  it.each([
    '1.1.1.1',
    '8.8.8.8',
    '93.184.216.34',
    '172.15.0.1',
    '172.32.0.1',
    '100.128.0.1',
    '2606:4700::1111',
    '2a00::1',
  ])('such as %s is allowed with TLS, and without TLS only if the operator allows it', address => {
    expect(isAllowedAddress(https, address, none)).toBe(true)
    expect(isAllowedAddress(http, address, none)).toBe(false)
    expect(isAllowedAddress(http, address, parseTargetPolicy(address))).toBe(true)
  })
})

describe('a target', () => {
  it.each([
    'https://my.app/hook',
    'https://my.app:8443/hook?token=1#x',
    'HTTPS://MY.APP',
    'https://1.1.1.1/',
    'https://[2606:4700::1111]:444/hook',
    'https://münchen.example/hook',
  ])('may be %s', url => expect(targetProblem(url, none)).toBeNull())

  it.each([
    ['my.app/hook', 'is not a URL'],
    ['https://', 'is not a URL'],
    ['', 'is not a URL'],
    ['https://my .app/', 'is not a URL'],
    ['https://my.app/\n', 'is not a URL'],
    ['ftp://my.app/', 'must begin with https://'],
    ['file:///etc/passwd', 'is not a URL'],
    ['javascript:alert(1)', 'is not a URL'],
    ['https://user@my.app/', 'must not hold a user name or password'],
    ['https://:word@my.app/', 'must not hold a user name or password'],
    ['http://my.app/', expect.stringMatching(/not allowed: only https/)],
    ['https://localhost/', expect.stringMatching(/not allowed/)],
    ['https://LocalHost./', expect.stringMatching(/not allowed/)],
    ['https://a.localhost:80/', expect.stringMatching(/not allowed/)],
    ['http://0x7f.1', expect.stringMatching(/not allowed/)],
    ['http://2130706433', expect.stringMatching(/not allowed/)],
    ['https://[::ffff:127.0.0.1]', expect.stringMatching(/not allowed/)],
    ['https://127.0.0.1.', expect.stringMatching(/not allowed/)],
    ['https://①②⑦.⓪.⓪.①', expect.stringMatching(/not allowed/)],
    ['https:\\\\127.0.0.1\\', expect.stringMatching(/not allowed/)],
    ['https:127.0.0.1', expect.stringMatching(/not allowed/)],
  ])('may not be %j', (url, wrong) => expect(targetProblem(url, none)).toEqual(wrong))
})

describe('WEBHOOK_ALLOW', () => {
  const policy = parseTargetPolicy(' 10.1.0.0/16, fd00::/8,127.0.0.1 , Hooks.internal,*.apps.internal')

  it.each([
    ['http://10.1.2.3/', true],
    ['http://10.2.2.3/', false],
    ['http://127.0.0.1:3000/', true],
    ['http://127.0.0.2:3000/', false],
    // A different address of the same machine.
    ['http://[::ffff:127.0.0.1]/', false],
    ['https://[fd12::1]/', true],
    ['https://[fc12::1]/', false],
    ['http://hooks.internal/', true],
    ['http://HOOKS.internal./', true],
    ['http://x.hooks.internal/', true],
    ['http://a.b.apps.internal/', true],
    ['http://localhost/', true],
  ])('has %s looked at: %s', (url, fine) => expect(targetProblem(url, policy) === null).toBe(fine))

  it('allows hosts at any address and addresses under any name', () => {
    const at = (url: string, address: string) => isAllowedAddress(new URL(url), address, policy)
    expect(at('http://hooks.internal', '192.168.0.1')).toBe(true)
    expect(at('http://x.hooks.internal', '192.168.0.1')).toBe(false)
    expect(at('http://x.apps.internal', '::1')).toBe(true)
    expect(at('http://apps.internal', '::1')).toBe(false)
    expect(at('http://notapps.internal', '::1')).toBe(false)
    expect(at('http://elsewhere.app', '10.1.255.255')).toBe(true)
    expect(at('http://elsewhere.app', '10.2.0.0')).toBe(false)
    expect(at('http://elsewhere.app', '8.8.8.8')).toBe(false)
  })

  it.each([
    '10.0.0.0/33',
    'fd00::/129',
    '10.0.0.0/',
    '10.0.0/8',
    'a b',
    'http://x',
    'x:80',
    '*',
    '[::1]',
    'fe80::1%1',
    '1.2.3',
  ])('rejects %j', part =>
    expect(() => parseTargetPolicy(`ok.app,${part}`)).toThrow(`"${part}" is no address, CIDR or name`),
  )

  it('allows no other addresses', () => {
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 0, max: 32 }), ipv4, (net, bits, other) => {
        const mask = (bits === 0 ? 0 : ~0 << (32 - bits)) >>> 0
        const allowed = ((toNumber(net) ^ toNumber(other)) & mask) >>> 0 === 0
        expect(isAllowedAddress(http, text(other), parseTargetPolicy(`${text(net)}/${bits}`))).toBe(allowed)
      }),
    )
  })
})

it('the host of a URL is the name to resolve or the address to connect to', () => {
  expect(hostName(new URL('https://[::1]:80/'))).toBe('::1')
  expect(hostName(new URL('https://MY.app.:80/'))).toBe('my.app')
  fc.assert(
    fc.property(written(ipv4), host => {
      expect(isIPv4(hostName(new URL(`http://${host}/`)))).toBe(true)
    }),
  )
})

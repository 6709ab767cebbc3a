import { describe, expect, it } from 'vitest'
import { ConfigError } from './config-error.ts'
import { parseProxies, proxyFor } from './proxy.ts'

const chosen = (url: string, noProxy = '') =>
  proxyFor({ http: 'http://p:1', https: 'http://p:2', noProxy }, new URL(url))

describe('the proxy of a URL', () => {
  it('is the one for its scheme', () => {
    expect(chosen('http://a.example')).toBe('http://p:1')
    expect(chosen('https://a.example')).toBe('http://p:2')
    expect(proxyFor({ http: 'http://p', https: null, noProxy: '' }, new URL('https://a.example'))).toBeNull()
  })

  it.each([
    'http://localhost:11434',
    'http://LOCALHOST',
    'http://ollama.localhost',
    'http://127.0.0.1',
    'http://127.9.9.9:1',
    'http://[::1]:1',
  ])('is none for %s, which is this machine', url => expect(chosen(url)).toBeNull())

  it.each([
    ['*', 'https://a.example'],
    ['a.example', 'https://a.example'],
    ['A.Example', 'https://a.example'],
    ['example', 'https://a.example'],
    ['.example', 'https://a.example'],
    ['*.example', 'https://a.b.example'],
    ['other, a.example', 'https://a.example.'],
    ['other a.example', 'https://a.example'],
    ['a.example:443', 'https://a.example'],
    ['a.example:8000', 'http://a.example:8000'],
    ['10.0.0.0/8', 'http://10.1.2.3'],
    ['10.1.2.3', 'http://10.1.2.3'],
    ['fd00::/8', 'http://[fd00::1]:8000'],
    ['[fd00::1]:8000', 'http://[fd00::1]:8000'],
    ['fd00::1', 'http://[fd00::1]:8000'],
  ])('NO_PROXY=%s exempts %s', (noProxy, url) => expect(chosen(url, noProxy)).toBeNull())

  it.each([
    ['', 'https://a.example'],
    ['a.example', 'https://ba.example'],
    ['.a.example', 'https://example'],
    ['a.example:80', 'https://a.example'],
    ['10.0.0.0/8', 'http://11.1.2.3'],
    ['10.0.0.0/8', 'http://10.example'],
    ['10.0.0.0/99', 'http://10.1.2.3'],
    ['0.0.1', 'http://10.0.0.1'],
    ['.', 'https://a.example'],
  ])('NO_PROXY=%s does not exempt %s', (noProxy, url) => expect(chosen(url, noProxy)).not.toBeNull())
})

describe('the settings', () => {
  it('prefer lower-case names and accept a proxy without a scheme', () => {
    expect(
      parseProxies({ HTTPS_PROXY: 'http://upper:1', https_proxy: ' proxy.internal:3128\n', no_proxy: '"a, b"' }),
    ).toEqual({
      http: null,
      https: 'http://proxy.internal:3128',
      noProxy: 'a, b',
    })
    expect(parseProxies({ HTTP_PROXY: 'http://upper:1', http_proxy: '' }).http).toBe('http://upper:1')
  })

  it.each(['socks5://p:1', 'http://', 'a b', 'ftp://me:hunter2@p'])('reject %s by name, without its value', value => {
    expect(() => parseProxies({ HTTPS_PROXY: value })).toThrow(ConfigError)
    expect(() => parseProxies({ HTTPS_PROXY: value })).toThrow(/^HTTPS_PROXY: (?!.*hunter2)/)
  })
})

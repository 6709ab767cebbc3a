import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anthropicLimits, openaiLimits } from './rate-limits.ts'

const NOW = Date.parse('2026-01-01T12:00:00Z')
const anthropic = (headers: Record<string, string>, now = NOW) => anthropicLimits(new Headers(headers), now)
const openai = (headers: Record<string, string>) => openaiLimits(new Headers(headers), NOW)
const iso = (ms: number) => new Date(ms).toISOString()

describe('anthropicLimits', () => {
  const of = (name: string, limit: number, remaining: number, reset: string) => ({
    [`anthropic-ratelimit-${name}-limit`]: String(limit),
    [`anthropic-ratelimit-${name}-remaining`]: String(remaining),
    [`anthropic-ratelimit-${name}-reset`]: reset,
  })

  it('reads all four limits', () => {
    const headers = {
      ...of('requests', 50, 49, '2026-01-01T12:00:01Z'),
      ...of('tokens', 120_000, 90_000, '2026-01-01T12:00:15Z'),
      ...of('input-tokens', 100_000, 80_000, '2026-01-01T12:00:12Z'),
      ...of('output-tokens', 20_000, 10_000, '2026-01-01T12:00:30Z'),
    }
    expect(anthropic(headers)).toEqual({
      requests: { limit: 50, remaining: 49, resetMs: 1000 },
      tokens: { limit: 120_000, remaining: 90_000, resetMs: 15_000 },
      inputTokens: { limit: 100_000, remaining: 80_000, resetMs: 12_000 },
      outputTokens: { limit: 20_000, remaining: 10_000, resetMs: 30_000 },
    })
  })

  const resetOf = (reset: string, more: Record<string, string> = {}, now = NOW) =>
    anthropic({ ...of('requests', 5, 0, reset), ...more }, now)?.requests?.resetMs

  it.each([
    ['2026-01-01T12:00:09Z', 9000],
    ['2026-01-01T12:00:00.25Z', 250],
    ['2026-01-01t14:00:09+02:00', 9000],
    ['2026-01-01T11:59:50Z', 0],
    ['2024-01-01T12:00:00Z', null],
    ['2099-01-01T12:00:00Z', null],
    ['2026-13-01T12:00:00Z', null],
    ['2026-01-01', null],
    ['soon 5', null],
    ['9s', null],
    ['', null],
  ])('reads the reset %j', (reset, expected) => expect(resetOf(reset)).toBe(expected))

  it('computes the wait by the clock of the answer, not the local one', () => {
    const skew = fc.integer({ min: -1e11, max: 1e11 })
    fc.assert(
      fc.property(skew, fc.integer({ min: 0, max: 86_400 }), (offset, seconds) => {
        const date = new Date(NOW).toUTCString()
        expect(resetOf(iso(NOW + seconds * 1000), { date }, NOW + offset)).toBe(seconds * 1000)
      }),
    )
  })

  it.each(['', 'now', '2026-01-01T11:00:00Z', 'Thu, 99 Foo 2026 12:00:00 GMT'])(
    'counts it by the local clock when the date of the answer is %j',
    date => expect(resetOf('2026-01-01T12:00:09Z', { date })).toBe(9000),
  )
})

describe('openaiLimits', () => {
  it('reads both limits', () => {
    const headers = {
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': '1s',
      'x-ratelimit-limit-tokens': '150000',
      'x-ratelimit-remaining-tokens': '149984',
      'x-ratelimit-reset-tokens': '6m0s',
    }
    expect(openai(headers)).toEqual({
      requests: { limit: 60, remaining: 59, resetMs: 1000 },
      tokens: { limit: 150_000, remaining: 149_984, resetMs: 360_000 },
    })
  })

  const resetOf = (reset: string) =>
    openai({ 'x-ratelimit-remaining-tokens': '1', 'x-ratelimit-reset-tokens': reset })?.tokens?.resetMs

  it.each([
    ['6m0s', 360_000],
    ['1s', 1000],
    ['20ms', 20],
    ['1h2m3.5s', 3_723_500],
    ['7.66s', 7660],
    ['2m59.56s', 179_560],
    ['1d', 86_400_000],
    ['1m', 60_000],
    ['1m30ms', 60_030],
    ['500µs', 1],
    ['0s', 0],
    ['30', 30_000],
    ['0.5', 500],
    ['999d', null],
    ['1767268800', null],
    ['-5s', null],
    ['5s1m', null],
    ['5 s', null],
    ['1s2s', null],
    ['1..5s', null],
    ['.', null],
    ['s', null],
    ['1e3s', null],
    ['soon', null],
    ['', null],
  ])('reads the reset %j', (reset, expected) => expect(resetOf(reset)).toBe(expected))

  it('reads every duration that Go writes', () => {
    const part = (max: number) => fc.integer({ min: 0, max })
    fc.assert(
      fc.property(part(700), part(59), part(59), part(999), (h, m, s, ms) => {
        expect(resetOf(`${h}h${m}m${s + ms / 1000}s`)).toBe(((h * 60 + m) * 60 + s) * 1000 + ms)
      }),
    )
  })
})

describe.each([
  ['anthropicLimits', anthropicLimits, (field: string) => `anthropic-ratelimit-requests-${field}`],
  ['openaiLimits', openaiLimits, (field: string) => `x-ratelimit-${field}-requests`],
])('%s', (_, read, name) => {
  const limit = (fields: Record<string, string>) =>
    read(new Headers(Object.entries(fields).map(([field, value]) => [name(field), value])), NOW)

  it('returns null without the headers', () => {
    expect(read(new Headers({ 'content-type': 'application/json', date: new Date(NOW).toUTCString() }), NOW)).toBeNull()
  })

  it('accepts partial headers', () => {
    expect(limit({ limit: '5' })).toEqual({ requests: { limit: 5, remaining: null, resetMs: null } })
    expect(limit({ remaining: '0' })).toEqual({ requests: { limit: null, remaining: 0, resetMs: null } })
    expect(limit({ limit: 'many', remaining: '3.9' })).toEqual({
      requests: { limit: null, remaining: 3, resetMs: null },
    })
  })

  it('returns null for a reset alone, or for a limit of 0', () => {
    expect(limit({ reset: read === openaiLimits ? '5s' : iso(NOW) })).toBeNull()
    expect(limit({ limit: '0', remaining: '0' })).toBeNull()
  })

  it.each([
    '',
    'many',
    '-1',
    '1e3',
    '0x10',
    'NaN',
    'Infinity',
    '1,000',
    '5, 5',
    '1 000',
    '9'.repeat(14),
    '9'.repeat(400),
  ])('ignores the count %j', value => expect(limit({ limit: value, remaining: value })).toBeNull())

  it('never throws, and returns only valid counts', () => {
    const value = fc.oneof(
      fc.string({ unit: fc.integer({ min: 32, max: 255 }).map(code => String.fromCharCode(code)) }),
      fc.stringMatching(/^[-+\d.:TZhmsd]{0,24}$/),
      fc.double().map(String),
      fc.date({ noInvalidDate: true }).map(date => date.toISOString()),
    )
    fc.assert(
      fc.property(fc.record({ limit: value, remaining: value, reset: value }, { requiredKeys: [] }), fields => {
        const requests = limit(fields)?.requests
        for (const number of Object.values(requests ?? {})) {
          expect(number === null || (Number.isInteger(number) && number >= 0 && number <= 1e12)).toBe(true)
        }
      }),
    )
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { costOf, type PricedUsage } from './prices.ts'

/** Dollars per million tokens, as the price list says them: in, out, cache read, cache write. */
const LIST: Record<string, [model: string, ...prices: string[]][]> = {
  'any length': [
    ['claude-opus-5-5', '4', '20', '0.4', '5'],
    ['claude-opus-5', '5', '25', '0.5', '6.25'],
    ['claude-sonnet-5-5', '2', '10', '0.2', '2.5'],
    ['claude-sonnet-5', '2', '10', '0.2', '2.5'],
    ['claude-haiku-4-5', '1', '5', '0.1', '1.25'],
  ],
  'up to 100,000 prompt tokens': [['claude-haiku-5-5', '0.1', '0.5', '0.01', '0.125']],
  'above 100,000 prompt tokens': [['claude-haiku-5-5', '0.5', '2.5', '0.05', '0.625']],
}
const PROMPT: Record<string, [min: number, max: number]> = {
  'any length': [0, 5_000_000],
  'up to 100,000 prompt tokens': [0, 100_000],
  'above 100,000 prompt tokens': [100_001, 5_000_000],
}

/** A decimal as an integer number of 10^-places, by shifting its text: no floating point. */
function scaled(decimal: string, places: number): bigint {
  const [whole = '0', fraction = ''] = decimal.split('.')
  return BigInt(whole + fraction.padEnd(places, '0'))
}

const usage = ([min, max]: [number, number]): fc.Arbitrary<PricedUsage> =>
  fc
    .tuple(fc.integer({ min, max }), fc.nat({ max: 200_000 }), fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean())
    .map(([inputTokens, outputTokens, part, both]) => {
      const cacheReadTokens = Math.floor(inputTokens * part)
      return {
        inputTokens,
        outputTokens,
        cacheReadTokens,
        cacheWriteTokens: both ? inputTokens - cacheReadTokens : 0,
      }
    })

describe.each(Object.entries(LIST))('%s', (length, models) => {
  it.each(models)('%s costs what the list says, to the last of 12 places', (model, ...prices) => {
    const [input, output, read, write] = prices.map(price => scaled(price, 6)) as [bigint, bigint, bigint, bigint]
    fc.assert(
      fc.property(usage(PROMPT[length]!), usage => {
        const fresh = usage.inputTokens - usage.cacheReadTokens - usage.cacheWriteTokens
        const expected =
          BigInt(fresh) * input +
          BigInt(usage.outputTokens) * output +
          BigInt(usage.cacheReadTokens) * read +
          BigInt(usage.cacheWriteTokens) * write
        const cost = costOf('anthropic', model, usage)!
        expect(cost).toMatch(/^\d+\.\d{12}$/)
        expect(scaled(cost, 12)).toBe(expected)
      }),
    )
  })
})

const of = (inputTokens: number, outputTokens = 0, cacheReadTokens = 0, cacheWriteTokens = 0) => ({
  inputTokens,
  outputTokens,
  cacheReadTokens,
  cacheWriteTokens,
})

describe('costOf', () => {
  it('decides the band by the whole prompt, cached tokens included', () => {
    expect(costOf('anthropic', 'claude-haiku-5-5', of(100_000))).toBe('0.010000000000')
    expect(costOf('anthropic', 'claude-haiku-5-5', of(100_001, 0, 100_001))).toBe('0.005000050000')
  })

  it('never falls as tokens are added', () => {
    const some = usage([0, 300_000])
    fc.assert(
      fc.property(some, fc.nat({ max: 100_000 }), fc.nat({ max: 100_000 }), (usage, input, output) => {
        const more = {
          ...usage,
          inputTokens: usage.inputTokens + input,
          outputTokens: usage.outputTokens + output,
        }
        const cost = (one: PricedUsage) => scaled(costOf('anthropic', 'claude-haiku-5-5', one)!, 12)
        expect(cost(more)).toBeGreaterThanOrEqual(cost(usage))
      }),
    )
  })

  it('does not pay anything back when a provider counts more cached tokens than input', () => {
    expect(costOf('anthropic', 'claude-opus-5-5', of(10, 0, 20))).toBe('0.000008000000')
  })

  it('knows a model by its dated name too', () => {
    expect(costOf('anthropic', 'claude-opus-5-5-20261001', of(1))).toBe('0.000004000000')
    expect(costOf('anthropic', 'claude-opus-5-20261001', of(1))).toBe('0.000005000000')
  })

  it('says 0 for Ollama, whatever the model', () => {
    expect(costOf('ollama', 'llama3.2', of(1e6, 1e6))).toBe('0.000000000000')
  })

  it.each([
    ['anthropic', 'claude-opus-6'],
    ['anthropic', 'claude-opus-5-5-preview'],
    ['anthropic', 'my-claude-opus-5-5'],
    ['openai', 'claude-opus-5-5'],
    ['openai', 'gpt-5.4-mini'],
    ['nobody', 'llama3.2'],
  ])('knows no price of %s’s %s', (provider, model) => expect(costOf(provider, model, of(1))).toBeNull())
})

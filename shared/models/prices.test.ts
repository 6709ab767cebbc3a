import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import DATA from './price-data.json' with { type: 'json' }
import { parsePrices } from './price-overrides.ts'
import { TABLE_DATE } from './price-table.ts'
import { BOUND_HOLDS_MS, createPrices, type PricedUsage } from './prices.ts'
import { priceData } from './update-prices.ts'

/** The built-in prices only. */
const { costOf, priceOf, priceVersionOf, worstCaseOf } = createPrices()

/** Dollars per million tokens, as listed: input, output, cache read, cache write. */
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
  it.each(models)('%s has the listed price, exact to 12 places', (model, ...prices) => {
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
  it('selects the band by the whole prompt, including cached tokens', () => {
    expect(costOf('anthropic', 'claude-haiku-5-5', of(100_000))).toBe('0.010000000000')
    expect(costOf('anthropic', 'claude-haiku-5-5', of(100_001, 0, 100_001))).toBe('0.005000050000')
  })

  it('never decreases with more tokens', () => {
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

  it('is not negative if a provider counts more cached tokens than input tokens', () => {
    expect(costOf('anthropic', 'claude-opus-5-5', of(10, 0, 20))).toBe('0.000008000000')
  })

  it('recognizes the dated name of a model', () => {
    expect(costOf('anthropic', 'claude-opus-5-5-20261001', of(1))).toBe('0.000004000000')
    expect(costOf('anthropic', 'claude-opus-5-20261001', of(1))).toBe('0.000005000000')
  })

  it('is 0 for every model of Ollama', () => {
    expect(costOf('ollama', 'llama3.2', of(1e6, 1e6))).toBe('0.000000000000')
  })

  it.each([
    ['anthropic', 'claude-opus-6'],
    ['anthropic', 'claude-opus-5-5-preview'],
    ['anthropic', 'my-claude-opus-5-5'],
    ['openai', 'claude-opus-5-5'],
    ['openai', 'gpt-9'],
    ['openai', 'whisper-1'],
    ['anthropic', 'claude-sonnet-5-9'],
    ['google', 'claude-opus-5-5'],
    ['google', 'gemma-3'],
    ['nobody', 'llama3.2'],
  ])('returns null for %s’s %s', (provider, model) => expect(costOf(provider, model, of(1))).toBeNull())
})

const day = (date: string) => ({ at: new Date(`${date}T12:00:00Z`) })

describe('the price list', () => {
  it('matches the installed package (`node shared/models/update-prices.ts`)', () => {
    expect(priceData()).toBe(readFileSync(new URL('./price-data.json', import.meta.url), 'utf8'))
  })

  it.each([
    ['openai', 'gpt-5.4-mini', '0.750000000000', '4.500000000000'],
    ['openai', 'gpt-5.4-mini-2026-03-17', '0.750000000000', '4.500000000000'],
    ['google', 'gemini-2.5-flash', '0.300000000000', '2.500000000000'],
    ['anthropic', 'claude-haiku-4-5-20251001', '1.000000000000', '5.000000000000'],
  ])('uses the package’s price of %s’s %s', (provider, model, input, output) => {
    expect(costOf(provider, model, of(1_000_000))).toBe(input)
    expect(costOf(provider, model, of(0, 1_000_000))).toBe(output)
  })

  it('charges cached tokens like other input if the package has no cache rates', () => {
    expect(costOf('openai', 'gpt-4', of(10, 0, 5, 5))).toBe(costOf('openai', 'gpt-4', of(10)))
  })

  it('applies a price from its date', () => {
    expect(costOf('openai', 'o3', of(1), day('2025-06-09'))).toBe('0.000010000000')
    expect(costOf('openai', 'o3', of(1), day('2025-06-10'))).toBe('0.000002000000')
  })

  it.each([
    ['00:59:59.999', '0.000000220000'],
    ['01:00:00.000', '0.000000440000'],
    ['03:59:59.999', '0.000000440000'],
    ['04:00:00.000', '0.000000220000'],
    ['06:00:00.000', '0.000000440000'],
    ['10:00:00.000', '0.000000220000'],
  ])('applies a price by time of day, at %s', (time, cost) => {
    expect(costOf('deepseek', 'deepseek-v4-flash', of(1), { at: new Date(`2026-11-20T${time}Z`) })).toBe(cost)
  })

  it('charges a long prompt and its answer by its band', () => {
    expect(costOf('openai', 'gpt-5.4', of(271_999, 1))).toBe('0.680012500000')
    expect(costOf('openai', 'gpt-5.4', of(272_000, 1))).toBe('1.360022500000')
  })

  it('charges half for a batch if the provider does', () => {
    const usage = of(1000, 100, 10, 20)
    const half = (provider: string, model: string) =>
      scaled(costOf(provider, model, usage)!, 12) / scaled(costOf(provider, model, usage, { batch: true })!, 12)
    expect(half('anthropic', 'claude-opus-5-5')).toBe(2n)
    expect(half('openai', 'gpt-5.4-mini')).toBe(2n)
    expect(half('deepseek', 'deepseek-v4-pro')).toBe(1n)
  })

  it('has a version that names its sources', () => {
    expect(priceVersionOf('openai', 'gpt-5.4')).toBe(`genai-prices@${DATA.version} sluice@${TABLE_DATE}`)
    expect(priceVersionOf('openai', 'gpt-9')).toBeNull()
  })

  it('lists each model once, with a price', () => {
    const models = createPrices().models()
    expect(new Set(models.map(one => `${one.provider}/${one.model}`)).size).toBe(models.length)
    for (const { provider, model } of models) expect(priceOf(provider, model), model).toMatchObject({ provider, model })
    expect(models).toContainEqual({ provider: 'anthropic', model: 'claude-opus-5-5', contextWindow: 1_000_000 })
  })
})

const OPERATOR = createPrices(
  parsePrices(
    JSON.stringify({
      'openai/odd': {
        ...{ input: 3, output: 1, cache_read: 7, cache_write: 2, batch: 0.333333 },
        bands: [
          { above: 1000, input: 1, output: 2, cache_write: '0.000001' },
          { above: 50_000, input: 0.5, output: 0 },
        ],
      },
      'google/*': { input: 0, output: 0 },
      'anthropic/claude-haiku-5-5': { input: 9, output: 9, from: '2026-12-01' },
    }),
  ),
)

describe('worstCaseOf', () => {
  const models = OPERATOR.models().map(({ provider, model }): [string, string] => [provider, model])
  const moment = fc.date({ min: new Date('2025-01-01'), max: new Date('2027-06-01'), noInvalidDate: true })

  it('is never below the cost of a call within the token limits', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...models, ['anthropic', 'claude-haiku-5-5-20261007'] as [string, string]),
        usage([0, 600_000]),
        fc.record({ input: fc.nat({ max: 300_000 }), output: fc.nat({ max: 1000 }) }),
        moment,
        fc.nat({ max: BOUND_HOLDS_MS }),
        fc.boolean(),
        ([provider, model], usage, spare, at, later, batch) => {
          const most = {
            inputTokens: usage.inputTokens + spare.input,
            outputTokens: usage.outputTokens + spare.output,
          }
          const bound = OPERATOR.worstCaseOf(provider, model, most, { at, batch })!
          const cost = OPERATOR.costOf(provider, model, usage, { at: new Date(at.getTime() + later), batch })!
          expect(bound).toMatch(/^\d+\.\d{12}$/)
          expect(scaled(bound, 12)).toBeGreaterThanOrEqual(scaled(cost, 12))
        },
      ),
      { numRuns: 3000 },
    )
  })

  it('is tight: a call with the dearest input reaches it', () => {
    expect(worstCaseOf('anthropic', 'claude-opus-5-5', { inputTokens: 1000, outputTokens: 10 })).toBe(
      costOf('anthropic', 'claude-opus-5-5', of(1000, 10, 0, 1000)),
    )
    expect(OPERATOR.worstCaseOf('openai', 'odd', { inputTokens: 1000, outputTokens: 0 })).toBe('0.007000000000')
  })

  it('does not reserve less because of a cheaper band for long prompts', () => {
    const most = { inputTokens: 2000, outputTokens: 0 }
    expect(OPERATOR.worstCaseOf('openai', 'odd', most)).toBe('0.007000000000')
  })

  it('returns null without a known price', () => {
    expect(worstCaseOf('openai', 'gpt-9', { inputTokens: 1, outputTokens: 1 })).toBeNull()
  })
})

describe('a price of the operator', () => {
  const { costOf, priceVersionOf, models } = OPERATOR

  it('overrides the list, and a pattern of the operator if it names the model', () => {
    expect(costOf('google', 'gemini-2.5-flash', of(1))).toBe('0.000000000000')
    expect(costOf('google', 'anything', of(1))).toBe('0.000000000000')
    const both = createPrices(
      parsePrices(
        '{"google/*":{"input":1,"output":1},"google/g-*":{"input":2,"output":2},"google/g-x":{"input":3,"output":3}}',
      ),
    )
    expect(both.costOf('google', 'g-x', of(1))).toBe('0.000003000000')
    expect(both.costOf('google', 'g-y', of(1))).toBe('0.000002000000')
    expect(both.costOf('google', 'h', of(1))).toBe('0.000001000000')
  })

  it('applies from its date', () => {
    expect(costOf('anthropic', 'claude-haiku-5-5', of(1), day('2026-11-30'))).toBe('0.000000100000')
    expect(costOf('anthropic', 'claude-haiku-5-5', of(1), day('2026-12-01'))).toBe('0.000009000000')
  })

  it('appears in the version only if it applied', () => {
    const { at } = day('2026-11-30')
    expect(priceVersionOf('google', 'x', at)).toMatch(/^genai-prices@\S+ sluice@\S+ operator@[0-9a-f]{8}$/)
    expect(priceVersionOf('google', 'x', at)).not.toBe(priceVersionOf('openai', 'odd', at))
    expect(priceVersionOf('anthropic', 'claude-haiku-5-5', at)).not.toContain('operator')
  })

  it('rounds a batch up to whole picodollars', () => {
    expect(costOf('openai', 'odd', of(1), { batch: true })).toBe('0.000000999999')
    expect(costOf('openai', 'odd', of(2000, 0, 0, 2000), { batch: true })).toBe('0.000000000667')
  })

  it('adds its model to the list', () => {
    expect(models()).toContainEqual({ provider: 'openai', model: 'odd', contextWindow: null })
  })
})

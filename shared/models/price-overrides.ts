import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { DECIMAL } from './picodollars.ts'
import type { PriceText } from './price-rows.ts'
import { PROVIDER_NAMES } from './providers.ts'

/** Prices of the operator: the setting `PRICES`, and those of declared endpoints. */

export type PriceOverride = {
  provider: string
  /** The name of a model, or a prefix with `*`. */
  model: string
  prices: PriceText[]
  /** Applies only if there is no other price, including the built-in list. */
  last?: true
}

const rate = Type.String({ pattern: DECIMAL })
const rates = {
  input: rate,
  output: rate,
  cache_read: Type.Optional(rate),
  cache_write: Type.Optional(rate),
}
export const priceSchema = Type.Object(
  {
    ...rates,
    batch: Type.Optional(Type.String({ pattern: '^(0(\\.\\d{1,6})?|1(\\.0+)?)$' })),
    from: Type.Optional(Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\d$' })),
    bands: Type.Optional(
      Type.Array(
        Type.Object(
          { above: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }), ...rates },
          { additionalProperties: false },
        ),
      ),
    ),
  },
  { additionalProperties: false },
)

const EXPECTED: Record<string, string> = {
  ...Object.fromEntries(
    Object.keys(rates).map(name => [name, 'dollars per million tokens, below 1000000, at most six decimals']),
  ),
  batch: 'the share of the price that a batch costs, from 0 to 1',
  from: 'a date such as 2026-01-31',
  above: 'a whole number of tokens, at least 1',
}

/**
 * Parses `PRICES`, such as `{"openai/my-model": {"input": 1.5, "output": "6"}}`. An array contains several prices of a
 * model, from different dates.
 * @throws Error with a one-line description
 */
export function parsePrices(json: string): PriceOverride[] {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw new Error('is not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error('must be an object of prices by "<provider>/<model>"')
  return Object.entries(value).map(([name, said]) => {
    const [, provider, model] = /^([^/]+)\/([^*]+\*?|\*)$/s.exec(name) ?? []
    if (!provider || !model) throw new Error(`"${name}" is not "<provider>/<model>", with * only at the end`)
    if (!(PROVIDER_NAMES as string[]).includes(provider))
      throw new Error(`"${name}": unknown provider (known: ${PROVIDER_NAMES.join(', ')})`)
    return { provider, model, prices: pricesOf(name, said) }
  })
}

/** Reads one price or several, from different dates. @param name of the model, for errors @throws Error */
export function pricesOf(name: string, said: unknown): PriceText[] {
  const prices = (Array.isArray(said) ? said : [said]).map(one => parsePrice(name, one))
  if (prices.length === 0) throw new Error(`"${name}" has no price`)
  // The last price that applies counts.
  prices.sort((a, b) => ((a.from ?? '') < (b.from ?? '') ? -1 : 1))
  if (new Set(prices.map(one => one.from)).size < prices.length)
    throw new Error(`"${name}" has two prices from the same date`)
  return prices
}

function parsePrice(name: string, said: unknown): Static<typeof priceSchema> {
  const price = decimals(said)
  if (!Value.Check(priceSchema, price)) {
    const { instancePath: path = '', message } = Value.Errors(priceSchema, price)[0] ?? {}
    const wanted = EXPECTED[path.split('/').at(-1) ?? '']
    const wrong = message === 'schema is false' ? 'is no part of a price' : (message ?? 'is not a price')
    throw new Error(`"${name}"${path} ${wanted ? `must be ${wanted}` : wrong}`)
  }
  // Date.parse reads 30 February as 2 March.
  if (price.from !== undefined && !isDate(price.from)) throw new Error(`"${name}"/from must be ${EXPECTED.from}`)
  if (price.bands?.some((band, i, bands) => i > 0 && band.above <= bands[i - 1]!.above))
    throw new Error(`"${name}"/bands must ascend in "above"`)
  return price
}

const isDate = (day: string) => {
  const time = Date.parse(day)
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(day)
}

/** Converts numbers, except `above`, to their shortest decimal, which is how they were written. */
function decimals(value: unknown): unknown {
  if (typeof value === 'number') return String(value)
  if (Array.isArray(value)) return value.map(decimals)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key, key === 'above' ? child : decimals(child)]),
  )
}

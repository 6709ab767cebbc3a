import { now } from '#shared/process/clock.ts'
import { catalogueOf, onEndpointsDeclared } from './declared.ts'
import { contextWindow } from './models.ts'
import { dollars, WHOLE } from './picodollars.ts'
import { BUILT_IN_PRICES, bySpecificity, type Entry, toEntry } from './price-list.ts'
import type { PriceOverride } from './price-overrides.ts'
import { alwaysApplies, applies, type Band, bandFor, type PriceRow, rowsThatMayApply } from './price-rows.ts'

/** The price of a model at a time. Rates are picodollars (10^-12 USD) per token. */
export type Price = PriceRow & {
  provider: string
  /** The listed name of the model; a prefix if it ends in `*`. */
  model: string
  /** Stored in the ledger with each cost: the versions of the package, of our table and of the operator's price. */
  version: string
}

/** A model with a price. `model` may be a prefix that ends in `*`. `contextWindow` is in tokens; null: unknown. */
export type PricedModel = { provider: string; model: string; contextWindow: number | null }

/** Whole numbers. `inputTokens` includes tokens read from and written to the cache. */
export type PricedUsage = {
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
}

/** `at`: time of the call (default: now). `batch`: through the provider's batch API. */
export type PriceOptions = { at?: Date; batch?: boolean }

/**
 * The period for which an upper bound is valid: the longest deadline of a task. Between reservation and settlement,
 * prices may rise at a date or at a time of day.
 */
export const BOUND_HOLDS_MS = 86_400_000

const MAX_KNOWN = 1000

/** Creates the price list of a process. It does no I/O. */
export function createPrices(overrides: readonly PriceOverride[] = []) {
  let first: Entry[] = []
  let last: Entry[] = []

  /** A cache, because each call looks up four prices among about a hundred patterns. */
  const known = new Map<string, Entry[]>()
  onEndpointsDeclared(() => known.clear())

  /** Replaces the prices of the operator. */
  function replace(overrides: readonly PriceOverride[]): void {
    const sorted = overrides.toSorted(bySpecificity)
    first = sorted.filter(one => !one.last).map(toEntry)
    last = sorted.filter(one => one.last).map(toEntry)
    known.clear()
  }
  replace(overrides)

  /** The operator's own prices of an endpoint come before those of the catalogue that it shares. */
  function find(provider: string, model: string): Entry[] {
    const catalogue = catalogueOf(provider)
    const own = (one: Entry) => one.provider === provider
    const shared = catalogue === provider ? [] : first.filter(one => one.provider === catalogue)
    const listed = BUILT_IN_PRICES.filter(one => one.provider === catalogue)
    return [...first.filter(own), ...shared, ...listed, ...last.filter(own)].filter(one => one.matches(model))
  }

  function matching(provider: string, model: string): Entry[] {
    const name = `${provider}/${model}`
    let found = known.get(name)
    if (!found) {
      found = find(provider, model)
      // Bounded, because clients can invent names.
      if (known.size < MAX_KNOWN) known.set(name, found)
    }
    return found
  }

  /** @returns null: the model has no known price at that time */
  function priceOf(provider: string, model: string, at = new Date(now())): Price | null {
    for (const entry of matching(provider, model)) {
      const row = entry.rows.findLast(one => applies(one, at))
      if (row) return { ...row, provider, model: entry.model, version: entry.version }
    }
    return null
  }

  /**
   * The exact cost of a call. The cost of a batch call is rounded up to whole picodollars.
   * @returns dollars as a decimal with 12 places, or null if the model has no known price
   * @throws RangeError if a count is not a whole number
   */
  function costOf(provider: string, model: string, usage: PricedUsage, options: PriceOptions = {}): string | null {
    const price = priceOf(provider, model, options.at)
    if (!price) return null
    const cached = usage.cacheReadTokens + usage.cacheWriteTokens
    const band = bandFor(price, Math.max(usage.inputTokens, cached))
    return dollars(
      batchPrice(
        BigInt(Math.max(0, usage.inputTokens - cached)) * band.input +
          BigInt(usage.cacheReadTokens) * band.cacheRead +
          BigInt(usage.cacheWriteTokens) * band.cacheWrite +
          BigInt(usage.outputTokens) * band.output,
        price,
        options.batch,
      ),
    )
  }

  /**
   * An upper bound of the cost of a call with at most `most` tokens: for any split of the input into uncached,
   * cache-read and cache-written tokens, in any band, at any time from `at` to `BOUND_HOLDS_MS` later.
   * @returns dollars as a decimal with 12 places, or null if the model has no known price at `at`
   * @throws RangeError if a count is not a whole number
   */
  function worstCaseOf(
    provider: string,
    model: string,
    most: { inputTokens: number; outputTokens: number },
    { at = new Date(now()), batch }: PriceOptions = {},
  ): string | null {
    if (!priceOf(provider, model, at)) return null
    const rows: PriceRow[] = []
    for (const entry of matching(provider, model)) {
      rows.push(...rowsThatMayApply(entry.rows, at, new Date(at.getTime() + BOUND_HOLDS_MS)))
      // Later entries no longer apply.
      if (entry.rows.some(row => alwaysApplies(row, at))) break
    }
    const costs = rows.flatMap(row =>
      row.bands.filter(reachable(most.inputTokens)).map((band, i) => {
        const longest = Math.min(most.inputTokens, row.bands[i + 1]?.above ?? most.inputTokens)
        return batchPrice(BigInt(longest) * dearestInput(band) + BigInt(most.outputTokens) * band.output, row, batch)
      }),
    )
    return dollars(maxAmount(costs))
  }

  return {
    replace,
    priceOf,
    costOf,
    worstCaseOf,

    /** The version of the price; null: the model has no known price. */
    priceVersionOf: (provider: string, model: string, at?: Date): string | null =>
      priceOf(provider, model, at)?.version ?? null,

    /** Every model with a listed name or an operator's pattern, the operator's first, without duplicates. */
    models(): PricedModel[] {
      const named = [...first, ...BUILT_IN_PRICES, ...last].filter(({ model, matches }) => matches(model))
      const known = new Map(named.map(({ provider, model }) => [`${provider}/${model}`, { provider, model }]))
      return [...known.values()].map(one => ({ ...one, contextWindow: contextWindow(one.provider, one.model) }))
    },
  }
}

export type Prices = ReturnType<typeof createPrices>

const batchPrice = (amount: bigint, row: PriceRow, batch: boolean | undefined): bigint =>
  batch ? (amount * row.batch + WHOLE - 1n) / WHOLE : amount

const dearestInput = ({ input, cacheRead, cacheWrite }: Band): bigint => maxAmount([input, cacheRead, cacheWrite])

/** Math.max does not accept bigint. */
function maxAmount(amounts: readonly bigint[]): bigint {
  let most = 0n
  for (const amount of amounts) if (amount > most) most = amount
  return most
}

/** Whether a prompt of at most `tokens` may fall into the band. */
const reachable = (tokens: number) => (band: Band) => band.above === 0 || band.above < tokens

import { contextWindow } from './models.ts'
import { dollars, WHOLE } from './picodollars.ts'
import { BUILT_IN, bySpecificity, type Entry, toEntry } from './price-list.ts'
import type { PriceOverride } from './price-overrides.ts'
import { always, type Band, bandFor, holds, mayHold, type PriceRow } from './price-rows.ts'
import type { ProviderName } from './providers.ts'

/** The price of a model at a time. Rates are picodollars (10^-12 USD) per token. */
export type Price = PriceRow & {
  provider: string
  /** The model in whose name it stands, `*` at its end for all that begin so. */
  model: string
  /** Kept in the ledger with whatever was priced: which package, which table of ours, which price of the operator's. */
  version: string
}

/** A model with a price. `model` may be a pattern that ends in `*`; `contextWindow` in tokens, null: not known. */
export type PricedModel = { provider: ProviderName; model: string; contextWindow: number | null }

/** Whole numbers. `inputTokens` includes what was read from or written to the cache. */
export type PricedUsage = {
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
}

/** `at`: when the call is made, now unless it is said. `batch`: through the provider's batch API. */
export type PriceOptions = { at?: Date; batch?: boolean }

/**
 * A bound holds until this long after its `at`, the longest deadline that a task may have: prices may rise between
 * reservation and settlement, at a date or, every day, at an hour.
 */
export const BOUND_HOLDS_MS = 86_400_000

const MOST_KNOWN = 1000

/** The price list of one process. Pure; see `Prices` for what it answers. */
export function createPrices(overrides: readonly PriceOverride[] = []) {
  const entries = [...overrides.toSorted(bySpecificity).map(toEntry), ...BUILT_IN]

  /** Every call asks four times, and there are some hundred patterns. */
  const known = new Map<string, Entry[]>()

  function matching(provider: string, model: string): Entry[] {
    const name = `${provider}/${model}`
    let found = known.get(name)
    if (!found) {
      found = entries.filter(entry => entry.provider === provider && entry.matches(model))
      // Clients may make names up.
      if (known.size < MOST_KNOWN) known.set(name, found)
    }
    return found
  }

  /** @returns null if nobody knows what the model costs at that time */
  function priceOf(provider: string, model: string, at = new Date()): Price | null {
    for (const entry of matching(provider, model)) {
      const row = entry.rows.findLast(one => holds(one, at))
      if (row) return { ...row, provider, model: entry.model, version: entry.version }
    }
    return null
  }

  /**
   * What a call cost, exactly; a batch's share of it is rounded up to whole picodollars.
   * @returns dollars as a decimal with 12 places, or null if the model has no known price
   * @throws RangeError if a count is not a whole number
   */
  function costOf(provider: string, model: string, usage: PricedUsage, options: PriceOptions = {}): string | null {
    const price = priceOf(provider, model, options.at)
    if (!price) return null
    const cached = usage.cacheReadTokens + usage.cacheWriteTokens
    const band = bandFor(price, Math.max(usage.inputTokens, cached))
    return dollars(
      shared(
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
   * An upper bound of what a call costs that reads and writes at most so many tokens, however its input is split into
   * fresh, read from the cache and written to it, in whichever band it falls, at any time from `at` to `BOUND_HOLDS_MS`
   * later.
   * @returns dollars as a decimal with 12 places, or null if the model has no known price at `at`
   * @throws RangeError if a count is not a whole number
   */
  function worstCaseOf(
    provider: string,
    model: string,
    most: { inputTokens: number; outputTokens: number },
    { at = new Date(), batch }: PriceOptions = {},
  ): string | null {
    if (!priceOf(provider, model, at)) return null
    const rows: PriceRow[] = []
    for (const entry of matching(provider, model)) {
      rows.push(...mayHold(entry.rows, at, new Date(at.getTime() + BOUND_HOLDS_MS)))
      // Those below it have no say any more.
      if (entry.rows.some(row => always(row, at))) break
    }
    const costs = rows.flatMap(row =>
      row.bands.filter(reachable(most.inputTokens)).map((band, i) => {
        const longest = Math.min(most.inputTokens, row.bands[i + 1]?.above ?? most.inputTokens)
        return shared(BigInt(longest) * dearestInput(band) + BigInt(most.outputTokens) * band.output, row, batch)
      }),
    )
    return dollars(largest(costs))
  }

  return {
    priceOf,
    costOf,
    worstCaseOf,

    /** Names what a cost was computed with; null if the model has no known price. */
    priceVersionOf: (provider: string, model: string, at?: Date): string | null =>
      priceOf(provider, model, at)?.version ?? null,

    /** Every model that is known by a name or an operator's pattern, the operator's first; none twice. */
    models(): PricedModel[] {
      const named = entries.filter(({ model, matches }) => matches(model))
      const known = new Map(named.map(({ provider, model }) => [`${provider}/${model}`, { provider, model }]))
      return [...known.values()].map(one => ({ ...one, contextWindow: contextWindow(one.provider, one.model) }))
    },
  }
}

export type Prices = ReturnType<typeof createPrices>

const shared = (amount: bigint, row: PriceRow, batch: boolean | undefined): bigint =>
  batch ? (amount * row.batch + WHOLE - 1n) / WHOLE : amount

const dearestInput = ({ input, cacheRead, cacheWrite }: Band): bigint => largest([input, cacheRead, cacheWrite])

/** Math.max takes no bigint. */
function largest(amounts: readonly bigint[]): bigint {
  let most = 0n
  for (const amount of amounts) if (amount > most) most = amount
  return most
}

/** Whether a prompt of at most so many tokens may fall into the band. */
const reachable = (tokens: number) => (band: Band) => band.above === 0 || band.above < tokens

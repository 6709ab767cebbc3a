import { millionths } from './picodollars.ts'

/** Prices as they are written down, in the package's data, in our own table and in `PRICES` alike. */

/** Dollars per million tokens, as decimals. What is not said of the cache costs as much as other input. */
export type RatesText = { input: string; output: string; cache_read?: string; cache_write?: string }

export type PriceText = RatesText & {
  /** First day on which it holds (UTC); absent: since ever. */
  from?: string
  /** Times of day (UTC, HH:MM:SS, the second exclusive) between which alone it holds; may run over midnight. */
  hours?: readonly [string, string]
  /** What a provider's batch API takes of the price, such as 0.5; absent: all of it. */
  batch?: string
  /** What every token costs instead, the output's too, once the prompt has more tokens than `above`; ascending. */
  bands?: readonly (RatesText & { above: number })[]
}

export type ModelText = {
  /** The name in lists. */
  model: string
  /** Regular expression, without regard to case, of all names that it goes by. */
  match: string
  context?: number
  /** Of several that hold at the same time, the last. */
  prices: readonly PriceText[]
}

/** Picodollars per token. */
export type Rates = { input: bigint; output: bigint; cacheRead: bigint; cacheWrite: bigint }

/** Applies to prompts of more than `above` tokens, cached ones included, up to where the next band begins. */
export type Band = Rates & { above: number }

export type PriceRow = {
  /** Milliseconds since 1970; -Infinity: since ever. */
  from: number
  hours: readonly [string, string] | null
  /** The first is above 0 and holds for an empty prompt too. */
  bands: readonly Band[]
  /** Millionths of the price that a batch costs. */
  batch: bigint
}

/** @param batch the share for rows that say none */
export function toRow(text: PriceText, batch = '1'): PriceRow {
  return {
    from: text.from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(text.from),
    hours: text.hours ?? null,
    bands: [{ ...text, above: 0 }, ...(text.bands ?? [])].map(toBand),
    batch: millionths(text.batch ?? batch),
  }
}

const toBand = (text: RatesText & { above: number }): Band => ({
  above: text.above,
  input: millionths(text.input),
  output: millionths(text.output),
  cacheRead: millionths(text.cache_read ?? text.input),
  cacheWrite: millionths(text.cache_write ?? text.input),
})

/** Whether the row holds at that time. */
export function holds(row: PriceRow, at: Date): boolean {
  if (row.from > at.getTime()) return false
  if (!row.hours) return true
  const [start, end] = row.hours
  const time = at.toISOString().slice(11, 23)
  return end < start ? time >= start || time < end : time >= start && time < end
}

/** The rows of which any may hold at some time from `from` to `until`. */
export function mayHold(rows: readonly PriceRow[], from: Date, until: Date): PriceRow[] {
  const surest = rows.findLastIndex(row => always(row, from))
  return rows.filter((row, i) => i >= surest && row.from <= until.getTime())
}

/** Whether the row holds from that time on, all day. */
export const always = (row: PriceRow, from: Date): boolean => row.hours === null && row.from <= from.getTime()

/** The band that a prompt of so many tokens falls into. */
export const bandFor = (row: PriceRow, promptTokens: number): Band =>
  row.bands.findLast(band => promptTokens > band.above) ?? row.bands[0]!

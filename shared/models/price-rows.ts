import { millionths } from './picodollars.ts'

/** The common format of prices in the data of the package, in our own table and in `PRICES`. */

/** Dollars per million tokens, as decimals. Without cache rates, cached tokens cost as much as other input. */
export type RatesText = { input: string; output: string; cache_read?: string; cache_write?: string }

export type PriceText = RatesText & {
  /** First day (UTC) on which the price applies; absent: always. */
  from?: string
  /** Time of day (UTC, HH:MM:SS, end exclusive) in which the price applies; may span midnight. */
  hours?: readonly [string, string]
  /** Price factor of the provider's batch API, such as 0.5; absent: 1. */
  batch?: string
  /** Rates for all tokens, including output, if the prompt has more than `above` tokens; ascending. */
  bands?: readonly (RatesText & { above: number })[]
}

export type ModelText = {
  /** The name in lists. */
  model: string
  /** Case-insensitive regular expression for all names of the model. */
  match: string
  context?: number
  /** If several apply at the same time, the last one counts. */
  prices: readonly PriceText[]
}

/** Picodollars per token. */
export type Rates = { input: bigint; output: bigint; cacheRead: bigint; cacheWrite: bigint }

/** Applies to prompts of more than `above` tokens, including cached ones, up to the next band. */
export type Band = Rates & { above: number }

export type PriceRow = {
  /** Milliseconds since 1970; -Infinity: always. */
  from: number
  hours: readonly [string, string] | null
  /** The first has `above` 0 and also applies to an empty prompt. */
  bands: readonly Band[]
  /** Price factor of a batch, in millionths. */
  batch: bigint
}

/** @param batch price factor of a batch for rows without one */
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

/** Whether the row applies at a time. */
export function applies(row: PriceRow, at: Date): boolean {
  if (row.from > at.getTime()) return false
  if (!row.hours) return true
  const [start, end] = row.hours
  const time = at.toISOString().slice(11, 23)
  return end < start ? time >= start || time < end : time >= start && time < end
}

/** The rows that may apply at any time from `from` to `until`. */
export function rowsThatMayApply(rows: readonly PriceRow[], from: Date, until: Date): PriceRow[] {
  const surest = rows.findLastIndex(row => alwaysApplies(row, from))
  return rows.filter((row, i) => i >= surest && row.from <= until.getTime())
}

/** Whether the row applies from a time on, all day. */
export const alwaysApplies = (row: PriceRow, from: Date): boolean => row.hours === null && row.from <= from.getTime()

/** The band for a prompt length. */
export const bandFor = (row: PriceRow, promptTokens: number): Band =>
  row.bands.findLast(band => promptTokens > band.above) ?? row.bands[0]!

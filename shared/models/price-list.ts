import { createHash } from 'node:crypto'
import DATA from './price-data.json' with { type: 'json' }
import type { PriceOverride } from './price-overrides.ts'
import { type ModelText, type PriceRow, toRow } from './price-rows.ts'
import { BATCH_SHARE, TABLE, TABLE_DATE } from './price-table.ts'
import { PROVIDER_NAMES, type ProviderName } from './providers.ts'

/** The prices of one model. If several entries match a name, the first with a price at the time applies. */
export type Entry = {
  provider: string
  model: string
  matches(name: string): boolean
  rows: PriceRow[]
  version: string
}

const PACKAGE: { readonly [P in ProviderName]?: readonly ModelText[] } = DATA.providers as never

const VERSION = `genai-prices@${DATA.version} sluice@${TABLE_DATE}`

/** Every listed model: our own table, then the package. */
export const PRICE_LIST: readonly (ModelText & { provider: ProviderName; expression: RegExp })[] = [
  TABLE,
  PACKAGE,
].flatMap(table =>
  PROVIDER_NAMES.flatMap(provider =>
    (table[provider] ?? []).map(text => ({ ...text, provider, expression: new RegExp(text.match, 'i') })),
  ),
)

export const BUILT_IN_PRICES: readonly Entry[] = PRICE_LIST.map(({ provider, model, expression, prices }) => ({
  provider,
  model,
  matches: name => expression.test(name),
  rows: prices.map(text => toRow(text, BATCH_SHARE[provider])),
  version: VERSION,
}))

/** Sorts complete names before patterns, and longer patterns before shorter ones. */
export const bySpecificity = (a: PriceOverride, b: PriceOverride): number =>
  Number(a.model.endsWith('*')) - Number(b.model.endsWith('*')) || b.model.length - a.model.length

export const toEntry = ({ provider, model, prices }: PriceOverride): Entry => ({
  provider,
  model,
  matches: name => (model.endsWith('*') ? name.startsWith(model.slice(0, -1)) : name === model),
  rows: prices.map(text => toRow(text)),
  // The ledger distinguishes different prices of the operator.
  version: `${VERSION} operator@${createHash('sha256').update(JSON.stringify(prices)).digest('hex').slice(0, 8)}`,
})

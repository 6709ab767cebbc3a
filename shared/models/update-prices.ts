import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  findProvider,
  type MatchLogic,
  type ModelInfo,
  type ModelPrice,
  type TieredPrices,
} from '@pydantic/genai-prices'
import { operationOf } from './models.ts'
import type { ModelText, PriceText, RatesText } from './price-rows.ts'

/**
 * Generates `price-data.json` from the package: `node shared/models/update-prices.ts`. Importing the package itself
 * would cost each process 19 MB and 30 ms.
 */

/** The models of each provider that its own API serves. */
const PROVIDERS = { anthropic: /./, openai: /./, google: /^gem/, deepseek: /./ }
const FILE = join(import.meta.dirname, 'price-data.json')

/** Audio and image output costs more than text, and the kind of output is not known in advance. */
const UNPREDICTABLE = ['output_audio_mtok', 'output_image_mtok', 'output_video_mtok', 'requests_kcount']

export function priceData(): string {
  const { version } = JSON.parse(
    readFileSync(join(import.meta.dirname, '../../node_modules/@pydantic/genai-prices/package.json'), 'utf8'),
  )
  const providers = Object.entries(PROVIDERS).map(([id, wanted]) => {
    const models = findProvider({ providerId: id })!.models.filter(model => wanted.test(model.id))
    const kept = models.flatMap(toModel)
    for (const { id } of models) {
      const taken = kept.find(one => new RegExp(one.match, 'i').test(id))
      if (taken && !kept.some(one => one.model === id)) throw new Error(`${id} would have the price of ${taken.model}`)
    }
    return `    "${id}": [\n${kept.map(model => `      ${JSON.stringify(model)}`).join(',\n')}\n    ]`
  })
  return `{\n  "version": "${version}",\n  "providers": {\n${providers.join(',\n')}\n  }\n}\n`
}

/** @returns an empty list for a model without prices for text input and for text or vector output */
function toModel(model: ModelInfo): ModelText[] {
  const said = Array.isArray(model.prices) ? model.prices : [{ prices: model.prices }]
  // Only the input of embedding models costs money.
  const list =
    operationOf(model.id) === 'embed' ? said.map(one => ({ ...one, prices: { output_mtok: 0, ...one.prices } })) : said
  if (list.some(({ prices }) => !isTextPrice(prices))) return []
  if (list[0]!.constraint) throw new Error(`${model.id}: the first price does not always hold`)
  const prices = list.map(({ constraint, prices }): PriceText => {
    if (constraint?.type === 'start_date') return { from: constraint.start_date, ...toPrice(prices) }
    if (constraint === undefined) return toPrice(prices)
    const hours = [toTime(constraint.start_time), toTime(constraint.end_time)] as const
    return { hours, ...toPrice(prices) }
  })
  return [
    {
      model: model.id,
      match: toPattern(model.match),
      ...(model.context_window && { context: model.context_window }),
      prices,
    },
  ]
}

const isTextPrice = (price: ModelPrice) =>
  price.input_mtok !== undefined && price.output_mtok !== undefined && UNPREDICTABLE.every(unit => !(unit in price))

function toTime(time: string): string {
  if (!/^\d\d:\d\d:\d\dZ$/.test(time)) throw new Error(`not a time in UTC: ${time}`)
  return time.slice(0, -1)
}

function toPrice(price: ModelPrice): PriceText {
  const units = [price.input_mtok, price.output_mtok, price.cache_read_mtok, price.cache_write_mtok]
  const starts = new Set(units.flatMap(unit => (typeof unit === 'object' ? unit.tiers.map(tier => tier.start) : [])))
  const bands = [...starts].sort((a, b) => a - b).map(above => ({ above, ...toRates(price, above) }))
  return { ...toRates(price, 0), ...(bands.length > 0 && { bands }) }
}

/** The rates for prompts with more than `above` tokens. */
function toRates(price: ModelPrice, above: number): RatesText {
  const at = (unit: number | TieredPrices) =>
    String(typeof unit === 'number' ? unit : (unit.tiers.findLast(tier => above >= tier.start)?.price ?? unit.base))
  return {
    input: at(price.input_mtok!),
    output: at(price.output_mtok!),
    ...(price.cache_read_mtok !== undefined && { cache_read: at(price.cache_read_mtok) }),
    ...(price.cache_write_mtok !== undefined && { cache_write: at(price.cache_write_mtok) }),
  }
}

const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** Converts the package's rules for names to one regular expression. */
function toPattern(rule: MatchLogic): string {
  if ('or' in rule) return rule.or.length === 1 ? toPattern(rule.or[0]!) : rule.or.map(toPattern).join('|')
  if ('and' in rule) return `^${rule.and.map(part => `(?=[^]*(?:${toPattern(part)}))`).join('')}`
  if ('equals' in rule) return `^${literal(rule.equals)}$`
  // Excludes the next version, whose price is unknown: `claude-sonnet-5` does not match `claude-sonnet-5-9`.
  if ('starts_with' in rule) return `^${literal(rule.starts_with)}(?![-.]\\d(?!\\d))`
  if ('ends_with' in rule) return `${literal(rule.ends_with)}$`
  if ('contains' in rule) return literal(rule.contains)
  return rule.regex
}

if (import.meta.main) writeFileSync(FILE, priceData())

import { catalogueOf } from './declared.ts'
import { PRICE_LIST } from './price-list.ts'
import type { PriceOverride } from './price-overrides.ts'

/**
 * Suffixes for the versions of a model. Any other suffix names another model: `deepseek-r1:8b` or `gpt-4o-local` belong
 * to the server that lists them.
 */
const VERSION =
  /(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-preview-\d\d-\d\d(?:-\d{4})?|-preview-\d\d-20\d\d|-latest|-preview|-00\d)$/

/** OpenAI's names of fine-tuned models: `ft:<model>:<organisation>:<name>:<id>`. */
const FINE_TUNED = /^ft:[^:]+:[^:]*:[^:]*:[^:]+$/

/** Matches the literal beginnings of the alternatives of a price pattern, which are the model's aliases. */
const LITERAL = /(?:^|\|)\^((?:[\w:@-]|\\\.)+?)(?:\$|\(\?!)/g

/**
 * Open weights. The price list contains them for other hosts. The APIs of their makers do not serve these names; they
 * belong to the server that runs them.
 */
const OPEN_WEIGHTS = /^(?:gpt-oss|deepseek-r1|gemma)/

type Model = { expression: RegExp; names: ReadonlySet<string> }

const CATALOGUE = Map.groupBy(
  PRICE_LIST.filter(one => one.model !== '*').map(({ provider, model, match, expression }) => ({
    provider,
    expression,
    names: new Set([model, ...[...match.matchAll(LITERAL)].map(([, name]) => name!.replaceAll('\\', ''))]),
  })),
  one => one.provider as string,
) as ReadonlyMap<string, Model[]>

/**
 * Whether the built-in catalogue contains the model for this provider, by its name, an alias or a dated version. A
 * common prefix is not sufficient: it must not send private text to a company.
 */
export function isCatalogued(provider: string, model: string): boolean {
  if (OPEN_WEIGHTS.test(model)) return false
  const base = model.replace(VERSION, '')
  return (CATALOGUE.get(catalogueOf(provider)) ?? []).some(
    ({ expression, names }) =>
      names.has(model) || ((names.has(base) || FINE_TUNED.test(model)) && expression.test(model)),
  )
}

/** The names that error messages can suggest. */
export const cataloguedNames = (provider: string): string[] =>
  PRICE_LIST.map(one => (one.provider === catalogueOf(provider) ? one.model : '*')).filter(
    model => model !== '*' && !OPEN_WEIGHTS.test(model),
  )

/**
 * The names and patterns of `PRICES` that assign a model to the provider. A bare `*` only sets prices; otherwise it
 * would send every misspelt name to that provider.
 */
export const pricedNames = (overrides: readonly PriceOverride[], provider: string): string[] =>
  overrides.filter(one => one.provider === provider && one.model !== '*').map(one => one.model)

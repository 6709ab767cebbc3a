import type { AvailableProvider } from '#shared/routing.ts'
import { cataloguedNames, isCatalogued } from './catalogue.ts'
import { FAMILY_HINTS } from './models.ts'
import { NO_PROVIDER, PROVIDERS, type ProviderDescriptor } from './providers.ts'

const MAX_SUGGESTIONS = 3
/** Bounds on the names that one message compares, because they come from clients and servers. */
const MAX_COMPARED = 2000
const MAX_LENGTH = 100

const ALL: readonly ProviderDescriptor[] = PROVIDERS

/** The error for a model that no provider has, with a remedy. `closest`: up to three known names, best first. */
export function unknownModel(
  model: string,
  available: readonly AvailableProvider[],
): { message: string; closest: string[] } {
  const closest = closestNames(model, namesOf(available))
  const message = `No configured provider has the model ${quoted(model)}.${didYouMean(closest)}${hint(model, available)}`
  return { message, closest }
}

const quoted = (name: string) => `"${name.length > MAX_LENGTH ? `${name.slice(0, MAX_LENGTH)}…` : name}"`

const didYouMean = (closest: readonly string[]) =>
  closest.length > 0 ? ` Did you mean ${closest.map(quoted).join(' or ')}?` : ''

/**
 * The error for a model without a price: `unknown_model` if its name looks like a typo of a known one, otherwise
 * `model_price_unknown`, because it may be newer than the built-in list. Both name the setting that makes the model
 * usable.
 */
export function unpricedModel(
  provider: string,
  model: string,
  available: readonly AvailableProvider[],
): { code: 'unknown_model' | 'model_price_unknown'; message: string; closest: string[] } {
  const known = namesOf(available.filter(one => one.name === provider))
  const names = closestNames(model, known)
  const isTypo = !known.includes(model) && names.some(name => isTypoOf(model, name))
  const closest = names.map(one => `${provider}/${one}`)
  const problem = isTypo
    ? `${provider} has no model "${model}".`
    : `The price of "${model}" of ${provider} is not known.`
  const remedy = `If the name is right, give its price in the setting PRICES, as "${provider}/${model}".`
  return {
    code: isTypo ? 'unknown_model' : 'model_price_unknown',
    message: `${problem}${didYouMean(closest)} ${remedy}`,
    closest,
  }
}

const MAX_TYPOS = 2
const digitsOf = (name: string) => name.match(/\d+/g)?.join(' ') ?? ''

/** Versions and sizes are digits: a name that differs in them may be a new model. */
const isTypoOf = (name: string, known: string): boolean =>
  digitsOf(name) === digitsOf(known) &&
  editDistance(name.slice(0, MAX_LENGTH).toLowerCase(), known.slice(0, MAX_LENGTH).toLowerCase(), MAX_TYPOS) <=
    MAX_TYPOS

const descriptorOf = (name: string) => ALL.find(one => one.name === name)

export function notConfiguredMessage(name: string): string {
  const env = descriptorOf(name)?.env
  return env ? `${name} is not configured: set ${env.key ?? env.url}.` : `${name} is not configured.`
}

/** The error if no configured provider has a model for a task that names none, with a remedy. */
export const noModelMessage = (providers: readonly AvailableProvider[]): string =>
  providers
    .map(({ name, listed }) => {
      const { url, model } = descriptorOf(name)?.env ?? {}
      if (listed === null)
        return `${name} is configured but does not answer: check that it runs at the address in ${url}.`
      if (listed?.length === 0) return `${name} is configured but lists no models: load a model there.`
      return `${name} has no default model for this task: name one in options.model${model ? `, or set ${model}` : ''}.`
    })
    .join(' ')

function hint(model: string, available: readonly AvailableProvider[]): string {
  const isConfigured = (name: string) => available.some(one => one.name === name)
  const [prefix] = model.split('/')
  const named = model.includes('/') ? ALL.find(one => one.name === prefix) : undefined
  const vendor = named ?? ALL.find(one => isCatalogued(one.name, model))
  if (vendor && !isConfigured(vendor.name)) return ` ${notConfiguredMessage(vendor.name)}`
  if (available.every(one => one.listed?.length === 0)) return ` ${NO_PROVIDER}`
  const family = FAMILY_HINTS.find(one => one.pattern.test(model))?.provider
  // Only Ollama's names have tags.
  if (/^[^/]+:[^/:]+$/.test(model) && isConfigured('ollama'))
    return ` The configured Ollama does not have it: run "ollama pull ${model.slice(0, MAX_LENGTH)}".`
  if (!family) return ''
  if (!isConfigured(family)) return ` ${notConfiguredMessage(family)}`
  if (available.some(one => one.name === family && one.listed !== undefined))
    return ` The server that is configured as ${family} does not list it.`
  return ` If it is a newer model of ${family}, name it "${family}/${model.slice(0, MAX_LENGTH)}"; if the built-in list has no price for it, give one in the setting PRICES.`
}

/** All names that a client can use. */
const namesOf = (available: readonly AvailableProvider[]): string[] => [
  ...new Set(
    available.flatMap(({ name, listed, defaultModel, embeds, priced }) => [
      ...(listed === undefined ? cataloguedNames(name) : (listed ?? [])),
      ...([defaultModel, embeds?.model ?? null, ...(priced ?? [])].filter(
        one => one !== null && !one.endsWith('*'),
      ) as string[]),
    ]),
  ),
]

/** The most similar known names; none if all differ by more than a third. */
export function closestNames(name: string, known: readonly string[]): string[] {
  const wanted = name.slice(0, MAX_LENGTH).toLowerCase()
  // The client may have omitted the tag or the provider.
  const bare = wanted.replace(/^[a-z]+\//, '')
  return known
    .slice(0, MAX_COMPARED)
    .flatMap(one => {
      const text = one.slice(0, MAX_LENGTH).toLowerCase()
      const begins =
        bare.length >= 3 &&
        (text.startsWith(bare) ||
          text.replace(/^.*\//, '') === bare ||
          (bare.includes(':') && text.startsWith(bare.replace(/:.*/, ':'))))
      const most = Math.max(1, Math.floor(Math.min(wanted.length, text.length) / 3))
      const distance = begins ? 0.5 : Math.min(editDistance(wanted, text, most), editDistance(bare, text, most))
      return distance <= most ? [{ one, distance }] : []
    })
    .sort((a, b) => a.distance - b.distance || a.one.length - b.one.length || (a.one < b.one ? -1 : 1))
    .slice(0, MAX_SUGGESTIONS)
    .map(({ one }) => one)
}

/** Levenshtein distance up to `most`; Infinity beyond. */
function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return Number.POSITIVE_INFINITY
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = new Array<number>(b.length + 1).fill(Number.POSITIVE_INFINITY)
    if (i <= most) next[0] = i
    let least = next[0]!
    for (let j = Math.max(1, i - most); j <= Math.min(b.length, i + most); j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
      least = Math.min(least, next[j]!)
    }
    if (least > most) return Number.POSITIVE_INFINITY
    row = next
  }
  return row[b.length]! <= most ? row[b.length]! : Number.POSITIVE_INFINITY
}

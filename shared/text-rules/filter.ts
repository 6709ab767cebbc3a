import { isRawNumber } from '#shared/json/lossless.ts'
import { MAX_DEPTH } from '#shared/text.ts'
import { type Finding, withoutOverlaps } from './findings.ts'
import { findPersonal, PERSONAL_TYPES, type PersonalType } from './personal.ts'
import { findSecrets, isAwsSecretField } from './secrets.ts'
import { isSsnField } from './ssn.ts'

export type FilterType = PersonalType | 'api_key'
/** Number of replacements by type. `depth`: values nested too deeply to be searched. */
export type Filtered = Partial<Record<FilterType | 'depth', number>>

/** Excludes e-mail addresses and phone numbers, which answers often contain on purpose. */
export const DEFAULT_FILTER: readonly FilterType[] = ['card', 'ssn', 'iban', 'api_key']

const ORDER: readonly FilterType[] = ['api_key', ...PERSONAL_TYPES]
/** Types that are recognized by the name of their field. */
const FIELDS: Partial<Record<FilterType, (field: string, value: string) => boolean>> = {
  ssn: isSsnField,
  api_key: isAwsSecretField,
}
const MAX_PASSES = 8

/**
 * Replaces findings of `types` in every string and key of a value parsed from JSON. JSON numbers stay: a schema may
 * require them, and they have no leading zeros, spaces or separators by which to recognize them.
 * @returns `filtered`: null if nothing was found; `value` is then the same object
 */
export function filterOutput(
  value: unknown,
  types: readonly FilterType[] = DEFAULT_FILTER,
): { value: unknown; filtered: Filtered | null } {
  const counts: Filtered = {}
  const filtered = walk(value, types, counts, MAX_DEPTH)
  return { value: filtered, filtered: Object.keys(counts).length > 0 ? counts : null }
}

function walk(value: unknown, types: readonly FilterType[], counts: Filtered, levels: number): unknown {
  if (typeof value === 'string') return filterText(value, types, counts)
  if (typeof value !== 'object' || value === null || isRawNumber(value)) return value
  if (levels === 0) {
    return removed('depth', counts)
  }
  if (Array.isArray(value)) {
    const list = value.map(child => walk(child, types, counts, levels - 1))
    return list.every((child, i) => Object.is(child, value[i])) ? value : list
  }
  const names = new Map<string, number>()
  let isSame = true
  const entries = Object.entries(value).map(([key, child]) => {
    const name = unused(filterText(key, types, counts), names)
    const type =
      typeof child === 'string' ? types.find(one => [key, name].some(field => FIELDS[one]?.(field, child))) : null
    const kept = type ? removed(type, counts) : walk(child, types, counts, levels - 1)
    isSame &&= name === key && Object.is(kept, child)
    return [name, kept] as const
  })
  return isSame ? value : Object.fromEntries(entries)
}

/** Numbers keys that became equal, so that none hides the value of another. */
function unused(name: string, names: Map<string, number>): string {
  if (!names.has(name)) {
    names.set(name, 2)
    return name
  }
  // Continues from the last number, because there may be many. A key may itself look like a numbered one.
  const number = names.get(name)!
  names.set(name, number + 1)
  return unused(`${name} (${number})`, names)
}

function filterText(text: string, types: readonly FilterType[], counts: Filtered): string {
  // No finder matches a shorter text.
  if (text.length < 6) return text
  let rest = text
  // A replacement may uncover further findings next to it, so it repeats until there are none.
  for (let pass = 0; pass < MAX_PASSES; pass++) {
    const findings = find(rest, types)
    if (findings.length === 0) return rest
    rest = replace(rest, findings, counts)
  }
  // Only a malicious text uncovers more with every pass. Further passes would take quadratic time, so it is replaced
  // completely.
  const [first] = find(rest, types)
  if (!first) return rest
  return removed(first.type, counts)
}

function find(text: string, types: readonly FilterType[]): Finding<FilterType>[] {
  const personal = PERSONAL_TYPES.filter(type => types.includes(type))
  const findings: Finding<FilterType>[] = findPersonal(text, { types: personal })
  if (types.includes('api_key')) findings.push(...findSecrets(text))
  return withoutOverlaps(findings, ORDER)
}

function replace(text: string, findings: readonly Finding<FilterType>[], counts: Filtered): string {
  const parts: string[] = []
  let end = 0
  for (const one of findings) {
    parts.push(text.slice(end, one.start), removed(one.type, counts))
    end = one.end
  }
  return parts.join('') + text.slice(end)
}

/** Counts a replacement and returns its placeholder. */
function removed(type: FilterType | 'depth', counts: Filtered): string {
  counts[type] = (counts[type] ?? 0) + 1
  return `[${type} removed]`
}

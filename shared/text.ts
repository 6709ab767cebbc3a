import { isRawNumber } from './json/lossless.ts'

/**
 * Postgres can store neither U+0000 nor half a surrogate pair.
 * @returns the JSON pointer of the first string (or key) that holds one, or null
 */
export function findUnstorable(value: unknown): string | null {
  // JSON.stringify writes exactly these as \u0000 and \ud8xx…\udfxx, so that clean input costs one native pass.
  const json = JSON.stringify(value)
  if (json === undefined || !/\\u(?:0000|d[89a-f])/.test(json)) return null
  return search(value, '')
}

const isUnstorable = (text: string) => text.includes('\0') || !text.isWellFormed()

function search(value: unknown, path: string): string | null {
  if (typeof value === 'string') return isUnstorable(value) ? path : null
  if (typeof value !== 'object' || value === null) return null
  for (const [key, child] of Object.entries(value)) {
    const childPath = `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
    if (isUnstorable(key)) return clean(childPath)
    const found = search(child, childPath)
    if (found !== null) return found
  }
  return null
}

/** What a model wrote, with U+0000 and lone surrogates replaced by U+FFFD. */
export const clean = (text: string): string => text.replaceAll('\0', '\uFFFD').toWellFormed()

/** `clean` for every string and key in a value that was parsed from a model's JSON. */
export function cleanDeep<T>(value: T): T {
  if (findUnstorable(value) === null) return value
  if (typeof value === 'string') return clean(value) as T
  if (isRawNumber(value)) return value
  if (Array.isArray(value)) return value.map(cleanDeep) as T
  return Object.fromEntries(Object.entries(value as object).map(([key, child]) => [clean(key), cleanDeep(child)])) as T
}

/** More than any honest document; far less than JSON.stringify, Ajv and Postgres can take without a stack overflow. */
export const MAX_DEPTH = 200

/** Whether objects and lists are nested deeper than MAX_DEPTH. To be asked first of a value that came from outside. */
export function isTooDeep(value: unknown, levels: number = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null || isRawNumber(value)) return false
  return levels === 0 || Object.values(value).some(child => isTooDeep(child, levels - 1))
}

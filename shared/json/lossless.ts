/**
 * JSON whose numbers keep their value. A number that a double would change, such as an id of 19 digits,
 * 0.1234567890123456789, 1e400 or -0, becomes a `JSON.rawJSON` value, which JSON.stringify writes as it was read. All
 * others are plain numbers. A raw value is an object: call `isRawNumber` before walking into an object, and validate
 * `toDoubles(value)`. It cannot be cloned.
 */

type RawNumber = { readonly rawJSON: string }
/** Source text access, which TypeScript does not declare yet: https://tc39.es/proposal-json-parse-with-source/ */
const json = JSON as object as {
  rawJSON(text: string): RawNumber
  isRawJSON(value: unknown): value is RawNumber
  parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): unknown
}

export const isRawNumber: (value: unknown) => value is RawNumber = json.isRawJSON

/**
 * Matches numbers that may be inexact: negative zero, 16 digits or more, or an exponent of 3 digits. A double holds
 * every decimal of at most 15 digits. A match within a string only costs time.
 */
const SUSPECT =
  /(?:^|[:,[])\s*(?=-0(?:\.0*)?(?![.\d])|-?[\d.]{16}|-?[\d.]{1,15}[eE][+-]?\d{3})(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g

/**
 * Like JSON.parse, but keeps inexact numbers raw.
 * @param schema JSON Schema of the value. Numbers stay raw only where it leaves the value open. Elsewhere they are
 * doubles, because the server computes with them, and the rules of the schema decide whether they are valid.
 * @throws SyntaxError
 */
export function parseJson(text: string, schema?: object): unknown {
  if (!hasInexactNumbers(text)) return JSON.parse(text)
  const value = parseExact(text)
  return schema === undefined ? value : doublesWhereTyped(value, schema)
}

/** Applies the schema of `parseJson` to a value that was parsed without one. */
export const doublesWhereTyped = (value: unknown, schema: object): unknown => rawWhereOpen(value, [schema as Schema])

/** Whether a text may contain numbers that JSON.parse would change. */
export function hasInexactNumbers(text: string): boolean {
  // Not matchAll, which copies the expression: every request body comes through here.
  SUSPECT.lastIndex = 0
  for (let match = SUSPECT.exec(text); match; match = SUSPECT.exec(text)) if (!isExact(match[1]!)) return true
  return false
}

function parseExact(text: string): unknown {
  try {
    return json.parse(text, (_, value, { source }) =>
      typeof value === 'number' && !isExact(source!) ? json.rawJSON(source!) : value,
    )
  } catch (error) {
    // A reviver recurses, JSON.parse alone does not. Every reader refuses values that are nested so deeply.
    if (error instanceof RangeError) return JSON.parse(text)
    throw error
  }
}

/** Whether a double holds the value of the text, and JSON.stringify writes that value. */
function isExact(source: string): boolean {
  const double = Number(source)
  const written = String(double)
  if (written === source) return true
  return Number.isFinite(double) && !Object.is(double, -0) && normalized(source) === normalized(written)
}

/** Equal for equal decimals: sign, digits without leading and trailing zeros, exponent. */
function normalized(decimal: string): string {
  const [mantissa, exponent = '0'] = decimal.toLowerCase().split('e') as [string, string?]
  const isNegative = mantissa.startsWith('-')
  const [whole, fraction = ''] = mantissa.slice(isNegative ? 1 : 0).split('.') as [string, string?]
  const digits = whole + fraction
  let from = 0
  while (digits[from] === '0') from++
  if (from === digits.length) return '0'
  let to = digits.length
  while (digits[to - 1] === '0') to--
  return `${isNegative ? '-' : ''}${digits.slice(from, to)}e${Number(exponent) - fraction.length + digits.length - to}`
}

const exactItems = new WeakMap<unknown[], unknown[]>()

/** The list from which `toDoubles` created this one, in which different items may have become equal. */
export const exactItemsOf = (items: unknown[]): unknown[] => exactItems.get(items) ?? items

/** Replaces every raw number by a double; returns the value itself if there is none. */
export function toDoubles<T>(value: T): T {
  return mapRaw(value, raw => Number(raw.rawJSON)) as T
}

function mapRaw(value: unknown, map: (raw: RawNumber) => unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (isRawNumber(value)) return map(value)
  if (Array.isArray(value)) {
    const items = value.map(item => mapRaw(item, map))
    if (items.every((item, i) => Object.is(item, value[i]))) return value
    exactItems.set(items, value)
    return items
  }
  return withChildren(value, (_, child) => mapRaw(child, map))
}

/** Maps the values of an object; returns the object itself if none changes. Keeps all keys, including `__proto__`. */
function withChildren(value: object, map: (key: string, child: unknown) => unknown): object {
  let changed = false
  const entries = Object.entries(value).map(([key, child]) => {
    const mapped = map(key, child)
    changed ||= !Object.is(mapped, child)
    return [key, mapped] as const
  })
  return changed ? Object.fromEntries(entries) : value
}

/** @returns the JSON pointer of the first raw number under a key of `keys`; null: none */
export function findRaw(value: unknown, keys: readonly string[], path = '', isUnder = false): string | null {
  if (typeof value !== 'object' || value === null) return null
  if (isRawNumber(value)) return isUnder ? path : null
  for (const [key, child] of Object.entries(value)) {
    const at = `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
    const found = findRaw(child, keys, at, isUnder || keys.includes(key))
    if (found !== null) return found
  }
  return null
}

type Schema = Record<string, unknown>
const isSchema = (one: unknown): one is Schema => typeof one === 'object' && one !== null
const RULES = ['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref', 'properties', 'patternProperties', 'items']
const isOpen = (schema: Schema) => !RULES.some(rule => rule in schema)

/** @param schemas all schemas that may apply to the value, including alternatives */
function rawWhereOpen(value: unknown, schemas: Schema[]): unknown {
  if (typeof value !== 'object' || value === null) return value
  const all = schemas.flatMap(alternatives)
  if (all.some(isOpen)) return value
  if (isRawNumber(value)) return Number(value.rawJSON)
  const fitting = all.filter(({ type = 'any' }) =>
    ['any', Array.isArray(value) ? 'array' : 'object'].includes(type as string),
  )
  if (Array.isArray(value)) {
    const items = fitting.map(one => one.items).filter(isSchema)
    return value.map(item => rawWhereOpen(item, items))
  }
  const schemasOf = (key: string) => fitting.flatMap(one => propertySchemas(one, key))
  return withChildren(value, (key, child) => rawWhereOpen(child, schemasOf(key)))
}

function alternatives(schema: Schema): Schema[] {
  const branches = [schema.anyOf, schema.oneOf, schema.allOf].flatMap(list => (Array.isArray(list) ? list : []))
  if (branches.length === 0) return [schema]
  return [...('properties' in schema ? [schema] : []), ...branches.filter(isSchema).flatMap(alternatives)]
}

function propertySchemas({ properties, patternProperties, additionalProperties }: Schema, key: string): Schema[] {
  if (isSchema(properties) && Object.hasOwn(properties, key)) return [properties[key]].filter(isSchema)
  const matching = Object.entries(isSchema(patternProperties) ? patternProperties : {})
    .filter(([pattern]) => new RegExp(pattern, 'u').test(key))
    .map(([, schema]) => schema)
  if (matching.length > 0) return matching.filter(isSchema)
  if (additionalProperties === true || additionalProperties === undefined) return [{}]
  return [additionalProperties].filter(isSchema)
}

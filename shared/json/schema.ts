import { createHash } from 'node:crypto'
import { _, Ajv2020, type CodeKeywordDefinition, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { canonicalJson } from './canonical.ts'
import { exactItemsOf, findRaw, toDoubles } from './lossless.ts'
import { toDraft2020 } from './schema-dialects.ts'
import { limitViolation } from './schema-limits.ts'
import { linearPattern } from './schema-patterns.ts'

const linear = Object.assign(
  // Ajv compares patterns by their text.
  (pattern: string) => ({ ...linearPattern(pattern), toString: () => pattern }),
  { code: 'linear' },
)

/**
 * Maximum number of references followed in one validation. A schema that follows several at each level needs
 * exponentially many; a reasonable one needs a few per value.
 */
const MAX_STEPS = 200_000
let stepsLeft = 0
const step = () => {
  if (--stepsLeft < 0) throw new RangeError('too many references to follow')
}

/** Maximum length for the format `url`, whose regular expression takes quadratic time. */
const MAX_URL = 4096

const unique = new WeakMap<unknown[], boolean>()
/** Ajv's own check compares every pair of items. */
function isUnique(items: unknown[]): boolean {
  const known = unique.get(items) ?? new Set(exactItemsOf(items).map(canonicalJson)).size === items.length
  unique.set(items, known)
  return known
}

/** Maximum length of a reason, because Ajv lists every error. */
const MAX_REASON = 500

/** Maximum number of compiled schemas, and of refused ones, that a process remembers. Compiling takes milliseconds. */
const MAX_REMEMBERED = 200

/** A cache that evicts the oldest entry. */
function createMemory<Value>() {
  const found = new Map<string, Value>()
  return {
    get: (key: string) => found.get(key),
    set(key: string, value: Value) {
      // A Map iterates in order of insertion.
      if (found.size >= MAX_REMEMBERED) found.delete(found.keys().next().value!)
      found.set(key, value)
    },
  }
}
/** Shared, because it compiles the meta-schemas, which takes longer than most schemas. */
const meta = new Ajv2020({ strict: false, logger: false })
addFormats.default(meta)

/** One Ajv per schema, because two schemas may have the same `$id`. */
function createAjv(): Ajv2020 {
  const ajv = new Ajv2020({
    strict: false,
    logger: false,
    meta: false,
    validateSchema: false,
    // Inlining references and optimizing code take quadratic time.
    inlineRefs: false,
    code: { regExp: linear, optimize: false },
  })
  addFormats.default(ajv)
  const url = ajv.formats.url as RegExp
  ajv.addFormat('url', text => text.length <= MAX_URL && url.test(text))
  for (const keyword of ['$ref', '$dynamicRef', '$recursiveRef']) {
    const definition = ajv.getKeyword(keyword) as CodeKeywordDefinition
    ajv.removeKeyword(keyword)
    ajv.addKeyword({
      ...definition,
      code(context) {
        context.gen.code(_`${context.gen.scopeValue('func', { ref: step })}()`)
        definition.code(context)
      },
    })
  }
  ajv.removeKeyword('uniqueItems')
  ajv.addKeyword({
    keyword: 'uniqueItems',
    type: 'array',
    schemaType: 'boolean',
    validate: (wanted: boolean, items: unknown[]) => !wanted || isUnique(items),
    errors: false,
    error: { message: 'must not have duplicate items' },
  })
  return ajv
}

function compile(schema: Record<string, unknown>): ValidateFunction {
  // An extension of Ajv: validation would return a promise, which is truthy, and reject later without a handler.
  if ('$async' in schema) throw new Error('$async is not supported')
  const current = toDraft2020(schema)
  const complaint = limitViolation(current)
  if (complaint !== null) throw new Error(complaint)
  if (!meta.validateSchema(current)) throw new Error(metaViolation(meta.errors ?? []))
  checkPatterns(current, '')
  return createAjv().compile(current)
}

const sound = createMemory<string | null>()

/** @returns the error in a JSON Schema that is only passed on; null: there is none. Limits and patterns are the provider's matter. */
export function schemaProblem(schema: Record<string, unknown>): string | null {
  const key = createHash('sha256').update(JSON.stringify(schema)).digest('base64')
  let problem = sound.get(key)
  if (problem === undefined) {
    problem = findProblem(schema)
    sound.set(key, problem)
  }
  return problem
}

function findProblem(schema: Record<string, unknown>): string | null {
  try {
    return meta.validateSchema(toDraft2020(toDoubles(schema))) ? null : metaViolation(meta.errors ?? [])
  } catch (error) {
    return error instanceof RangeError ? 'it is nested too deeply' : (error as Error).message.slice(0, MAX_REASON)
  }
}

/** Describes the deepest error. Ajv lists an error for every alternative that it tried. */
function metaViolation(errors: ErrorObject[]): string {
  const deepest = Math.max(...errors.map(one => one.instancePath.split('/').length))
  const innermost = errors.filter(one => one.instancePath.split('/').length === deepest)
  const { instancePath, message, params } = innermost.find(one => one.keyword === 'enum') ?? innermost[0]!
  const { allowedValues } = params as { allowedValues?: unknown[] }
  const allowed = Array.isArray(allowedValues) ? `: ${allowedValues.join(', ')}` : ''
  return `${instancePath || '(root)'} ${message ?? 'is not valid'}${allowed}`
}

/** @throws Error that names the path of an unusable pattern */
function checkPatterns(value: unknown, path: string): void {
  if (typeof value !== 'object' || value === null) return
  for (const [key, child] of Object.entries(value)) {
    if (key === 'enum' || key === 'const' || key === 'default' || key === 'examples') continue
    const place = `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
    const patterns = key === 'pattern' ? [child] : key === 'patternProperties' ? Object.keys(child ?? {}) : []
    for (const pattern of patterns) if (typeof pattern === 'string') tryPattern(pattern, place)
    checkPatterns(child, place)
  }
}

function tryPattern(pattern: string, path: string): void {
  try {
    linearPattern(pattern)
  } catch (error) {
    const why = (error as Error).message.replace(/^error parsing regexp: /, '')
    throw new Error(
      `${path} is not a usable pattern: ${why}; back references are not allowed, and look-aheads only after a leading ^`,
    )
  }
}

const compiled = createMemory<ValidateFunction>()
const refused = createMemory<string>()

/**
 * Compiles a JSON Schema of a client, in any draft from 4 to 2020-12 or OpenAPI 3.
 * @throws Error that describes the error in the schema
 */
export function compileSchema(schema: Record<string, unknown>): ValidateFunction {
  const key = createHash('sha256').update(JSON.stringify(schema)).digest('base64')
  const known = compiled.get(key)
  if (known) return known
  const reason = refused.get(key)
  if (reason !== undefined) throw new Error(reason)
  try {
    // Validation uses doubles. That rounds bounds, but for these keywords other values would match.
    const inexact = findRaw(schema, ['const', 'enum', 'multipleOf'])
    if (inexact !== null) throw new Error(`${inexact} has more digits than can be compared; use a string`)
    const validate = compile(toDoubles(schema))
    compiled.set(key, validate)
    return validate
  } catch (error) {
    const message =
      error instanceof RangeError ? 'it is nested too deeply' : (error as Error).message.slice(0, MAX_REASON)
    refused.set(key, message)
    throw new Error(message)
  }
}

/** @returns the path and description of the first error in `value`; null: it is valid */
export function violation(validate: ValidateFunction, value: unknown): string | null {
  stepsLeft = MAX_STEPS
  try {
    if (validate(toDoubles(value))) return null
  } catch (error) {
    // Out of steps, or of stack.
    if (error instanceof RangeError) return '(root) takes too long to check'
    throw error
  }
  const first = validate.errors?.[0]
  return `${first?.instancePath || '(root)'} ${first ? errorText(first) : 'does not match'}`
}

/** Maximum length of the list of values in a message. */
const MAX_LISTED = 300

/** Ajv's message with the details that it omits: the allowed values, or the name of the unknown property. */
function errorText({ keyword, message, params }: ErrorObject): string {
  const said = message ?? 'does not match'
  if (keyword === 'enum' || keyword === 'const') {
    const { allowedValues, allowedValue } = params as { allowedValues?: unknown[]; allowedValue?: unknown }
    const listed = (allowedValues ?? [allowedValue]).map(one => JSON.stringify(one)).join(', ')
    return listed.length > MAX_LISTED ? said : `${said}: ${listed}`
  }
  if (keyword === 'additionalProperties' || keyword === 'unevaluatedProperties') {
    const name: unknown = params.additionalProperty ?? params.unevaluatedProperty
    // The message goes to the model. It must not contain arbitrary text that the model wrote.
    return typeof name === 'string' && /^[\w.-]{1,40}$/.test(name) ? `${said}: "${name}"` : said
  }
  return said
}

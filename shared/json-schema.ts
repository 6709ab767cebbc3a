import { createHash } from 'node:crypto'
import { _, Ajv2020, type CodeKeywordDefinition, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { RE2JS } from 're2js'
import { canonicalJson } from './canonical.ts'
import { complaintOfSchema } from './json-schema-limits.ts'

/**
 * A schema's `pattern` in linear time: with the language's own engine a client could stop a worker for minutes with
 * `^(a+)+$`. Back references and look-around are refused.
 */
const linear = Object.assign(
  (pattern: string) => {
    const compiled = RE2JS.compile(RE2JS.translateRegExp(pattern))
    // Ajv takes patterns for the same if they print the same.
    return { test: (text: string) => compiled.matcher(text).find(), toString: () => pattern }
  },
  { code: 'linear' },
)

/**
 * References that are followed for one answer, at most. A schema may follow several for every level of the answer, and so
 * many times more for the next; an honest one needs some for every value.
 */
const MOST_STEPS = 200_000
let stepsLeft = 0
const step = () => {
  if (--stepsLeft < 0) throw new RangeError('too many references to follow')
}

/** Characters of what has the format `url`, whose regular expression takes quadratic time. */
const MOST_URL = 4096

const unique = new WeakMap<unknown[], boolean>()
/** Ajv's own compares every two items. */
function isUnique(items: unknown[]): boolean {
  const known = unique.get(items) ?? new Set(items.map(canonicalJson)).size === items.length
  unique.set(items, known)
  return known
}

/** Knows the drafts' own schemas, which take longer to compile than most of what they are asked about. */
const meta = new Ajv2020({ strict: false, logger: false })
addFormats.default(meta)

/** Every schema has an Ajv of its own: two may have the same `$id`. */
function createAjv(): Ajv2020 {
  const ajv = new Ajv2020({
    strict: false,
    logger: false,
    meta: false,
    validateSchema: false,
    // A definition that is written out at every reference to it, and code that is made shorter, take quadratic time.
    inlineRefs: false,
    code: { regExp: linear, optimize: false },
  })
  addFormats.default(ajv)
  const url = ajv.formats.url as RegExp
  ajv.addFormat('url', text => text.length <= MOST_URL && url.test(text))
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
  // Ajv's own extension: validation would answer with a promise, which is true, and reject later with nobody listening.
  if ('$async' in schema) throw new Error('$async is not supported')
  const complaint = complaintOfSchema(schema)
  if (complaint !== null) throw new Error(complaint)
  meta.validateSchema(schema, true)
  return createAjv().compile(schema)
}

/** Characters of a reason; Ajv names everything that is wrong. */
const MOST_REASON = 500

/** Most schemas that a process remembers, of those that compile and of those that do not; compiling costs milliseconds. */
const REMEMBERED = 200

/** What was found for a key; the oldest goes when there are too many. */
function createMemory<Value>() {
  const found = new Map<string, Value>()
  return {
    get: (key: string) => found.get(key),
    set(key: string, value: Value) {
      // A Map iterates in order of insertion.
      if (found.size >= REMEMBERED) found.delete(found.keys().next().value!)
      found.set(key, value)
    },
  }
}
const compiled = createMemory<ValidateFunction>()
const refused = createMemory<string>()

/**
 * Compiles a JSON Schema (draft 2020-12) that came from outside.
 * @throws Error saying what is wrong with it
 */
export function compileSchema(schema: Record<string, unknown>): ValidateFunction {
  const key = createHash('sha256').update(JSON.stringify(schema)).digest('base64')
  const known = compiled.get(key)
  if (known) return known
  const reason = refused.get(key)
  if (reason !== undefined) throw new Error(reason)
  try {
    const validate = compile(schema)
    compiled.set(key, validate)
    return validate
  } catch (error) {
    const message =
      error instanceof RangeError ? 'it is nested too deeply' : (error as Error).message.slice(0, MOST_REASON)
    refused.set(key, message)
    throw new Error(message)
  }
}

/** @returns what is wrong with `value`, or null */
export function violation(validate: ValidateFunction, value: unknown): string | null {
  stepsLeft = MOST_STEPS
  try {
    if (validate(value)) return null
  } catch (error) {
    // Out of steps, or of stack.
    if (error instanceof RangeError) return '(root) takes too long to be checked'
    throw error
  }
  const first = validate.errors?.[0]
  return `${first?.instancePath || '(root)'} ${first?.message ?? 'does not match'}`
}

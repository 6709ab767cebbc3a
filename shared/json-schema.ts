import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { RE2JS } from 're2js'

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

/** Most compiled schemas that a process remembers; compiling costs milliseconds. */
const REMEMBERED = 200
const compiled = new Map<string, ValidateFunction>()

/**
 * Compiles a JSON Schema (draft 2020-12) that came from outside.
 * @throws Error saying what is wrong with it
 */
export function compileSchema(schema: Record<string, unknown>): ValidateFunction {
  const key = JSON.stringify(schema)
  const known = compiled.get(key)
  if (known) return known
  // Ajv's own extension: validation would answer with a promise, which is true, and reject later with nobody listening.
  if ('$async' in schema) throw new Error('$async is not supported')
  const ajv = new Ajv2020({ strict: false, logger: false, code: { regExp: linear } })
  addFormats.default(ajv)
  const validate = ajv.compile(schema)
  // Oldest out: a Map iterates in order of insertion.
  if (compiled.size >= REMEMBERED) compiled.delete(compiled.keys().next().value!)
  compiled.set(key, validate)
  return validate
}

/** @returns what is wrong with `value`, or null */
export function violation(validate: ValidateFunction, value: unknown): string | null {
  if (validate(value)) return null
  const first = validate.errors?.[0]
  return `${first?.instancePath || '(root)'} ${first?.message ?? 'does not match'}`
}

import type { ValidateFunction } from 'ajv'
import type { TSchema } from 'typebox'
import { canonicalJson } from '#shared/json/canonical.ts'
import { parseJson } from '#shared/json/lossless.ts'
import { compileSchema, violation } from '#shared/json/schema.ts'
import { cleanDeep, isTooDeep } from '#shared/text.ts'
import { scanJson, valueAt } from './json-scan.ts'

/**
 * Reads structured answers for all kinds. Models wrap a correct answer in a Markdown fence, reasoning or prose. The
 * answer is accepted if it is unambiguous.
 */

/** `source`: the JSON text of the value. */
export type JsonAnswer<Result> = { ok: true; value: Result; source: string } | { ok: false; reason: string }

type Options = {
  /**
   * For verdicts, which a moderated text may try to inject: a second JSON value, valid or not, a repeated key, or
   * reasoning with an unclear end makes the answer ambiguous.
   */
  strict?: boolean
  /**
   * Numbers that a double would change stay exact where this schema leaves the value open; absent: everywhere. See
   * `parseJson`.
   */
  schema?: TSchema
}

/** Maximum number of JSON values in one answer that are compared with the schema. */
const MAX_VALUES = 32

/** Reads the one JSON value in an answer that matches the schema. `reason` is safe to show to the model. */
export const readJson = <Result>(text: string, schema: TSchema, options: Options = {}): JsonAnswer<Result> =>
  readMatching<Result>(text, compileSchema(schema as Record<string, unknown>), { ...options, schema })

/** `readJson` with a compiled schema. */
export function readMatching<Result>(
  text: string,
  validate: ValidateFunction,
  options: Options = {},
): JsonAnswer<Result> {
  const { strict = false } = options
  const whole = text.trim()
  const read = (json: string) => parseMatching<Result>(json, validate, options)
  const bare = read(whole)
  if (bare.kind !== 'not_json') return toAnswer(bare)

  const { values, broken, invalid, discarded, reasoning } = scanJson(whole)
  const last = values.at(-1)
  const endsText = last !== undefined && isClosing(whole.slice(last.end))
  if (reasoning.open && (strict || !endsText))
    return { ok: false, reason: 'the answer has reasoning that does not end' }
  if (last === undefined) {
    const rest = whole.slice(reasoning.end)
    const scalar = read(unfenced(rest).trim())
    return scalar.kind === 'not_json' ? { ok: false, reason: whyNotJson(rest) } : toAnswer(scalar)
  }
  const doubtful = strict && (invalid > 0 || discarded > 0 || (reasoning.found && !endsText))
  if (doubtful || broken.some(at => at > last.end)) return { ok: false, reason: AMBIGUOUS }
  const texts = [...new Set(values.map(one => one.text))]
  if (texts.length > MAX_VALUES) return { ok: false, reason: AMBIGUOUS }
  const found = texts.map(read)
  const matches = new Map(found.flatMap(one => (one.kind === 'match' ? [[canonicalJson(one.value), one]] : [])))
  if (matches.size > 1 || (strict && values.length > 1)) return { ok: false, reason: AMBIGUOUS }
  const [match = found.at(-1)!] = matches.values()
  return toAnswer(match)
}

const AMBIGUOUS = 'the answer holds more than one JSON value; write the final one only'

type Parsed<Result> =
  | { kind: 'match'; value: Result; source: string }
  | { kind: 'mismatch'; reason: string }
  | { kind: 'not_json' }

const toAnswer = <Result>(found: Parsed<Result>): JsonAnswer<Result> => {
  if (found.kind === 'match') return { ok: true, value: found.value, source: found.source }
  return { ok: false, reason: found.kind === 'mismatch' ? found.reason : 'the answer is not JSON' }
}

function parseMatching<Result>(
  json: string,
  validate: ValidateFunction,
  options: Options,
  inString = false,
): Parsed<Result> {
  let value: unknown
  try {
    value = parseJson(json, options.schema)
  } catch {
    return { kind: 'not_json' }
  }
  if (isTooDeep(value)) return { kind: 'mismatch', reason: 'the answer is nested too deeply' }
  if (options.strict && valueAt(json, 0).repeats) return { kind: 'mismatch', reason: 'the answer has a key twice' }
  value = cleanDeep(value)
  const wrong = violation(validate, value)
  if (wrong === null) return { kind: 'match', value: value as Result, source: json }
  // Some models write the object as a JSON string that contains JSON.
  if (typeof value === 'string' && !inString) {
    const inner = parseMatching<Result>(value.trim(), validate, options, true)
    if (inner.kind === 'match') return inner
  }
  return { kind: 'mismatch', reason: `the answer does not match the schema: ${wrong}` }
}

/** Names the position of the first JSON error, if the answer looks like JSON. */
function whyNotJson(text: string): string {
  const at = text.search(/[{[]/)
  if (at < 0) return 'the answer is not JSON'
  const { end, keyed } = valueAt(text, at)
  if (end >= text.length) return 'the answer is not JSON: it ends before its JSON is complete'
  return keyed ? `the answer is not JSON: there is an error at character ${end + 1}` : 'the answer is not JSON'
}

const FENCE = /^[ \t]*(`{3,}|~{3,})/

/**
 * The content of a Markdown fence that encloses the whole text; any other text unchanged. Works by lines, because a
 * regular expression over the whole text would backtrack for hours on long white space.
 */
export function unfenced(text: string): string {
  const whole = text.trim()
  const mark = FENCE.exec(whole)?.[1]
  const from = whole.indexOf('\n')
  const to = whole.lastIndexOf('\n')
  if (!mark || from < 0 || from === to) return text
  const isFence = isClosing(whole.slice(to)) && whole.slice(to).includes(mark)
  return isFence ? whole.slice(from, to).trim() : text
}

/** Whether the text is only the end of a fence, or a tag or token that ends an answer. */
const isClosing = (text: string): boolean => /^(?:`{3,}|~{3,})?$|^<(?:\/\w{1,20}|\|\w{1,20}\|)>$/.test(text.trim())

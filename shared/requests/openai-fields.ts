import { isRawNumber } from '#shared/json/lossless.ts'
import type { ToolProblem } from './tools.ts'
import type { RequestFault } from './wire.ts'

/** Readers for the fields of OpenAI's requests, with the codes and the wording of OpenAI's errors. null counts as absent. */

export type Fields = Record<string, unknown>

/** The first fault of a request. Thrown by readers, returned by `reading`. */
class FieldFault extends Error {
  readonly fault: RequestFault
  constructor(fault: RequestFault) {
    super(fault.message)
    this.fault = fault
  }
}

/** Runs a reader. @returns its result, or the fault that it threw */
export function reading<T extends object>(read: () => T): T | RequestFault {
  try {
    return read()
  } catch (error) {
    if (error instanceof FieldFault) return error.fault
    throw error
  }
}

export function fault(code: string, param: string | null, message: string): never {
  throw new FieldFault({ code, param, message })
}

export const invalidType = (value: unknown, param: string, expected: string): never =>
  fault('invalid_type', param, `Invalid type for '${param}': expected ${expected}, but got ${nameOf(value)} instead.`)

export const invalidValue = (value: unknown, param: string, supported: readonly string[]): never =>
  fault(
    'invalid_value',
    param,
    `Invalid value: '${String(value).slice(0, 100)}'. Supported values are: ${supported.map(one => `'${one}'`).join(', ')}.`,
  )

export const missing = (param: string): never =>
  fault('missing_required_parameter', param, `Missing required parameter: '${param}'.`)

/** @param path of the tool */
export function refuseTool(problem: ToolProblem | null, path: string): void {
  if (!problem) return
  const { field, code, message } = problem
  fault(code, `${path}.${field}`, field === 'name' ? `Invalid '${path}.name': ${message}.` : message)
}

export const isAbsent = (value: unknown): value is null | undefined => value === undefined || value === null

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !isRawNumber(value)

type Reader<T> = (value: unknown, param: string) => T

/** Reads a field that may be absent. */
export const optional = <T>(value: unknown, param: string, read: Reader<T>): T | undefined =>
  isAbsent(value) ? undefined : read(value, param)

/** Reads a field that must be given. */
export const required = <T>(value: unknown, param: string, read: Reader<T>): T =>
  isAbsent(value) ? missing(param) : read(value, param)

export const text: Reader<string> = (value, param) =>
  typeof value === 'string' ? value : invalidType(value, param, 'a string')

export const flag: Reader<boolean> = (value, param) =>
  typeof value === 'boolean' ? value : invalidType(value, param, 'a boolean')

export const fields: Reader<Fields> = (value, param) =>
  isFields(value) ? value : invalidType(value, param, 'an object')

export const list: Reader<unknown[]> = (value, param) =>
  Array.isArray(value) ? value : invalidType(value, param, 'an array')

export const among =
  <const T extends string>(values: readonly T[]): Reader<T> =>
  (value, param) =>
    values.includes(text(value, param) as T) ? (value as T) : invalidValue(value, param, values)

export const decimal =
  (min: number, max: number): Reader<number> =>
  (value, param) =>
    within(toNumber(value) ?? invalidType(value, param, 'a decimal'), param, 'decimal', min, max)

export const integer =
  (min: number, max = Number.MAX_SAFE_INTEGER): Reader<number> =>
  (value, param) => {
    const number = toNumber(value)
    return number !== undefined && Number.isInteger(number)
      ? within(number, param, 'integer', min, max)
      : invalidType(value, param, 'an integer')
  }

const MAX_PAIRS = 16
const MAX_KEY = 64
const MAX_VALUE = 512

/** OpenAI's `metadata`: at most 16 strings. */
export const metadata: Reader<Record<string, string>> = (value, param) => {
  const pairs = Object.entries(fields(value, param))
  if (pairs.length > MAX_PAIRS)
    fault(
      'object_above_max_properties',
      param,
      `Invalid '${param}': at most ${MAX_PAIRS} pairs, but got ${pairs.length}.`,
    )
  for (const [key, one] of pairs) {
    if (key.length > MAX_KEY)
      fault('string_above_max_length', param, `Invalid '${param}': keys have at most ${MAX_KEY} characters.`)
    if (text(one, `${param}.${key}`).length > MAX_VALUE)
      fault('string_above_max_length', `${param}.${key}`, `Invalid '${param}.${key}': at most ${MAX_VALUE} characters.`)
  }
  return value as Record<string, string>
}

export const toNumber = (value: unknown): number | undefined =>
  typeof value === 'number' ? value : isRawNumber(value) ? Number(value.rawJSON) : undefined

function within(value: number, param: string, type: string, min: number, max: number): number {
  if (value < min)
    fault(
      `${type}_below_min_value`,
      param,
      `Invalid '${param}': ${type} below minimum value. Expected a value >= ${min}, but got ${value} instead.`,
    )
  if (value > max)
    fault(
      `${type}_above_max_value`,
      param,
      `Invalid '${param}': ${type} above maximum value. Expected a value <= ${max}, but got ${value} instead.`,
    )
  return value
}

function nameOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  const number = toNumber(value)
  if (number !== undefined) return Number.isInteger(number) ? 'an integer' : 'a decimal'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

import { type Fields, fault, isAbsent, isFields, toNumber } from '../openai-fields.ts'

/** Readers for the fields of Anthropic's requests, with the wording of its errors. null counts as absent. */

type Reader<T> = (value: unknown, path: string) => T

export const invalid = (path: string, message: string): never =>
  fault('invalid_request_error', path, `${path}: ${message}`)

/** Reads a field that may be absent. */
export const optional = <T>(value: unknown, path: string, read: Reader<T>): T | undefined =>
  isAbsent(value) ? undefined : read(value, path)

/** Reads a field that must be given. */
export const required = <T>(value: unknown, path: string, read: Reader<T>): T =>
  isAbsent(value) ? invalid(path, 'Field required') : read(value, path)

export const text: Reader<string> = (value, path) =>
  typeof value === 'string' ? value : invalid(path, 'Input should be a valid string')

export const flag: Reader<boolean> = (value, path) =>
  typeof value === 'boolean' ? value : invalid(path, 'Input should be a valid boolean')

export const fields: Reader<Fields> = (value, path) =>
  isFields(value) ? value : invalid(path, 'Input should be a valid dictionary')

export const list: Reader<unknown[]> = (value, path) =>
  Array.isArray(value) ? value : invalid(path, 'Input should be a valid list')

export const among =
  <const T extends string>(values: readonly T[]): Reader<T> =>
  (value, path) =>
    values.find(one => one === value) ??
    invalid(
      path,
      `Input should be ${values
        .map(one => `'${one}'`)
        .join(', ')
        .replace(/, (?=[^,]*$)/, ' or ')}`,
    )

export const integer =
  (min: number): Reader<number> =>
  (value, path) => {
    const number = toNumber(value)
    if (number === undefined || !Number.isInteger(number)) return invalid(path, 'Input should be a valid integer')
    return number >= min ? number : invalid(path, `Input should be greater than or equal to ${min}`)
  }

export const decimal =
  (min: number, max: number): Reader<number> =>
  (value, path) => {
    const number = toNumber(value)
    if (number === undefined) return invalid(path, 'Input should be a valid number')
    return number >= min && number <= max ? number : invalid(path, `Input should be between ${min} and ${max}`)
  }

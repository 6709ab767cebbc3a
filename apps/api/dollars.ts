import { Type } from 'typebox'

/** Dollars in an answer: a decimal, exact. */
export const dollarsText = (description?: string) =>
  Type.String({ pattern: '^\\d+(\\.\\d+)?$', examples: ['12.5'], ...(description && { description }) })

const DECIMAL = '^\\d{1,12}(\\.\\d{1,12})?$'
const decimal = new RegExp(DECIMAL)

/** The same of what may be below 0: an estimate that was corrected later than it was counted. */
export const signedDollarsText = (description?: string) =>
  Type.String({ pattern: '^-?\\d+(\\.\\d+)?$', ...(description && { description }) })

/** Dollars in a request. To be read by `exactDollars`. */
export const dollarsInput = (description: string) =>
  Type.Unsafe<number | string>({ type: ['number', 'string'], minimum: 0, pattern: DECIMAL, description })

/** Every decimal of so many digits survives being a number in JSON; of more, some do not. */
const SAFE_DIGITS = 15

/** The decimal that was written, with up to 12 places and below 10^12; null if it is not known to be that. */
export function exactDollars(amount: number | string): string | null {
  const text = typeof amount === 'number' ? written(amount) : amount
  return text !== null && decimal.test(text) ? text : null
}

function written(amount: number): string | null {
  const [mantissa, exponent] = String(amount).split('e') as [string, string?]
  const digits = mantissa.replace('.', '')
  if (digits.replace(/^0+/, '').length > SAFE_DIGITS) return null
  // Numbers below 10^-6 have an exponent, as do those that are far too large.
  return exponent === undefined ? mantissa : Number(exponent) < 0 ? `0.${'0'.repeat(-exponent - 1)}${digits}` : null
}

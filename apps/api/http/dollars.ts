import { Type } from 'typebox'
import { invalidField } from './invalid-field.ts'

/** Dollars in a response: an exact decimal. */
export const dollarsText = (description?: string) =>
  Type.String({ pattern: '^\\d+(\\.\\d+)?$', examples: ['12.5'], ...(description && { description }) })

const DECIMAL = '^\\d{1,12}(\\.\\d{1,12})?$'
const RULE = 'dollars as a decimal with at most 12 digits on each side of the point, such as "12.5"'
const decimal = new RegExp(DECIMAL)

/** The same for amounts that may be negative: corrections of estimates. */
export const signedDollarsText = (description?: string) =>
  Type.String({ pattern: '^-?\\d+(\\.\\d+)?$', ...(description && { description }) })

/** Dollars in a request. Read them with `readDollars`. */
export const dollarsInput = (description: string) =>
  Type.Unsafe<number | string>({
    type: ['number', 'string'],
    minimum: 0,
    pattern: DECIMAL,
    'x-rule': RULE,
    description,
  })

/** A decimal of up to 15 digits is exact as a JSON number; longer ones may not be. */
const SAFE_DIGITS = 15

/** @throws SluiceError invalid_request */
export function readDollars(amount: number | string, pointer: string): string {
  const exact = exactDollars(amount)
  if (exact !== null) return exact
  throw invalidField(
    pointer,
    'must be a number of at most 15 digits, or a string with at most 12 digits on each side of the point',
  )
}

/** The decimal that the client wrote, below 10^12 and with up to 12 places; null if it cannot be recovered exactly. */
export function exactDollars(amount: number | string): string | null {
  const text = typeof amount === 'number' ? written(amount) : amount
  return text !== null && decimal.test(text) ? text : null
}

function written(amount: number): string | null {
  const [mantissa, exponent] = String(amount).split('e') as [string, string?]
  const digits = mantissa.replace('.', '')
  if (digits.replace(/^0+/, '').length > SAFE_DIGITS) return null
  // JavaScript writes numbers below 10^-6 or from 10^21 with an exponent.
  return exponent === undefined ? mantissa : Number(exponent) < 0 ? `0.${'0'.repeat(-exponent - 1)}${digits}` : null
}

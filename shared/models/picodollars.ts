/**
 * Money as whole picodollars (10^-12 USD), so that sums are exact. A price of one dollar per million tokens is 10^6
 * picodollars per token.
 */

/** Decimals with up to six places, and below a million: beyond that a price is a mistake. */
export const DECIMAL = '^\\d{1,6}(\\.\\d{1,6})?$'
const decimal = new RegExp(DECIMAL)

/** One, as `millionths` writes it. */
export const WHOLE = 1_000_000n

/**
 * A decimal as a whole number of millionths: dollars per million tokens become picodollars per token.
 * @throws RangeError if it is not a decimal as `DECIMAL` wants it
 */
export function millionths(text: string): bigint {
  if (!decimal.test(text)) throw new RangeError(`not a decimal with up to six places: ${JSON.stringify(text)}`)
  const [whole, fraction = ''] = text.split('.')
  return BigInt(whole + fraction.padEnd(6, '0'))
}

/** The shortest decimal of a number of millionths. */
export function fromMillionths(amount: bigint): string {
  const digits = amount.toString().padStart(7, '0')
  return `${digits.slice(0, -6)}.${digits.slice(-6)}`.replace(/\.?0+$/, '')
}

/** Dollars as Postgres or `dollars` write them, up to 12 places, as a whole number of picodollars. */
export function picodollars(text: string): bigint {
  const [whole, fraction = ''] = text.split('.')
  return BigInt(whole + fraction.padEnd(12, '0'))
}

/** Dollars as a decimal with 12 places. */
export function dollars(picodollars: bigint): string {
  const digits = picodollars.toString().padStart(13, '0')
  return `${digits.slice(0, -12)}.${digits.slice(-12)}`
}

/**
 * Money as whole picodollars (10^-12 USD), so that sums are exact. A price of one dollar per million tokens is 10^6
 * picodollars per token.
 */

/** Decimals below a million with up to six places. Anything else in a price is a mistake. */
export const DECIMAL = '^\\d{1,6}(\\.\\d{1,6})?$'
const decimal = new RegExp(DECIMAL)

/** 1 in millionths. */
export const WHOLE = 1_000_000n

/**
 * Converts a decimal to millionths: dollars per million tokens become picodollars per token.
 * @throws RangeError if the text does not match `DECIMAL`
 */
export function millionths(text: string): bigint {
  if (!decimal.test(text)) throw new RangeError(`not a decimal with up to six places: ${JSON.stringify(text)}`)
  const [whole, fraction = ''] = text.split('.')
  return BigInt(whole + fraction.padEnd(6, '0'))
}

/** Converts millionths to the shortest decimal. */
export function fromMillionths(amount: bigint): string {
  const digits = amount.toString().padStart(7, '0')
  return `${digits.slice(0, -6)}.${digits.slice(-6)}`.replace(/\.?0+$/, '')
}

/** Converts dollars, as Postgres or `dollars` write them (up to 12 places), to picodollars. */
export function picodollars(text: string): bigint {
  const [whole, fraction = ''] = text.split('.')
  return BigInt(whole + fraction.padEnd(12, '0'))
}

/** Converts picodollars to dollars, as a decimal with 12 places. */
export function dollars(picodollars: bigint): string {
  const digits = picodollars.toString().padStart(13, '0')
  return `${digits.slice(0, -12)}.${digits.slice(-12)}`
}

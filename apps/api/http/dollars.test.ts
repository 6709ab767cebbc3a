import fc from 'fast-check'
import { expect, it } from 'vitest'
import { exactDollars } from './dollars.ts'

it.each([
  [0, '0'],
  [-0, '0'],
  [25, '25'],
  [0.1, '0.1'],
  [1e-7, '0.0000001'],
  [1.5e-11, '0.000000000015'],
  [999_999_999_999.123, '999999999999.123'],
  ['0.10', '0.10'],
  ['999999999999.123456789012', '999999999999.123456789012'],
])('%s is read exactly', (amount, text) => {
  expect(exactDollars(amount)).toBe(text)
})

it.each([
  0.1 + 0.2,
  1e-13,
  1e12,
  1e300,
  JSON.parse('999999999999.12345'),
  -1,
  '-1',
  '1e3',
  '.5',
  '1.',
  '',
  ' 1',
  'NaN',
])('%s is refused', amount => {
  expect(exactDollars(amount)).toBeNull()
})

it('an accepted amount is never changed', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 999_999_999_999_999 }), fc.integer({ min: 0, max: 12 }), (digits, places) => {
      const text = digits.toString().padStart(places + 1, '0')
      const whole = text.slice(0, text.length - places)
      fc.pre(whole.length <= 12)
      const amount = places > 0 ? `${whole}.${text.slice(-places)}` : whole
      const plain = amount.includes('.') ? amount.replace(/\.?0+$/, '') : amount
      expect(exactDollars(JSON.parse(amount))).toBe(plain)
      expect(exactDollars(amount)).toBe(amount)
    }),
  )
})

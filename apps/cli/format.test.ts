import { expect, test } from 'vitest'
import { bytes, dollars, duration, quoted } from './format.ts'

test.each([
  [0, '0 s'],
  [59.6, '1 min 0 s'],
  [3599, '59 min 59 s'],
  [3600, '1 h 0 min'],
  [90_000, '25 h 0 min'],
  [-3, '0 s'],
])('%d seconds are %s', (seconds, text) => {
  expect(duration(seconds)).toBe(text)
})

test.each([
  [0, '0 bytes'],
  [999, '999 bytes'],
  [1000, '1 KB'],
  [25_349_000, '25.3 MB'],
  [2e13, '20,000 GB'],
])('%d bytes are %s', (count, text) => {
  expect(bytes(count)).toBe(text)
})

test('amounts below a dollar have four decimals', () => {
  expect([0.00171, 0.5, 12.345].map(dollars)).toEqual(['$0.0017', '$0.5000', '$12.35'])
})

test('a quoted word is safe to paste into a shell', () => {
  expect(['out.jsonl', 'a b', "it's", '$(rm)', ''].map(quoted)).toEqual([
    'out.jsonl',
    "'a b'",
    "'it'\\''s'",
    "'$(rm)'",
    "''",
  ])
})

import { expect, it } from 'vitest'
import { parseTimestamp } from './timestamps.ts'

it.each([
  ['2026-03-01', '2026-03-01T00:00:00.000Z', '2026-03-02T00:00:00.000Z'],
  ['2028-02-29', '2028-02-29T00:00:00.000Z', '2028-03-01T00:00:00.000Z'],
  ['2026-03-01T10:30', '2026-03-01T10:30:00.000Z', '2026-03-01T10:30:00.000Z'],
  ['2026-03-01T10:30:05.5Z', '2026-03-01T10:30:05.500Z', '2026-03-01T10:30:05.500Z'],
  ['2026-03-01T00:30:00+02:00', '2026-02-28T22:30:00.000Z', '2026-02-28T22:30:00.000Z'],
])('%s is parsed', (text, start, end) => {
  expect([parseTimestamp(text, 'start')?.toISOString(), parseTimestamp(text, 'end')?.toISOString()]).toEqual([
    start,
    end,
  ])
})

it.each([
  '',
  'yesterday',
  '2026',
  '2026-13-01',
  '2026-02-30',
  '2026-02-30T10:00',
  '2026-03-01T25:00',
  '2026-03-01 10:00',
  '03/01/2026',
  '1772323200',
  '+010000-01-01',
])('%j is not a timestamp', text => {
  expect(parseTimestamp(text, 'start')).toBeNull()
})

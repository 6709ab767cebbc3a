import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { checkWallClock, clockReads } from './wall-clock.ts'

afterEach(() => vi.restoreAllMocks())

test.each([
  ['const before = Date.now() - days * 86_400_000', 'Date.now'],
  ['createLimiter({ now: Date.now })', 'Date.now'],
  ['const at = new Date()', 'new Date()'],
  ['const at = new Date( )', 'new Date()'],
  ['const at = new Date', 'new Date'],
  ['log(Date())', 'Date()'],
  ["const at = Date['now']()", 'Date[…]'],
  ['const { now } = Date', 'destructured Date'],
  ['const at = performance.timeOrigin + performance.now()', 'performance.timeOrigin'],
])('%s reads the clock of the machine', (source, what) => {
  expect(clockReads(`// a comment\n${source}\n`)).toEqual([`2: ${what}`])
})

test.each([
  'const at = new Date(row.created_at)',
  'const at = new Date(now())',
  'type Row = { created_at: Date | null }',
  'const ms = Date.parse(text) - Date.UTC(2020, 0)',
  '// Date.now() is not used here',
  '/* new Date()\n Date.now() */',
  'const took = performance.now() - began',
  'parseDate(text)',
])('%s does not read the clock of the machine', source => {
  expect(clockReads(source)).toEqual([])
})

test('a planted violation in the sweeper is found', async () => {
  const root = mkdtempSync(join(tmpdir(), 'wall-clock-'))
  const printed = vi.spyOn(console, 'error').mockImplementation(() => {})
  vi.spyOn(console, 'log').mockImplementation(() => {})
  try {
    for (const folder of ['process', 'maintenance']) mkdirSync(join(root, 'shared', folder), { recursive: true })
    writeFileSync(join(root, 'shared/process/clock.ts'), 'export const at = Date.now()\n')
    expect(await checkWallClock(root)).toBe(false)
    writeFileSync(join(root, 'shared/age.ts'), 'export const age = 1\n')
    expect(await checkWallClock(root)).toBe(true)
    writeFileSync(join(root, 'shared/maintenance/sweep.ts'), 'export const before = Date.now() - 1\n')
    expect(await checkWallClock(root)).toBe(false)
    expect(printed.mock.calls.flat()).toEqual([
      expect.stringMatching(/^shared\/maintenance\/sweep\.ts:1: Date\.now reads/),
    ])
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('this repository has no violation', async () => {
  vi.spyOn(console, 'log').mockImplementation(() => {})
  expect(await checkWallClock(resolve(import.meta.dirname, '../..'))).toBe(true)
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromWire, newId, toWire } from './ids.ts'
import { now } from './process/clock.ts'

describe('ids', () => {
  it('sort in order of their creation', () => {
    const ids = Array.from({ length: 20_000 }, newId)
    expect(ids.toSorted()).toEqual(ids)
    expect(new Set(ids).size).toBe(20_000)
  })

  it('are UUIDs of version 7 that say when they were made', () => {
    const before = Math.floor(now())
    const id = newId()
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    // Ids that had to be put behind an earlier one may be ahead of the clock.
    expect(Number.parseInt(id.slice(0, 13).replace('-', ''), 16)).toBeGreaterThanOrEqual(before)
  })

  it('survive the way over the wire', () => {
    fc.assert(
      fc.property(fc.uuid(), id => {
        expect(toWire('task', id)).toMatch(/^task_[0-9a-f]{32}$/)
        expect(fromWire('task', toWire('task', id))).toBe(id)
        expect(toWire('file', id)).toMatch(/^file-[0-9a-f]{32}$/)
        expect(fromWire('file', toWire('file', id))).toBe(id)
        expect(fromWire('file', toWire('file', id).replace('-', '_'))).toBeNull()
      }),
    )
  })

  it.each([
    ['another prefix', 'batch_0190a1b2c3d47e5f8a9b0c1d2e3f4a5b'],
    ['no prefix', '0190a1b2c3d47e5f8a9b0c1d2e3f4a5b'],
    ['hyphens', 'task_0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b'],
    ['capitals', 'task_0190A1B2C3D47E5F8A9B0C1D2E3F4A5B'],
    ['too few digits', 'task_0190a1b2'],
    ['too many digits', 'task_0190a1b2c3d47e5f8a9b0c1d2e3f4a5b0'],
    ['what is no digit', "task_0190a1b2c3d47e5f8a9b0c1d2e3f4a5'"],
    ['a line break at the end', 'task_0190a1b2c3d47e5f8a9b0c1d2e3f4a5b\n'],
    ['nothing', ''],
  ])('are not read from %s', (_, wire) => expect(fromWire('task', wire)).toBeNull())
})

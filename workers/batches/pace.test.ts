import { describe, expect, it } from 'vitest'
import { createPace } from './pace.ts'

/** Starts as many as may; at most ten. */
const startAll = (pace: ReturnType<typeof createPace>, target: string) => {
  let started = 0
  while (started < 10 && pace.mayStart(target)) {
    pace.started(target)
    started++
  }
  return started
}

describe('the pace of a target', () => {
  it('is free until somebody is refused, and of no concern to others', () => {
    const pace = createPace(() => 0)
    expect(startAll(pace, 'a')).toBe(10)
    pace.ended('a', { refused: 100 })
    expect(startAll(pace, 'a')).toBe(0)
    expect(startAll(pace, 'b')).toBe(10)
  })

  it('begins again with one, when the time is over, and grows with every answer', () => {
    let now = 0
    const pace = createPace(() => now)
    expect(startAll(pace, 'a')).toBe(10)
    for (let n = 0; n < 10; n++) pace.ended('a', { refused: 100 })
    now = 99
    expect(startAll(pace, 'a')).toBe(0)
    expect(pace.waitsUntil('a')).toBe(100)
    now = 100
    expect(startAll(pace, 'a')).toBe(1)
    pace.ended('a', 'answered')
    expect(startAll(pace, 'a')).toBe(2)
    pace.ended('a', 'answered')
    pace.ended('a', 'answered')
    expect(startAll(pace, 'a')).toBe(4)
  })

  it('is asked again at once when a call has ended: there is a place free', () => {
    const pace = createPace(() => 0)
    pace.started('a')
    pace.started('a')
    pace.ended('a', { refused: 60_000 })
    expect(pace.mayStart('a')).toBe(false)
    pace.ended('a', 'answered')
    expect(pace.mayStart('a')).toBe(true)
  })

  it('does not change for a call that failed', () => {
    const pace = createPace(() => 0)
    pace.started('a')
    pace.ended('a', 'neither')
    expect(startAll(pace, 'a')).toBe(10)
  })
})

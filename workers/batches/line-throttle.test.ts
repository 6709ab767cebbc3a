import { describe, expect, it } from 'vitest'
import { createLineThrottle } from './line-throttle.ts'

/** Starts as many lines as it may, at most ten. */
const startAll = (throttle: ReturnType<typeof createLineThrottle>, target: string) => {
  let started = 0
  while (started < 10 && throttle.mayStart(target)) {
    throttle.started(target)
    started++
  }
  return started
}

describe('the throttle of a target', () => {
  it('allows everything until a line is refused, and does not affect other targets', () => {
    const throttle = createLineThrottle(() => 0)
    expect(startAll(throttle, 'a')).toBe(10)
    throttle.ended('a', { refused: 100 })
    expect(startAll(throttle, 'a')).toBe(0)
    expect(startAll(throttle, 'b')).toBe(10)
  })

  it('starts with one line after the refusal, and grows with every answer', () => {
    let now = 0
    const throttle = createLineThrottle(() => now)
    expect(startAll(throttle, 'a')).toBe(10)
    for (let n = 0; n < 10; n++) throttle.ended('a', { refused: 100 })
    now = 99
    expect(startAll(throttle, 'a')).toBe(0)
    expect(throttle.waitsUntil('a')).toBe(100)
    now = 100
    expect(startAll(throttle, 'a')).toBe(1)
    throttle.ended('a', 'answered')
    expect(startAll(throttle, 'a')).toBe(2)
    throttle.ended('a', 'answered')
    throttle.ended('a', 'answered')
    expect(startAll(throttle, 'a')).toBe(4)
  })

  it('opens at once when a call is answered, because a permit is free', () => {
    const throttle = createLineThrottle(() => 0)
    throttle.started('a')
    throttle.started('a')
    throttle.ended('a', { refused: 60_000 })
    expect(throttle.mayStart('a')).toBe(false)
    throttle.ended('a', 'answered')
    expect(throttle.mayStart('a')).toBe(true)
  })

  it('does not change after a call that failed', () => {
    const throttle = createLineThrottle(() => 0)
    throttle.started('a')
    throttle.ended('a', 'neither')
    expect(startAll(throttle, 'a')).toBe(10)
  })
})

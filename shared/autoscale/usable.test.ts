import { describe, expect, it } from 'vitest'
import { NO_LIMITS } from '#shared/db/provider-limits.ts'
import { type TargetLoad, usableSlots } from './usable.ts'

const target = (more: Partial<TargetLoad> = {}): TargetLoad => ({
  limits: NO_LIMITS,
  calls: 100,
  answered: 100,
  brokenSince: 0,
  spanSeconds: 10,
  callSeconds: 4,
  inputTokens: 600,
  outputTokens: 400,
  ...more,
})
const limits = (more: Partial<TargetLoad['limits']>) => ({ ...NO_LIMITS, ...more })

describe('the usable slots', () => {
  it('are unlimited without limits and without calls', () => {
    expect(usableSlots([])).toBeNull()
    expect(usableSlots([target()])).toBeNull()
    expect(usableSlots([target({ limits: limits({ concurrency: 5 }) }), target()])).toBeNull()
  })

  it('are the concurrency limit', () => {
    expect(usableSlots([target({ limits: limits({ concurrency: 5 }) })])).toBe(5)
  })

  it('are the rate times the duration of a call, plus a quarter', () => {
    expect(usableSlots([target({ limits: limits({ rpm: 600 }) })])).toBe(50)
    expect(usableSlots([target({ limits: limits({ tpm: 60_000 }) })])).toBe(5)
    expect(usableSlots([target({ limits: limits({ itpm: 36_000, otpm: 12_000 }) })])).toBe(2.5)
  })

  it('are those of the tightest limit of a target, summed over the targets', () => {
    const both = target({ limits: limits({ rpm: 600, concurrency: 8 }) })
    expect(usableSlots([both, target({ limits: limits({ concurrency: 3 }) })])).toBe(11)
    expect(usableSlots([target({ limits: limits({ rpm: 0 }) })])).toBe(0)
  })

  it('are 1.5 times the successful calls while most calls fail, and two probes in an outage', () => {
    expect(usableSlots([target({ answered: 40 })])).toBe(26)
    expect(usableSlots([target({ answered: 0, callSeconds: null })])).toBe(2)
    expect(usableSlots([target({ calls: 19, answered: 0 })])).toBeNull()
  })

  it('are two probes as soon as a target is down, and all of them once it answers again', () => {
    expect(usableSlots([target({ brokenSince: 2 })])).toBeNull()
    expect(usableSlots([target({ brokenSince: 3 })])).toBe(2)
    expect(usableSlots([target({ calls: 1, answered: 0, callSeconds: null, brokenSince: 1 })])).toBe(2)
    expect(usableSlots([target({ calls: 5, answered: 1, brokenSince: 0 })])).toBeNull()
  })
})

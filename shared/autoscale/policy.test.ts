import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Decision, decide, type Load, type Rules, type ScaleState } from './policy.ts'

const QUIET: Load = { waitingSeconds: 0, soonSeconds: 0, oldestWaitSeconds: 0, active: 0, slots: 0, usable: null }
const RULES: Rules = { targetSeconds: 10, min: 0, max: 1000, holdSeconds: 60 }

/** Looks every two seconds, and a fleet that has at once what was decided. */
function follow(loads: Load[], rules = RULES): Decision[] {
  let state: ScaleState | null = null
  let slots = loads[0]?.slots ?? 0
  return loads.map((load, index) => {
    const decision: Decision = decide({ ...load, slots }, state, rules, index * 2)
    state = decision.state
    slots = decision.slots
    return decision
  })
}
const times = (count: number, load: Load) => Array.from({ length: count }, () => load)

const amount = fc.double({ min: 0, max: 1e6, noNaN: true })
const loads = fc.array(
  fc.record({
    waitingSeconds: amount,
    soonSeconds: amount,
    oldestWaitSeconds: fc.double({ min: 0, max: 1e5, noNaN: true }),
    active: fc.nat(5000),
    slots: fc.nat(5000),
    usable: fc.option(fc.double({ min: 0, max: 5000, noNaN: true })),
  }),
  { minLength: 1, maxLength: 60 },
)
const rules = fc
  .record({
    targetSeconds: fc.double({ min: 0.5, max: 600, noNaN: true }),
    min: fc.nat(20),
    more: fc.nat(5000),
    holdSeconds: fc.nat(300),
  })
  .map(({ more, ...rest }) => ({ ...rest, max: rest.min + more }))

describe('the wanted slots', () => {
  it('are whole numbers within their bounds, whatever the history', () => {
    fc.assert(
      fc.property(loads, rules, (loads, rules) => {
        for (const { slots, wanted } of follow(loads, rules)) {
          for (const n of [slots, wanted]) {
            expect(Number.isInteger(n)).toBe(true)
            expect(n).toBeGreaterThanOrEqual(rules.min)
            expect(n).toBeLessThanOrEqual(rules.max)
          }
          expect(slots).toBeGreaterThanOrEqual(wanted)
        }
      }),
    )
  })

  it('never exceed the slots that the providers’ limits can use', () => {
    fc.assert(
      fc.property(loads, rules, (loads, rules) => {
        let before = Number.POSITIVE_INFINITY
        for (const [index, { slots }] of follow(loads, rules).entries()) {
          const usable = loads[index]!.usable
          if (usable !== null && slots > before)
            expect(slots).toBeLessThanOrEqual(Math.max(rules.min, Math.ceil(usable)))
          before = slots
        }
      }),
    )
  })

  it('do not fall when more tasks wait or have waited longer', () => {
    fc.assert(
      fc.property(loads, rules, amount, amount, (loads, rules, waiting, seconds) => {
        const state = follow(loads, rules).at(-1)!.state
        const at = state.at + 2
        const load = loads.at(-1)!
        const more = {
          ...load,
          waitingSeconds: load.waitingSeconds + waiting,
          oldestWaitSeconds: load.oldestWaitSeconds + seconds,
        }
        expect(decide(more, state, rules, at).slots).toBeGreaterThanOrEqual(decide(load, state, rules, at).slots)
      }),
    )
  })

  it('shrink only to the maximum wanted within the hold', () => {
    fc.assert(
      fc.property(loads, rules, (loads, rules) => {
        const decisions = follow(loads, rules)
        for (const [index, { slots }] of decisions.entries()) {
          const within = decisions
            .slice(0, index + 1)
            .filter((_, n) => n === index || n * 2 > index * 2 - rules.holdSeconds)
          if (index > 0 && slots < decisions[index - 1]!.slots)
            expect(slots).toBe(Math.max(...within.map(one => one.wanted)))
        }
      }),
    )
  })

  it('keep no history longer than the hold', () => {
    const state = follow(times(1000, QUIET).map((load, n) => ({ ...load, waitingSeconds: 5000 - n }))).at(-1)!.state
    expect(state.peaks.length).toBeLessThanOrEqual(31)
  })
})

describe('a backlog', () => {
  it('gets at once the slots that finish it in half of the target', () => {
    expect(decide({ ...QUIET, waitingSeconds: 1000 }, null, RULES, 0).slots).toBe(200)
  })

  it('counts by its work, not by its number of tasks', () => {
    const [few, many] = [20 * 60, 1000 * 0.5].map(work => decide({ ...QUIET, waitingSeconds: work }, null, RULES, 0))
    expect(few!.slots).toBeGreaterThan(many!.slots)
  })

  it('that is due soon gets its slots in time', () => {
    expect(decide({ ...QUIET, soonSeconds: 100 }, null, RULES, 0).slots).toBe(20)
  })

  it('that has waited too long grows the fleet even if it is small', () => {
    const late = { ...QUIET, waitingSeconds: 1, oldestWaitSeconds: 30, active: 50, slots: 50 }
    expect(decide(late, null, RULES, 0).wanted).toBe(100)
  })
})

describe('a steady stream', () => {
  it('keeps a fifth more slots than are busy', () => {
    const decisions = follow(times(100, { ...QUIET, active: 50, slots: 50 }))
    expect(new Set(decisions.map(one => one.slots))).toEqual(new Set([60]))
  })

  it('that ends releases its slots after the hold', () => {
    const decisions = follow([...times(20, { ...QUIET, active: 50, slots: 50 }), ...times(100, QUIET)])
    expect(decisions[45]!.slots).toBe(60)
    expect(decisions.at(-1)!.slots).toBeLessThanOrEqual(1)
  })

  it('that varies by less than a tenth changes nothing', () => {
    const wavering = times(200, QUIET).map((load, n) => ({ ...load, active: n % 2 ? 50 : 48, slots: 50 }))
    expect(
      new Set(
        follow(wavering)
          .slice(20)
          .map(one => one.slots),
      ).size,
    ).toBe(1)
  })
})

describe('a restart of the deciding process', () => {
  it('leaves the fleet as it is for the hold', () => {
    const decisions = follow(times(40, { ...QUIET, slots: 300 }))
    expect(decisions[0]!.slots).toBe(300)
    expect(decisions[29]!.slots).toBe(300)
    expect(decisions.at(-1)!.slots).toBe(0)
  })
})

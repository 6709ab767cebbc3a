import { decide, type Load, type Rules, type ScaleState } from '#shared/autoscale/policy.ts'
import { type TargetLoad, usableSlots } from '#shared/autoscale/usable.ts'
import { BREAKER } from '#shared/gate/outcomes.ts'

/**
 * Simulates one day of a fleet in steps of a second, without a clock: arrivals by the hour, bursts, an outage of the
 * provider, and a storm in which it refuses most calls with 429. Used by tests and the plot in docs/scaling.md.
 */

export type Day = {
  seed: number
  /** Tasks per second at noon; a tenth of that at night. */
  peakPerSecond: number
  bursts: { at: number; tasks: number; seconds: number }[]
  outage: { from: number; to: number }
  /** `perSecond`: calls that the provider accepts. */
  storm: { from: number; to: number; perSecond: number }
  callSeconds: number
  /** The provider's usual limit. */
  limitPerSecond: number
  slotsPerWorker: number
  /** From the decision to the first task. */
  startSeconds: number
  targetSeconds: number
}

export const DAY_SECONDS = 86_400
const hour = (n: number) => Math.round(n * 3600)

export const DAY: Day = {
  seed: 20_260_106,
  peakPerSecond: 20,
  bursts: [
    { at: hour(2), tasks: 3000, seconds: 120 },
    { at: hour(6.5), tasks: 2000, seconds: 30 },
    { at: hour(9), tasks: 4000, seconds: 60 },
    { at: hour(12.3), tasks: 3000, seconds: 20 },
    { at: hour(18), tasks: 5000, seconds: 120 },
    { at: hour(21.7), tasks: 2500, seconds: 30 },
  ],
  outage: { from: hour(10.5), to: hour(11) },
  storm: { from: hour(15), to: hour(15.75), perSecond: 8 },
  callSeconds: 4,
  limitPerSecond: 150,
  slotsPerWorker: 20,
  startSeconds: 5,
  targetSeconds: 10,
}

/** Interval between decisions of the policy. */
const DECISION_SECONDS = 5
const HOLD_SECONDS = 60
/** The recent calls from which the policy estimates the capacity of a provider. */
const SAMPLE_SECONDS = 120
const SAMPLE_CALLS = 2000
/** A failed or refused call occupies its slot for a second; its task is retried within this time. */
const RETRY_SECONDS = 30
/** Tasks per second that one worker requeues because the gate refuses them a permit. */
const REFUSALS_PER_SECOND = 200

export type Sample = {
  at: number
  arrived: number
  oldestWait: number
  waiting: number
  workers: number
  usable: number | null
}
export type Outcome = {
  /** One per second. */
  samples: Sample[]
  workerMinutes: number
  /** Share of the day in which no waiting task exceeds the target. */
  held: number
  /** Tasks over the day. Those that are not answered are `left` at its end. */
  arrived: number
  answered: number
  left: number
}

/** @param fixed constant number of workers; null: the policy decides */
export function simulate(day: Day, fixed: number | null, limits = { min: 1, max: 200 }): Outcome {
  // Two generators, so that the arrivals do not depend on the fleet.
  const [arrivalRandom, retryRandom] = [seeded(day.seed), seeded(day.seed + 1)]
  const waiting: { since: number; tasks: number }[] = []
  const later = new Map<number, number>()
  const ending = new Map<number, EndedCalls>()
  const history: EndedCalls[] = []
  const breaker = createBreaker()
  const starting: number[] = []
  let [ready, active, state] = [fixed ?? limits.min, 0, null as ScaleState | null]
  let [workerSeconds, heldSeconds, arrivedAll, answeredAll] = [0, 0, 0, 0]
  const samples: Sample[] = []

  for (let at = 0; at < DAY_SECONDS; at++) {
    while (starting[0] !== undefined && starting[0] <= at) {
      starting.shift()
      ready++
    }
    const arrived = arrivals(day, at, arrivalRandom)
    arrivedAll += arrived
    const due = arrived + (later.get(at) ?? 0)
    later.delete(at)
    if (due > 0) waiting.push({ since: at, tasks: due })

    const ended = ending.get(at) ?? NONE
    ending.delete(at)
    active -= countOf(ended)
    answeredAll += ended.answered
    breaker.note(ended, at)
    history.push(ended)
    let sampled = history.reduce((sum, one) => sum + countOf(one), 0)
    while (history.length > SAMPLE_SECONDS || (sampled > SAMPLE_CALLS && history.length > 1))
      sampled -= countOf(history.shift()!)

    // The gate admits the calls that the provider accepts in this second. Other tasks are requeued and occupy no slot.
    const outage = at >= day.outage.from && at < day.outage.to
    const storm = at >= day.storm.from && at < day.storm.to
    const free = Math.max(0, ready * day.slotsPerWorker - active)
    const admitted = Math.min(breaker.capacity(at), storm ? day.storm.perSecond * 3 : day.limitPerSecond)
    const started = take(waiting, Math.min(free, admitted))
    breaker.start(started)
    const broken = outage ? started : 0
    const turnedAway = storm ? Math.max(0, started - day.storm.perSecond) : 0
    const failed = broken + turnedAway
    active += started
    add(ending, at + 1, { answered: 0, broken, turnedAway })
    add(ending, at + day.callSeconds, { answered: started - failed, broken: 0, turnedAway: 0 })
    const refused = started === admitted && free > started ? take(waiting, ready * REFUSALS_PER_SECOND) : 0
    for (let n = 0; n < failed + refused; n++) {
      const when = at + 1 + Math.ceil(retryRandom() * RETRY_SECONDS)
      later.set(when, (later.get(when) ?? 0) + 1)
    }

    const oldestWait = waiting[0] ? at - waiting[0].since : 0
    const usable = usableSlots([targetOf(day, history)])
    workerSeconds += ready + starting.length
    if (oldestWait <= day.targetSeconds) heldSeconds++
    const queued = waiting.reduce((sum, one) => sum + one.tasks, 0)
    samples.push({ at, arrived, oldestWait, waiting: queued, workers: ready + starting.length, usable })

    if (fixed !== null || at % DECISION_SECONDS > 0) continue
    let soon = 0
    for (let n = 1; n <= day.startSeconds; n++) soon += later.get(at + n) ?? 0
    const load: Load = {
      waitingSeconds: queued * day.callSeconds,
      soonSeconds: soon * day.callSeconds,
      oldestWaitSeconds: oldestWait,
      active,
      slots: (ready + starting.length) * day.slotsPerWorker,
      usable,
    }
    const rules: Rules = {
      targetSeconds: day.targetSeconds,
      min: limits.min * day.slotsPerWorker,
      max: limits.max * day.slotsPerWorker,
      holdSeconds: HOLD_SECONDS,
    }
    const decision = decide(load, state, rules, at)
    state = decision.state
    const workers = Math.ceil(decision.slots / day.slotsPerWorker)
    while (ready + starting.length < workers) starting.push(at + day.startSeconds)
    // A worker that stops finishes its calls; their slots count as busy slots of the remaining workers.
    if (workers < ready + starting.length) {
      starting.length = Math.max(0, workers - ready)
      ready = Math.min(ready, workers)
    }
  }
  const delayed = [...later.values()].reduce((sum, tasks) => sum + tasks, 0)
  return {
    samples,
    workerMinutes: workerSeconds / 60,
    held: heldSeconds / DAY_SECONDS,
    arrived: arrivedAll,
    answered: answeredAll,
    left: waiting.reduce((sum, one) => sum + one.tasks, 0) + delayed + active - lateFailures(ending),
  }
}

/** The smallest constant number of workers that holds the target for `share` of the day. */
export function smallestFixed(day: Day, share: number, most = 200): { workers: number; outcome: Outcome } {
  let [low, high] = [1, most]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (simulate(day, middle).held >= share) high = middle
    else low = middle + 1
  }
  return { workers: low, outcome: simulate(day, low) }
}

/** Active calls that will fail: their tasks are already counted as delayed. */
const lateFailures = (ending: Map<number, EndedCalls>) =>
  [...ending.values()].reduce((sum, one) => sum + one.broken + one.turnedAway, 0)

/** Calls that ended in one second: answered, failed (`broken`), or refused with 429 (`turnedAway`). */
type EndedCalls = { answered: number; broken: number; turnedAway: number }
const NONE: EndedCalls = { answered: 0, broken: 0, turnedAway: 0 }
const countOf = ({ answered, broken, turnedAway }: EndedCalls) => answered + broken + turnedAway

/** breaker.lua in steps of a second. */
function createBreaker() {
  let [inARow, openUntil, probing, successes] = [0, null as number | null, false, 0]
  return {
    note({ answered, broken }: EndedCalls, at: number): void {
      if (openUntil === null) {
        inARow = answered > 0 ? 0 : inARow + broken
        if (inARow < BREAKER.FAILURES_IN_A_ROW) return
      } else if (!probing) {
        // These calls started before the breaker opened.
        return
      } else if (broken === 0) {
        if (answered === 0) return
        probing = false
        if (++successes < BREAKER.PROBE_SUCCESSES) return
        ;[inARow, openUntil] = [0, null]
        return
      }
      ;[openUntil, probing, successes] = [at + BREAKER.OPEN_MS / 1000, false, 0]
    },
    /** Calls that may start now. */
    capacity: (at: number) => (openUntil === null ? Number.POSITIVE_INFINITY : at < openUntil || probing ? 0 : 1),
    start(calls: number): void {
      probing = openUntil !== null && (probing || calls > 0)
    },
  }
}

function arrivals(day: Day, at: number, random: () => number): number {
  const noon = (1 - Math.cos((2 * Math.PI * at) / DAY_SECONDS)) / 2
  const burst = day.bursts.find(one => at >= one.at && at < one.at + one.seconds)
  const rate = day.peakPerSecond * (0.1 + 0.9 * noon) + (burst ? burst.tasks / burst.seconds : 0)
  return poisson(rate, random)
}

function targetOf(day: Day, history: EndedCalls[]): TargetLoad {
  const sum = (of: (one: EndedCalls) => number) => history.reduce((sum, one) => sum + of(one), 0)
  const answered = sum(one => one.answered)
  const since = history.slice(history.findLastIndex(one => one.answered > 0) + 1)
  return {
    limits: { rpm: day.limitPerSecond * 60, tpm: null, itpm: null, otpm: null, concurrency: null },
    calls: sum(countOf),
    answered,
    brokenSince: since.reduce((sum, one) => sum + one.broken, 0),
    spanSeconds: history.length,
    callSeconds: answered > 0 ? day.callSeconds : null,
    inputTokens: null,
    outputTokens: null,
  }
}

/** Removes up to `most` tasks from the front. @returns how many */
function take(waiting: { tasks: number }[], most: number): number {
  let taken = 0
  for (let first = waiting[0]; first && taken < most; first = waiting[0]) {
    const some = Math.min(first.tasks, most - taken)
    taken += some
    first.tasks -= some
    if (first.tasks === 0) waiting.shift()
  }
  return taken
}

function add(ending: Map<number, EndedCalls>, at: number, more: EndedCalls) {
  const known = ending.get(at) ?? NONE
  ending.set(at, {
    answered: known.answered + more.answered,
    broken: known.broken + more.broken,
    turnedAway: known.turnedAway + more.turnedAway,
  })
}

/** Knuth's algorithm; above a mean of 60 the normal distribution, a close approximation. */
function poisson(mean: number, random: () => number): number {
  if (mean > 60) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
    return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal))
  }
  const limit = Math.exp(-mean)
  let count = 0
  for (let product = random(); product > limit; product *= random()) count++
  return count
}

/** mulberry32: the same numbers for the same seed on every platform. */
function seeded(seed: number): () => number {
  let a = seed | 0
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

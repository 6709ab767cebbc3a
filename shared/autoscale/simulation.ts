import { BREAKER } from '#shared/gate/outcomes.ts'
import { decide, type Load, type Rules, type ScaleState } from './policy.ts'
import { type TargetLoad, usableSlots } from './usable.ts'

/**
 * One day of a fleet in steps of a second, without a clock: arrivals that follow the hour, bursts, an hour in which the
 * provider fails, one in which it refuses most (429). Only tests and the plot use it.
 */

export type Day = {
  seed: number
  /** Tasks a second at noon; a tenth of that at night. */
  peakPerSecond: number
  bursts: { at: number; tasks: number; seconds: number }[]
  outage: { from: number; to: number }
  /** `perSecond`: calls that are let through. */
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

/** A look, and so a chance to change the fleet, every so many seconds. */
const LOOK_SECONDS = 5
const HOLD_SECONDS = 60
/** The latest calls by which the policy sees how a provider does. */
const SAMPLE_SECONDS = 120
const SAMPLE_CALLS = 2000
/** A call that fails or is refused occupies its slot for a second, and its task comes back within so many. */
const COMES_BACK_SECONDS = 30
/** What one worker sends away a second: a question to the gate each, no call. */
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
  /** One a second. */
  samples: Sample[]
  workerMinutes: number
  /** Part of the day in which no task had waited for longer than the target. */
  held: number
  /** Tasks that came and that were answered; the rest waits when the day is over. */
  arrived: number
  answered: number
  left: number
}

/** @param fixed workers from beginning to end; null: the policy decides */
export function simulate(day: Day, fixed: number | null, limits = { min: 1, max: 200 }): Outcome {
  // Two, so that what comes is the same whatever the fleet does.
  const [coming, random] = [seeded(day.seed), seeded(day.seed + 1)]
  const waiting: { since: number; tasks: number }[] = []
  const later = new Map<number, number>()
  const ending = new Map<number, Ended>()
  const history: Ended[] = []
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
    const arrived = arrivals(day, at, coming)
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

    // What the provider will take in this second; the gate sends the rest away, without a slot, for later.
    const outage = at >= day.outage.from && at < day.outage.to
    const storm = at >= day.storm.from && at < day.storm.to
    const free = Math.max(0, ready * day.slotsPerWorker - active)
    const admitted = Math.min(breaker.room(at), storm ? day.storm.perSecond * 3 : day.limitPerSecond)
    const begun = take(waiting, Math.min(free, admitted))
    breaker.begun(begun)
    const broken = outage ? begun : 0
    const turnedAway = storm ? Math.max(0, begun - day.storm.perSecond) : 0
    const failed = broken + turnedAway
    active += begun
    add(ending, at + 1, { answered: 0, broken, turnedAway })
    add(ending, at + day.callSeconds, { answered: begun - failed, broken: 0, turnedAway: 0 })
    const refused = begun === admitted && free > begun ? take(waiting, ready * REFUSALS_PER_SECOND) : 0
    for (let n = 0; n < failed + refused; n++) {
      const when = at + 1 + Math.ceil(random() * COMES_BACK_SECONDS)
      later.set(when, (later.get(when) ?? 0) + 1)
    }

    const oldestWait = waiting[0] ? at - waiting[0].since : 0
    const usable = usableSlots([targetOf(day, history)])
    workerSeconds += ready + starting.length
    if (oldestWait <= day.targetSeconds) heldSeconds++
    const queued = waiting.reduce((sum, one) => sum + one.tasks, 0)
    samples.push({ at, arrived, oldestWait, waiting: queued, workers: ready + starting.length, usable })

    if (fixed !== null || at % LOOK_SECONDS > 0) continue
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
    // Those that go finish their calls first; the busy slots above are counted against those that stay.
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

/** The fewest workers that, always there, hold the target for `share` of the day. */
export function smallestFixed(day: Day, share: number, most = 200): { workers: number; outcome: Outcome } {
  let [low, high] = [1, most]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (simulate(day, middle).held >= share) high = middle
    else low = middle + 1
  }
  return { workers: low, outcome: simulate(day, low) }
}

/** The failed ones among the active are counted as delayed already. */
const lateFailures = (ending: Map<number, Ended>) =>
  [...ending.values()].reduce((sum, one) => sum + one.broken + one.turnedAway, 0)

/** Calls that ended in one second: answered, failed by the provider's fault, refused for their rate. */
type Ended = { answered: number; broken: number; turnedAway: number }
const NONE: Ended = { answered: 0, broken: 0, turnedAway: 0 }
const countOf = ({ answered, broken, turnedAway }: Ended) => answered + broken + turnedAway

/** What breaker.lua does, by the second. */
function createBreaker() {
  let [inARow, openUntil, probing, successes] = [0, null as number | null, false, 0]
  return {
    note({ answered, broken }: Ended, at: number): void {
      if (openUntil === null) {
        inARow = answered > 0 ? 0 : inARow + broken
        if (inARow < BREAKER.FAILURES_IN_A_ROW) return
      } else if (!probing) {
        // Begun before it opened: says nothing of now.
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
    /** How many may begin now. */
    room: (at: number) => (openUntil === null ? Number.POSITIVE_INFINITY : at < openUntil || probing ? 0 : 1),
    begun(calls: number): void {
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

function targetOf(day: Day, history: Ended[]): TargetLoad {
  const sum = (of: (one: Ended) => number) => history.reduce((sum, one) => sum + of(one), 0)
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

/** From the front, as many as there are up to `most`. */
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

function add(ending: Map<number, Ended>, at: number, more: Ended) {
  const there = ending.get(at) ?? NONE
  ending.set(at, {
    answered: there.answered + more.answered,
    broken: there.broken + more.broken,
    turnedAway: there.turnedAway + more.turnedAway,
  })
}

/** Knuth's, and above 60 the normal distribution that it then nearly is. */
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

/** mulberry32: the same numbers for the same seed, everywhere. */
function seeded(seed: number): () => number {
  let a = seed | 0
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

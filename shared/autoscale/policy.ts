/**
 * How many slots (tasks that run at a time) a queue needs. Pure: the state is passed in and returned. A task occupies a
 * slot while its call runs, so work is counted in slot-seconds: twenty summaries of a minute each are more work than a
 * thousand classifications of half a second.
 */

export type Load = {
  /** Work that is due and waits for a slot, in slot-seconds. */
  waitingSeconds: number
  /** Work that becomes due within seconds (backoff, a booked permit), in slot-seconds. */
  soonSeconds: number
  /** How long the oldest waiting task has been due; 0: none waits. */
  oldestWaitSeconds: number
  /** Tasks that are running. */
  active: number
  /** Slots of the live workers. */
  slots: number
  /** The share of these slots that replaces a missing previous decision. Default: all; less if they serve other queues. */
  ownSlots?: number
  /** Slots that the providers' limits can use; null: no limit is known. */
  usable: number | null
}

export type Rules = {
  /** How long a task may wait for a slot. */
  targetSeconds: number
  min: number
  max: number
  /** The result shrinks only to the maximum wanted within this time. */
  holdSeconds: number
}

export type ScaleState = {
  /** Seconds, on the caller's clock. */
  at: number
  waitingSeconds: number
  active: number
  /** Work that arrives per second, in slot-seconds: the slots that just keep up. */
  arriving: number
  /** The last decision. */
  slots: number
  /** Recently wanted slots, falling: only values that no later one exceeds. */
  peaks: { at: number; slots: number }[]
}

export type Decision = {
  slots: number
  /** The slots for these figures alone, before the hysteresis. */
  wanted: number
  state: ScaleState
}

/** A backlog is finished within this share of the target: a task that arrives last has waited that long. */
const DRAIN_SHARE = 0.5
/** Slots relative to those that just keep up; at 1 a queue never shrinks. */
const HEADROOM = 1.2
/** Time constant of the average arrival rate. */
const AVERAGE_SECONDS = 10
/** A late fleet grows at most by this factor per decision: the figures may be lower bounds, but not by much. */
const MAX_GROWTH = 2
/** The fleet does not shrink by less than this share. */
const DEADBAND = 0.1

/**
 * @param state of the last decision; null: there was none, and the live fleet replaces it
 * @param at seconds, on a monotonic clock
 */
export function decide(load: Load, state: ScaleState | null, rules: Rules, at: number): Decision {
  const arriving = arrivingOf(load, state, at)
  const wanted = within(wantedOf(load, arriving, rules), rules)

  const from = at - rules.holdSeconds
  const own = within(load.ownSlots ?? load.slots, rules)
  const before = state ?? { slots: own, peaks: [{ at, slots: own }] }
  const peaks = [...before.peaks.filter(peak => peak.at > from && peak.slots > wanted), { at, slots: wanted }]
  const slots = within(settle(before.slots, wanted, peaks[0]!.slots), rules)
  return {
    slots,
    wanted,
    state: { at, waitingSeconds: load.waitingSeconds, active: load.active, arriving, slots, peaks },
  }
}

/**
 * Arrivals are the finished work plus the growth of the backlog. Counting them would cost more than everything else here
 * during a burst.
 */
function arrivingOf(load: Load, state: ScaleState | null, at: number): number {
  const seconds = state ? at - state.at : 0
  if (!state || seconds <= 0) return state?.arriving ?? load.active
  const done = (load.active + state.active) / 2
  const now = Math.max(0, done + (load.waitingSeconds - state.waitingSeconds) / seconds)
  return state.arriving + (now - state.arriving) * (1 - Math.exp(-seconds / AVERAGE_SECONDS))
}

function wantedOf(load: Load, arriving: number, { targetSeconds }: Rules): number {
  const waiting = load.waitingSeconds + load.soonSeconds
  const drain = waiting / (targetSeconds * DRAIN_SHARE)
  const late = load.oldestWaitSeconds / targetSeconds
  const urgent = load.waitingSeconds > 0 && late > 1 ? load.slots * Math.min(MAX_GROWTH, late) : 0
  const wanted = Math.max(arriving * HEADROOM + drain, urgent)
  return load.usable === null ? wanted : Math.min(wanted, load.usable)
}

/** Grows at once. Shrinks to the latest peak, and only beyond the deadband. */
function settle(slots: number, wanted: number, peak: number): number {
  if (wanted >= slots) return wanted
  return slots - peak > slots * DEADBAND ? peak : slots
}

const within = (slots: number, { min, max }: Rules) => Math.max(min, Math.min(max, Math.ceil(slots - 1e-9)))

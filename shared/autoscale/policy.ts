/**
 * How many slots (tasks that run at a time) a queue wants. Pure: what it must remember goes in and comes out. A slot is
 * what a task occupies for as long as its call takes, so that work is counted in slot-seconds: twenty summaries of a
 * minute each are more work than a thousand classifications of half a second.
 */

export type Load = {
  /** Work that is due and waits for a slot, in slot-seconds. */
  waitingSeconds: number
  /** Work that waits for a time to come within the next seconds (backoff, a booked permit), in slot-seconds. */
  soonSeconds: number
  /** For how long the task that has waited longest has been due; 0: none waits. */
  oldestWaitSeconds: number
  /** Tasks that are running. */
  active: number
  /** Slots that the live workers have. */
  slots: number
  /** Those among them that stand for a decision of before while there is none; all, unless they serve other queues, too. */
  ownSlots?: number
  /** So many can be of use under the providers' limits, whatever waits; null: no limit is known. */
  usable: number | null
}

export type Rules = {
  /** How long a task may wait for a slot. */
  targetSeconds: number
  min: number
  max: number
  /** What is wanted shrinks to the most that was wanted within so many seconds. */
  holdSeconds: number
}

export type ScaleState = {
  /** Seconds, on the caller's clock. */
  at: number
  waitingSeconds: number
  active: number
  /** Work that arrives a second, in slot-seconds: the slots that would just keep up. */
  arriving: number
  /** What was decided last. */
  slots: number
  /** What was wanted lately, falling: only what nothing later has exceeded. */
  peaks: { at: number; slots: number }[]
}

export type Decision = {
  slots: number
  /** What these figures alone ask for, before the hysteresis. */
  wanted: number
  state: ScaleState
}

/** A backlog is to be gone within this part of the target: what comes last has waited as long by then. */
const DRAIN_SHARE = 0.5
/** Slots above those that just keep up; at 100% a queue only grows. */
const HEADROOM = 1.2
/** Over about so many seconds the rate of arrival is averaged. */
const AVERAGE_SECONDS = 10
/** A fleet that is late grows at most by this factor a look: the figures may be lower bounds, but not by much. */
const MOST_GROWTH = 2
/** What is smaller than this part of the whole is not worth a process less. */
const DEADBAND = 0.1

/**
 * @param state of the last decision; null: there was none, and what the live fleet has stands for it
 * @param at seconds, on a clock that never goes back
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
 * What came in is what was done plus what the backlog grew by: no count of arrivals is needed, which in a burst would cost more
 * than anything else here.
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
  const urgent = load.waitingSeconds > 0 && late > 1 ? load.slots * Math.min(MOST_GROWTH, late) : 0
  const wanted = Math.max(arriving * HEADROOM + drain, urgent)
  return load.usable === null ? wanted : Math.min(wanted, load.usable)
}

/** Up at once; down to the latest peak, and not for a trifle. */
function settle(slots: number, wanted: number, peak: number): number {
  if (wanted >= slots) return wanted
  return slots - peak > slots * DEADBAND ? peak : slots
}

const within = (slots: number, { min, max }: Rules) => Math.max(min, Math.min(max, Math.ceil(slots - 1e-9)))

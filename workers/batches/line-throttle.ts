/**
 * Limits the lines of a chunk that run for one target (the provider and model that they name). After a line is refused a permit or
 * a budget, others will be refused too, and each refusal costs a round trip and a row update.
 */
export type LineThrottle = {
  mayStart(target: string): boolean
  /** The time before which no line may start, on the clock of performance.now(); 0: none. */
  waitsUntil(target: string): number
  started(target: string): void
  /** `refused`: do not retry for this time, milliseconds. `answered`: a permit was free, so another may be. */
  ended(target: string, how: 'answered' | 'neither' | { refused: number }): void
}

type State = { active: number; most: number; until: number }

/** Starts without a limit. After a refusal one line runs at a time, and one more for each answer. */
export function createLineThrottle(now: () => number = () => performance.now()): LineThrottle {
  const targets = new Map<string, State>()
  const of = (target: string): State => {
    const known = targets.get(target)
    if (known) return known
    const state = { active: 0, most: Number.POSITIVE_INFINITY, until: 0 }
    targets.set(target, state)
    return state
  }
  return {
    mayStart(target) {
      const state = of(target)
      return state.active < state.most && state.until <= now()
    },
    waitsUntil: target => of(target).until,
    started: target => void of(target).active++,
    ended(target, how) {
      const state = of(target)
      state.active--
      if (how === 'answered') {
        state.most++
        state.until = 0
      } else if (how !== 'neither') {
        state.most = 1
        state.until = Math.max(state.until, now() + how.refused)
      }
    },
  }
}

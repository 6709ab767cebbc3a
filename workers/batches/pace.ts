/**
 * How many lines of a chunk may be under way for one target (the provider and model that they name). Those that were refused
 * a permit or a budget say that others will be too: each refusal is a round trip and a row written, for nothing.
 */
export type Pace = {
  mayStart(target: string): boolean
  /** When it may be asked again, on performance.now()'s clock; 0: now. */
  waitsUntil(target: string): number
  started(target: string): void
  /** `refused`: until when, milliseconds from now, nobody need ask; `answered`: there was a permit, there may be another. */
  ended(target: string, how: 'answered' | 'neither' | { refused: number }): void
}

type State = { active: number; most: number; until: number }

/** Begins without a limit; after a refusal with one line at a time, twice as many with each round that is answered. */
export function createPace(now: () => number = () => performance.now()): Pace {
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

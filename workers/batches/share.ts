/** The lines that one process runs at a time, shared out evenly among its chunks. */
export type Share = {
  /** A chunk begins. @returns how it asks for its lines */
  enter(): ChunkShare
}
export type ChunkShare = {
  mayStart(): boolean
  started(): void
  /** Its call takes long: it no longer counts, so that a provider that hangs does not keep the others waiting. */
  slow(): boolean
  ended(wasSlow: boolean): void
  leave(): void
}

/** Slow lines beside those that count, as a multiple of them. */
const SLOW_FACTOR = 4

/** @param most how many lines may be under way now; asked again and again */
export function createShare(most: () => number): Share {
  let chunks = 0
  let active = 0
  let slow = 0
  return {
    enter() {
      chunks++
      let own = 0
      return {
        mayStart: () => active < most() && own < Math.max(1, Math.ceil(most() / chunks)),
        started() {
          active++
          own++
        },
        slow() {
          if (slow >= most() * SLOW_FACTOR) return false
          slow++
          active--
          own--
          return true
        },
        ended(wasSlow) {
          if (wasSlow) {
            slow--
          } else {
            active--
            own--
          }
        },
        leave: () => void chunks--,
      }
    },
  }
}

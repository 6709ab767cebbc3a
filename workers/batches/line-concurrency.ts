/** Limits the lines that one process runs concurrently, and divides them evenly among its chunks. */
export type LineConcurrency = {
  /** Adds a chunk. @returns its share of the lines */
  enter(): ChunkSlots
}
export type ChunkSlots = {
  mayStart(): boolean
  started(): void
  /** A slow call no longer counts, so that a provider that hangs does not delay other lines. @returns false: too many are slow */
  slow(): boolean
  ended(wasSlow: boolean): void
  leave(): void
}

/** Maximum number of slow lines, as a multiple of the lines that count. */
const SLOW_FACTOR = 4

/** @param most the maximum number of lines at this moment */
export function createLineConcurrency(most: () => number): LineConcurrency {
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

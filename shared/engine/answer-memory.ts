export type AnswerMemory = {
  /** @returns a function that releases the memory, or null if there is no room now */
  reserve(size: number): (() => void) | null
}

/**
 * Bounds the large answers that one process holds at a time. An answer larger than `max` is admitted when it is the only one.
 */
export function createAnswerMemory(max: number): AnswerMemory {
  let held = 0
  return {
    reserve(size) {
      if (size > 0 && held > 0 && held + size > max) return null
      held += size
      return () => {
        held -= size
      }
    },
  }
}

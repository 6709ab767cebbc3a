export type Bulk = {
  /** @returns to be called when it is gone; null: not now */
  take(size: number): (() => void) | null
}

/**
 * What one process holds of large answers at the same time, which hundreds of tasks may ask for. What is larger than all that
 * may be held passes when it is alone.
 */
export function createBulk(most: number): Bulk {
  let held = 0
  return {
    take(size) {
      if (size > 0 && held > 0 && held + size > most) return null
      held += size
      return () => {
        held -= size
      }
    },
  }
}

export type Lanes = <T>(work: () => Promise<T>) => Promise<T | null>

/**
 * Lets `atOnce` pieces of work run at a time; `waiting` more wait for their turn, in the order in which they came and no
 * longer than `waitMs`.
 * @returns what does the work; it resolves to null, and has not begun it, if there was no room or the turn did not come
 */
export function createLanes({ atOnce, waiting, waitMs }: { atOnce: number; waiting: number; waitMs: number }): Lanes {
  const queue = new Set<(turn: boolean) => void>()
  let running = 0

  async function myTurn(): Promise<boolean> {
    if (running < atOnce) {
      running++
      return true
    }
    if (queue.size >= waiting) return false
    const { promise, resolve } = Promise.withResolvers<boolean>()
    queue.add(resolve)
    const timer = setTimeout(() => {
      queue.delete(resolve)
      resolve(false)
    }, waitMs)
    return promise.finally(() => clearTimeout(timer))
  }

  function leave(): void {
    const [next] = queue
    if (!next) {
      running--
      return
    }
    // The lane is handed over, so that nobody who comes now gets it first.
    queue.delete(next)
    next(true)
  }

  return async work => {
    if (!(await myTurn())) return null
    try {
      return await work()
    } finally {
      leave()
    }
  }
}

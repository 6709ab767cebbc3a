export type Semaphore = <T>(work: () => Promise<T>) => Promise<T | null>

/**
 * Runs at most `atOnce` pieces of work concurrently. Up to `waiting` more queue in order of arrival, each for at most `waitMs`.
 * @returns a function that runs `work`, or resolves to null without starting it, if the queue is full or the wait too long
 */
export function createSemaphore({
  atOnce,
  waiting,
  waitMs,
}: {
  atOnce: number
  waiting: number
  waitMs: number
}): Semaphore {
  const queue = new Set<(turn: boolean) => void>()
  let running = 0

  async function acquire(): Promise<boolean> {
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

  function release(): void {
    const [next] = queue
    if (!next) {
      running--
      return
    }
    // The slot is handed over, so that a new caller cannot take it first.
    queue.delete(next)
    next(true)
  }

  return async work => {
    if (!(await acquire())) return null
    try {
      return await work()
    } finally {
      release()
    }
  }
}

import { performance } from 'node:perf_hooks'

/** With fewer the process would have nothing to do while its calls are under way. */
const LEAST = 16
const LOOK_MS = 200
const BUSY = 0.9
const IDLE = 0.7

/**
 * How many lines may be under way after a span in which the event loop was so busy (0 to 1). Once it is, more at once only
 * make everybody wait longer, interactive tasks too.
 */
export const nextLimit = (limit: number, most: number, utilization: number): number => {
  if (utilization > BUSY) return Math.min(most, Math.max(LEAST, Math.floor(limit * 0.75)))
  return utilization < IDLE ? Math.min(most, Math.ceil(limit * 1.5)) : limit
}

/** @returns the limit as of now, at most `most`; to be asked again and again */
export function linesAtOnce(most: number): () => number {
  let limit = Math.min(most, LEAST)
  let since = performance.eventLoopUtilization()
  let at = performance.now()
  return () => {
    if (performance.now() - at >= LOOK_MS) {
      limit = nextLimit(limit, most, performance.eventLoopUtilization(since).utilization)
      since = performance.eventLoopUtilization()
      at = performance.now()
    }
    return limit
  }
}

import { setImmediate as afterReads } from 'node:timers/promises'
import type { Logger } from '#shared/process/logger.ts'
import type { Redis } from './connect.ts'

/** Pause after a timeout. */
const QUIET_MS = 1000
/** Failures within this time belong to one outage. */
const SAME_OUTAGE_MS = 60_000

/**
 * Guards calls to an optional server: a call takes at most `timeoutMs`, and after a timeout all calls fail for a second, so that a
 * server that hangs does not delay every caller. Logs one line per outage.
 * @returns a function that runs `work` and rejects with its error or with a timeout
 */
export function createGuard(options: { redis: Redis; logger: Logger; name: string; timeoutMs: number }) {
  const { redis, logger, name, timeoutMs } = options
  let lastFailure = Number.NEGATIVE_INFINITY
  let quietUntil = 0

  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (performance.now() < quietUntil) throw new Error(`the ${name} timed out a moment ago`)
    try {
      const answer = await within(timeoutMs, work())
      if (answer !== LATE) return answer
      quietUntil = performance.now() + QUIET_MS
      throw new Error(`no answer within ${timeoutMs} ms`)
    } catch (error) {
      // connect.ts logs lost connections.
      if (redis.status === 'ready' && performance.now() - lastFailure > SAME_OUTAGE_MS)
        logger.warn({ err: error }, `the ${name} does not answer: continuing without it`)
      lastFailure = performance.now()
      throw error
    }
  }
}

const LATE = Symbol('late')

function within<T>(ms: number, work: Promise<T>): Promise<T | typeof LATE> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(async () => {
      // After a stall of this process the answer may have arrived and not been read yet.
      await afterReads()
      await afterReads()
      resolve(LATE)
    }, ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

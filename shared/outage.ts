import { setImmediate as afterReads } from 'node:timers/promises'
import type { Logger } from './logger.ts'
import type { Redis } from './redis.ts'

/** How long a server that did not answer in time is not asked again. */
const QUIET_MS = 1000
/** Failures that are closer together belong to one outage. */
const SAME_OUTAGE_MS = 60_000

/**
 * For a server that one can do without: asks it, but waits for no answer longer than `timeoutMs`, and for a second after
 * such a silence not at all, so that a server that hangs delays a caller now and then, not each. Logs one line an outage.
 * @returns asks; the answer is rejected with what `work` threw, or because it took too long
 */
export function createGuard(options: { redis: Redis; logger: Logger; name: string; timeoutMs: number }) {
  const { redis, logger, name, timeoutMs } = options
  let lastFailure = Number.NEGATIVE_INFINITY
  let quietUntil = 0

  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (performance.now() < quietUntil) throw new Error(`the ${name} is not asked for a moment`)
    try {
      const answer = await within(timeoutMs, work())
      if (answer !== LATE) return answer
      quietUntil = performance.now() + QUIET_MS
      throw new Error(`no answer within ${timeoutMs} ms`)
    } catch (error) {
      // Of a lost connection the connection itself tells.
      if (redis.status === 'ready' && performance.now() - lastFailure > SAME_OUTAGE_MS)
        logger.warn({ err: error }, `the ${name} does not answer: going on without it`)
      lastFailure = performance.now()
      throw error
    }
  }
}

const LATE = Symbol('late')

function within<T>(ms: number, work: Promise<T>): Promise<T | typeof LATE> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(async () => {
      // After a stall of this process the answer may have come long ago and not been read yet.
      await afterReads()
      await afterReads()
      resolve(LATE)
    }, ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

import { BREAKER } from '#shared/gate/outcomes.ts'
import { canonicalTarget, type Target, targetName } from '#shared/gate/target.ts'
import type { TargetState } from '#shared/gate/types.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { Redis } from '#shared/redis/connect.ts'

/** All workers together send one ping per target and interval. */
const PING_INTERVAL_MS = 2000
const PING_TIMEOUT_MS = 2000
/**
 * A provider may list its models and still fail its calls, and each early opening costs a call. The pause after it doubles
 * up to a limit, and starts anew when the breaker has closed.
 */
const earlyPauseMs = (openings: number) => Math.min(PING_INTERVAL_MS * 2 ** openings, MAX_EARLY_PAUSE_MS)
const MAX_EARLY_PAUSE_MS = 10_000
const EARLY_COUNT_MS = 4 * BREAKER.OPEN_MS
const MAX_PARKED = 1000
const PARKED_MS = 2 * BREAKER.OPEN_MS

export type Recovery = {
  /** Remembers a job that waits for an open breaker, so that it runs as soon as the provider is back. */
  park(target: Target, job: string): void
  /** Pings targets whose breakers are open, and wakes parked jobs when they close. Rejects if Redis is unavailable. */
  observe(states: readonly TargetState[]): Promise<void>
}

/**
 * Detects by free requests that a provider has recovered before its breaker opens for a probe. Without it the first task after an
 * outage waits for the breaker, up to `BREAKER.OPEN_MS`.
 */
export function createRecovery(deps: {
  redis: Redis
  prefix: string
  providers: ReadonlyMap<string, { ping(signal: AbortSignal): Promise<void> }>
  halfOpen: (target: Target) => Promise<void>
  /** Runs delayed jobs at once. */
  wake: (jobs: string[]) => Promise<void>
  logger: Pick<Logger, 'info' | 'warn'>
}): Recovery {
  const { redis, prefix, providers, halfOpen, wake, logger } = deps
  const keyOf = (what: 'ping' | 'early' | 'parked', target: Target) => `${prefix}:gate:${what}:${targetName(target)}`
  /** Targets that this process saw open or parked a job for, with the time. */
  const open = new Map<string, number>()
  /** Targets whose open breaker was logged. */
  const logged = new Set<string>()

  async function ping(target: Target): Promise<void> {
    const provider = providers.get(target.provider)
    const key = keyOf('ping', target)
    if (!provider || (await redis.set(key, '1', 'PX', PING_INTERVAL_MS, 'NX')) === null) return
    try {
      await provider.ping(AbortSignal.timeout(PING_TIMEOUT_MS))
    } catch {
      return
    }
    const early = keyOf('early', target)
    const openings = await redis.incr(early)
    await redis.pexpire(early, EARLY_COUNT_MS)
    await redis.set(key, '1', 'PX', earlyPauseMs(openings))
    await halfOpen(target)
    await wakeParked(target, BREAKER.PROBE_SUCCESSES)
  }

  async function wakeParked(target: Target, count: number): Promise<void> {
    const jobs = await redis.rpop(keyOf('parked', target), count)
    if (jobs) await wake(jobs)
  }

  async function observeTarget({ target, breaker }: TargetState): Promise<void> {
    const name = targetName(target)
    if (breaker === 'open') {
      if (!logged.has(name)) logger.warn(target, 'calls keep failing: the circuit breaker is open')
      logged.add(name)
      open.set(name, performance.now())
      return ping(target)
    }
    if (breaker === 'closed' && logged.delete(name)) logger.info(target, 'the circuit breaker is closed again')
    const since = open.get(name)
    if (since === undefined) return
    // A half-open breaker passes one call at a time.
    await wakeParked(target, breaker === 'closed' ? MAX_PARKED : BREAKER.PROBE_SUCCESSES)
    if (breaker === 'closed') await redis.del(keyOf('early', target))
    if (breaker === 'closed' || performance.now() - since > PARKED_MS) open.delete(name)
  }

  return {
    park(one, job) {
      const target = canonicalTarget(one)
      open.set(targetName(target), performance.now())
      const key = keyOf('parked', target)
      // A job that could not be parked runs when its delay ends.
      redis
        .multi()
        .lpush(key, job)
        .ltrim(key, 0, MAX_PARKED - 1)
        .pexpire(key, PARKED_MS)
        .exec()
        .catch(() => undefined)
    },
    async observe(states) {
      await Promise.all(states.map(observeTarget))
    },
  }
}

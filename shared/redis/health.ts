import { randomUUID } from 'node:crypto'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { repeatEvery, withDeadline } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { type Redis, readMemory } from './connect.ts'

/** Callers within this time share one check. */
const FRESH_MS = 1000
const POLL_MS = 5000
const ANSWER_MS = 1500
const KEY_MS = 60_000
/** The policy is read less often, because only operators change it. */
const POLICY_MS = 30_000

/** The fault, by the error that refused a write. */
const REFUSALS: [RegExp, string][] = [
  [/\bREADONLY\b/, 'readonly'],
  [/^LOADING\b/, 'loading'],
  [/^MASTERDOWN\b/, 'replica without a primary'],
  [/^NOREPLICAS\b/, 'too few replicas'],
  [/^OOM\b/, 'full'],
  [/^MISCONF\b/, 'cannot save to disk'],
  [/^NOPERM\b/, 'not permitted to write'],
]

const reasonOf = (error: unknown): string =>
  REFUSALS.find(([pattern]) => pattern.test((error as Error).message))?.[1] ?? 'unavailable'

export type RedisHealth = {
  /** `ok`, or the fault in a few words; at most one second old. Never rejects. */
  state(): Promise<string>
  stop(): Promise<void>
}

/**
 * Writes keys to a Redis and reads them back, every five seconds and on demand, because a demoted primary still answers PING.
 * Logs each change and records it in `sluice_redis_writable`.
 * @param options `subscribers` reconnect when the server has become a replica, which would not refuse anything that they send
 */
export function watchRedis(options: {
  /** The Redis of the queue must not evict. */
  name: 'queue' | 'cache'
  redis: Redis
  /** Key prefixes to write under: one for each slot of a cluster that matters. */
  prefixes: readonly string[]
  subscribers?: Redis[]
  metrics: Metrics
  logger: Logger
}): RedisHealth {
  const { name, redis, prefixes, subscribers = [], metrics, logger } = options
  const id = randomUUID()
  const keys = prefixes.map(prefix => `${prefix}:health:${id}`)
  let policy = { at: Number.NEGATIVE_INFINITY, evicts: false }
  let last: { at: number; state: Promise<string> } | null = null
  let logged = 'ok'
  let writes = 0

  async function writeAndRead(key: string): Promise<string> {
    const value = `${++writes}`
    const [, read] = await Promise.all([redis.set(key, value, 'PX', KEY_MS), redis.get(key)])
    return read === value ? 'ok' : 'does not keep what is written'
  }

  async function evicts(): Promise<boolean> {
    if (name === 'cache') return false
    if (performance.now() - policy.at > POLICY_MS)
      policy = { at: performance.now(), evicts: (await readMemory(redis)).evicts }
    return policy.evicts
  }

  async function check(): Promise<string> {
    if (redis.status !== 'ready') return 'unavailable'
    try {
      const states = await withDeadline(Promise.all(keys.map(writeAndRead)), ANSWER_MS)
      const wrong = states.find(state => state !== 'ok')
      if (wrong) return wrong
    } catch (error) {
      return reasonOf(error)
    }
    // A server that does not show its policy counts as healthy.
    return (await withDeadline(evicts(), ANSWER_MS).catch(() => false))
      ? 'evicts: maxmemory-policy is not noeviction'
      : 'ok'
  }

  function note(state: string): string {
    // The address may still lead to the replica.
    if (state === 'readonly' || logged === 'readonly') for (const one of subscribers) one.disconnect(true)
    metrics.redisWritable.set({ redis: name }, state === 'ok' || state.startsWith('evicts') ? 1 : 0)
    // connect.ts logs lost connections.
    if (state === logged || (state === 'unavailable' && redis.status !== 'ready')) return state
    if (state === 'ok') logger.info({ redis: name }, 'redis is healthy again')
    else logger.error({ redis: name, state }, 'redis is unhealthy')
    logged = state
    return state
  }

  function state(): Promise<string> {
    // After a lost connection the last answer is outdated.
    if (last && performance.now() - last.at < FRESH_MS && redis.status === 'ready') return last.state
    const pending = { at: performance.now(), state: check().then(note) }
    last = pending
    return pending.state
  }

  return { state, stop: repeatEvery(POLL_MS, state, error => logger.debug({ err: error }, 'redis was not checked')) }
}

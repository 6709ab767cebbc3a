import { cacheKeys, defineCacheScripts } from './cache-scripts.ts'
import { coalesce } from './coalesce.ts'
import type { Logger } from './logger.ts'
import { createGuard } from './outage.ts'
import type { Redis } from './redis.ts'

/** What a model answered. Shared by all that asked for it at the same moment: not to be changed. */
export type CachedAnswer = { result: unknown; provider: string; model: string }
/** Milliseconds since 1970 on Redis's clock. */
export type CacheEntry = CachedAnswer & { storedAt: number; freshUntil: number }
export type CacheFind = { kind: 'fresh' | 'stale'; entry: CacheEntry }

/** `follow`: the live task `leaderId` asks the same; its answer will do. */
export type Lead = { kind: 'lead' } | { kind: 'follow'; leaderId: string }
export type LookUp = { kind: 'hit'; entry: CacheEntry } | Lead

export type LeadOptions = {
  /** Only tasks that say the same here follow each other: what has no say in the answer, but in whether and when there is one. */
  among?: string | undefined
  /** How long it may lead without a sign, ms: no less than what is left to its deadline. */
  ttlMs: number
  /** A leader that Postgres knows to have ended: its place may be taken. */
  takeFrom?: string | undefined
}

export type Cache = {
  /** The entry that is there, fresh or stale; null: none, or Redis did not say. Gets that come together are one. */
  get(key: Buffer): Promise<CacheFind | null>
  /**
   * A fresh entry, or who makes one: the first of the tasks with the same key that asks leads, the others follow. One
   * round trip for all that ask together. Without Redis everybody leads. `refresh`: no entry will do.
   */
  lookUp(key: Buffer, taskId: string, options: LeadOptions & { refresh?: boolean }): Promise<LookUp>
  /** `lookUp` for who wants no entry. A task that leads already is told so again. */
  lead(key: Buffer, taskId: string, options: LeadOptions): Promise<Lead>
  /** Remembers an answer. Resolves, never rejects: to false if it is too large or Redis did not take it. */
  put(key: Buffer, answer: CachedAnswer, life: { ttlSeconds: number; staleSeconds: number }): Promise<boolean>
  /** This task asks no more: the next one with the key leads. After `put`, so that the next one finds the answer. */
  land(key: Buffer, taskId: string, among?: string): Promise<void>
}

/** JSON of a larger answer is not remembered, bytes. */
export const MAX_ENTRY_BYTES = 262_144
/** Most that one flush reads or writes: a script is alone in Redis while it runs. */
const MOST_TASKS = 100
const MOST_STORED_BYTES = 4_000_000
/** Beyond this much that waits to be stored, answers are not remembered, bytes. */
const MOST_WAITING_BYTES = 32_000_000

/** Nobody waits for a landing. */
const LINGER_MS = 10

const LEAD: Lead = { kind: 'lead' }

/**
 * The response cache and the flights (one call for identical tasks anywhere in the fleet), in Redis. It only saves
 * calls: whatever Redis loses, forgets or does not say in time costs one more, never an error. All ages are Redis's.
 */
export function createCache(options: {
  redis: Redis
  prefix: string
  logger: Logger
  /** Bound of all entries together, in bytes. For a Redis that does not bound itself by LRU, as the queue's must not. */
  maxBytes?: number
  /** What a caller waits for Redis at most. */
  timeoutMs?: number
}): Cache {
  const { redis, prefix, logger, maxBytes = 0, timeoutMs = 500 } = options
  const keys = cacheKeys(prefix)
  const scripts = defineCacheScripts(redis)
  const guard = createGuard({ redis, logger, timeoutMs, name: 'cache' })
  const itemsToBlame = () => false

  const read = coalesce<Buffer, CacheFind | null>({
    max: MOST_TASKS,
    concurrency: 2,
    itemsToBlame,
    flush: async wanted => {
      const names = wanted.map(keys.entry)
      const distinct = [...new Set(names)]
      const [now, texts] = (await guard(() => scripts.read(distinct, []))) as [number, (string | null)[]]
      const found = new Map(distinct.map((name, i) => [name, parse(texts[i])]))
      return names.map(name => {
        const entry = found.get(name)
        return entry ? { kind: now < entry.freshUntil ? 'fresh' : 'stale', entry } : null
      })
    },
  })

  type Asked = LeadOptions & { key: Buffer; taskId: string; refresh: boolean }
  const ask = coalesce<Asked, LookUp>({
    max: MOST_TASKS,
    concurrency: 2,
    itemsToBlame,
    flush: async asked => {
      const answers = await guard(() =>
        scripts.lookUp(
          asked.flatMap(({ key, among = '' }) => [keys.entry(key), keys.flight(key, among)]),
          asked.flatMap(({ taskId, ttlMs, takeFrom = '', refresh }) => [
            taskId,
            Math.max(1, Math.ceil(ttlMs)),
            takeFrom,
            refresh ? 0 : 1,
          ]),
        ),
      )
      return (answers as (string | 1 | [string])[]).map(answer => {
        if (answer === 1) return LEAD
        if (typeof answer !== 'string') return { kind: 'follow', leaderId: answer[0] }
        const entry = parse(answer)
        return entry ? { kind: 'hit', entry } : LEAD
      })
    },
  })

  type Stored = { key: Buffer; text: string; bytes: number; freshMs: number; staleMs: number }
  const store = coalesce<Stored, boolean>({
    max: MOST_TASKS,
    maxWeight: MOST_STORED_BYTES,
    weigh: one => one.bytes,
    full: { weight: MOST_WAITING_BYTES, error: () => new Error('too much waits to be stored') },
    itemsToBlame,
    flush: async stored => {
      await guard(() =>
        scripts.store(
          [keys.order, keys.sizes, ...stored.map(one => keys.entry(one.key))],
          [maxBytes, ...stored.flatMap(one => [one.text, one.freshMs, one.staleMs])],
        ),
      )
      return stored.map(() => true)
    },
  })

  const end = coalesce<{ key: Buffer; taskId: string; among: string }, void>({
    max: MOST_TASKS,
    idle: { lingerMs: LINGER_MS, is: () => true },
    itemsToBlame,
    flush: async landed => {
      await guard(() =>
        scripts.land(
          landed.map(one => keys.flight(one.key, one.among)),
          landed.map(one => one.taskId),
        ),
      )
      return landed.map(() => undefined)
    },
  })

  return {
    get: key => read(key).catch(() => null),
    lookUp: (key, taskId, { refresh = false, ...more }) => ask({ ...more, key, taskId, refresh }).catch(() => LEAD),
    lead: (key, taskId, more) => ask({ ...more, key, taskId, refresh: true }).catch(() => LEAD) as Promise<Lead>,
    async put(key, { result, provider, model }, { ttlSeconds, staleSeconds }) {
      try {
        const text = JSON.stringify({ result, provider, model })
        const bytes = Buffer.byteLength(text)
        const [freshMs, staleMs] = [ttlSeconds, staleSeconds].map(seconds => Math.round(seconds * 1000)) as [
          number,
          number,
        ]
        if (bytes > MAX_ENTRY_BYTES || freshMs + staleMs <= 0) return false
        return await store({ key, text, bytes, freshMs, staleMs })
      } catch {
        return false
      }
    },
    land: (key, taskId, among = '') => end({ key, taskId, among }).catch(() => {}),
  }
}

/** Reads `<stored at>:<fresh until>:<JSON>`; null if it is none. */
function parse(text: string | null | undefined): CacheEntry | null {
  const head = /^(\d+):(\d+):/.exec(text ?? '')
  if (!head) return null
  try {
    const { result, provider, model } = JSON.parse(text!.slice(head[0].length)) as CachedAnswer
    return { result, provider, model, storedAt: Number(head[1]), freshUntil: Number(head[2]) }
  } catch {
    return null
  }
}

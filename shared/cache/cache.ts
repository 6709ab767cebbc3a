import { coalesce } from '#shared/concurrency/coalesce.ts'
import { parseJson } from '#shared/json/lossless.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { Redis } from '#shared/redis/connect.ts'
import { createGuard } from '#shared/redis/redis-guard.ts'
import { cacheKeys, defineCacheScripts } from './cache-scripts.ts'

/** The answer of a model. Concurrent callers share the object: do not change it. */
export type CachedAnswer = {
  result: unknown
  provider: string
  model: string
  /** Absent from entries of an earlier version. */
  finishReason?: FinishReason | null
}
/** Milliseconds since 1970 on Redis's clock. */
export type CacheEntry = CachedAnswer & { storedAt: number; freshUntil: number }
export type CacheFind = { kind: 'fresh' | 'stale'; entry: CacheEntry }

/** `follow`: wait for the answer of the identical task `leaderId`. */
export type Lead = { kind: 'lead' } | { kind: 'follow'; leaderId: string }
export type LookUp = { kind: 'hit'; entry: CacheEntry } | Lead

export type LeadOptions = {
  /** Only tasks of the same group follow each other: it names what decides when and whether there is an answer. */
  coalesceGroup?: string | undefined
  /** How long the task may lead, ms: at least the time to its deadline. */
  ttlMs: number
  /** A leader that has ended according to Postgres: this task may replace it. */
  replaceLeader?: string | undefined
}

export type Cache = {
  /** The entry, fresh or stale; null: there is none, or Redis did not answer. Concurrent reads share a round trip. */
  get(key: Buffer): Promise<CacheFind | null>
  /**
   * A fresh entry, or the role of the task: the first task with the key leads, the others follow. Concurrent lookups share
   * a round trip. Without Redis every task leads. `refresh`: accept no entry.
   */
  lookUp(key: Buffer, taskId: string, options: LeadOptions & { refresh?: boolean }): Promise<LookUp>
  /** Stores an answer. Never rejects: resolves to false if it is too large or Redis did not accept it. */
  put(key: Buffer, answer: CachedAnswer, life: { ttlSeconds: number; staleSeconds: number }): Promise<boolean>
  /** Ends the lead: the next task with the key leads. Call it after `put`, so that the next task finds the answer. */
  releaseLead(key: Buffer, taskId: string, coalesceGroup?: string): Promise<void>
}

/** A larger answer is not stored, bytes of JSON. */
export const MAX_ENTRY_BYTES = 262_144
/** Bounds of one flush: Redis runs nothing else during a script. */
const MAX_TASKS = 100
const MAX_STORED_BYTES = 4_000_000
/** Answers are not stored while more than this waits to be stored, bytes. */
const MAX_WAITING_BYTES = 32_000_000

/** No caller waits for the end of a lead. */
const LINGER_MS = 10

const LEAD: Lead = { kind: 'lead' }

/**
 * The response cache and the flights (one call for identical tasks in all processes), in Redis. It only saves calls: when
 * Redis loses data or does not answer in time, a task makes another call, and no error. Ages are by Redis's clock.
 */
export function createCache(options: {
  redis: Redis
  prefix: string
  logger: Logger
  /** Bound of all entries together, bytes. For a Redis without LRU eviction, which the queue's must not have. */
  maxBytes?: number
  /** How long a caller waits for Redis at most. */
  timeoutMs?: number
}): Cache {
  const { redis, prefix, logger, maxBytes = 0, timeoutMs = 500 } = options
  const keys = cacheKeys(prefix)
  const scripts = defineCacheScripts(redis)
  const guard = createGuard({ redis, logger, timeoutMs, name: 'cache' })
  const splitOnError = () => false

  const read = coalesce<Buffer, CacheFind | null>({
    max: MAX_TASKS,
    concurrency: 2,
    splitOnError,
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
    max: MAX_TASKS,
    concurrency: 2,
    splitOnError,
    flush: async asked => {
      const answers = await guard(() =>
        scripts.lookUp(
          asked.flatMap(({ key, coalesceGroup = '' }) => [keys.entry(key), keys.flight(key, coalesceGroup)]),
          asked.flatMap(({ taskId, ttlMs, replaceLeader = '', refresh }) => [
            taskId,
            Math.max(1, Math.ceil(ttlMs)),
            replaceLeader,
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
    max: MAX_TASKS,
    maxWeight: MAX_STORED_BYTES,
    weigh: one => one.bytes,
    full: { weight: MAX_WAITING_BYTES, error: () => new Error('too many answers wait to be stored') },
    splitOnError,
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

  const end = coalesce<{ key: Buffer; taskId: string; coalesceGroup: string }, void>({
    max: MAX_TASKS,
    idle: { lingerMs: LINGER_MS, is: () => true },
    splitOnError,
    flush: async leads => {
      await guard(() =>
        scripts.releaseLead(
          leads.map(one => keys.flight(one.key, one.coalesceGroup)),
          leads.map(one => one.taskId),
        ),
      )
      return leads.map(() => undefined)
    },
  })

  return {
    get: key => read(key).catch(() => null),
    lookUp: (key, taskId, { refresh = false, ...more }) => ask({ ...more, key, taskId, refresh }).catch(() => LEAD),
    async put(key, { result, provider, model, finishReason }, { ttlSeconds, staleSeconds }) {
      try {
        const text = JSON.stringify({ result, provider, model, finishReason })
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
    releaseLead: (key, taskId, coalesceGroup = '') => end({ key, taskId, coalesceGroup }).catch(() => {}),
  }
}

/** Parses `<stored at>:<fresh until>:<JSON>`; null if it is malformed. */
function parse(text: string | null | undefined): CacheEntry | null {
  const head = /^(\d+):(\d+):/.exec(text ?? '')
  if (!head) return null
  try {
    const { result, provider, model, finishReason } = parseJson(text!.slice(head[0].length)) as CachedAnswer
    return {
      result,
      provider,
      model,
      ...(finishReason && { finishReason }),
      storedAt: Number(head[1]),
      freshUntil: Number(head[2]),
    }
  } catch {
    return null
  }
}

import type { Redis } from '#shared/redis/connect.ts'
import { clean } from '#shared/text.ts'
import type { Notifications } from './notifications.ts'

/**
 * The text of a running task as a Redis stream. Entry ids are `<attempt>-<n>`, so that Redis itself refuses a worker
 * that has been replaced. Fields: `b` the attempt begins; `d` more text; `w` the whole text so far (earlier entries were
 * lost); `e` the text is complete.
 */
export type StreamEntry = { attempt: number; n: number; type: 'b' | 'd' | 'w' | 'e'; text: string }

/**
 * Expiry of a text after its last entry, because this Redis evicts nothing. A reader that returns within it resumes;
 * afterwards it gets the whole text from Postgres.
 */
const KEEP_SECONDS = 120
const END_WAIT_MS = 1000

const streamKey = (prefix: string, id: string) => `${prefix}:text:${id}`

export type DeltaWriter = {
  write(text: string): void
  /** Writes the remaining text and the end mark. Waits for Redis at most a second. */
  end(): Promise<void>
}

/** Opens the stream of one attempt and drops the text of earlier ones. */
export function openDeltaWriter(options: {
  redis: Redis
  notifications: Notifications
  prefix: string
  id: string
  attempt: number
  /** Timeout of the call, milliseconds. */
  timeoutMs: number
  /** How long `end` waits for Redis at most. */
  endWaitMs?: number
}): DeltaWriter {
  const { redis, notifications, id, attempt, endWaitMs = END_WAIT_MS } = options
  const key = streamKey(options.prefix, id)
  // There is no end mark when the call fails or the process dies.
  const keepWriting = Math.ceil(options.timeoutMs / 1000) + KEEP_SECONDS
  let written = ''
  let pending = ''
  let n = 0
  /** Whether all of `written` is in the stream. */
  let intact = true
  let stale = false
  let closed = false

  const isStale = (error: unknown) => /equal or smaller/.test(String(error))

  async function begin(): Promise<void> {
    // The higher id first: then a worker of an earlier attempt can no longer add.
    await redis.xadd(key, `${attempt}-0`, 'b', '')
    await redis.multi().xtrim(key, 'MINID', `${attempt}-0`).expire(key, keepWriting).exec()
  }

  async function add(type: 'd' | 'e', text: string): Promise<void> {
    n++
    const added = intact ? await redis.xadd(key, 'NOMKSTREAM', `${attempt}-${n}`, type, text) : null
    if (added !== null) return
    // The stream is gone, or an earlier write may be missing: start again with the whole text.
    await redis.xadd(key, `${attempt}-${n}`, 'w', written)
    await redis.expire(key, keepWriting)
    if (type === 'e') await redis.xadd(key, `${attempt}-${++n}`, 'e', '')
    intact = true
  }

  async function attemptWrite(work: () => Promise<void>): Promise<void> {
    if (stale) return
    try {
      await work()
      notifications.more(id)
    } catch (error) {
      // Redis is unavailable: keep the text in memory, and write all of it when Redis is back.
      intact = false
      stale = isStale(error)
    }
  }

  let busy = attemptWrite(begin)
  let flushing = false

  function pump(): void {
    // Half of a surrogate pair waits for the other half, which comes with `write`. Retrying at once would never end.
    if (flushing || closed || pending === '' || /^[\uD800-\uDBFF]$/.test(pending)) return
    flushing = true
    busy = busy
      .then(() => attemptWrite(flush))
      .finally(() => {
        flushing = false
        pump()
      })
  }

  /** No timer: text that arrives during a write goes into the next entry. */
  async function flush(): Promise<void> {
    const cut = /[\uD800-\uDBFF]$/.test(pending) ? pending.length - 1 : pending.length
    const text = clean(pending.slice(0, cut))
    pending = pending.slice(cut)
    if (text === '') return
    written += text
    await add('d', text)
  }

  async function finish(): Promise<void> {
    written += clean(pending)
    const rest = clean(pending)
    pending = ''
    if (rest !== '') await add('d', rest)
    await add('e', '')
    // Last: a writer that has been replaced does not get here, so it does not expire its successor's text.
    await redis.expire(key, KEEP_SECONDS)
  }

  return {
    write(text) {
      pending += text
      pump()
    },
    async end() {
      closed = true
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<void>(resolve => {
        timer = setTimeout(resolve, endWaitMs)
      })
      await Promise.race([busy.then(() => attemptWrite(finish)), late])
      clearTimeout(timer)
    },
  }
}

/** Entries after `(attempt, n)`, oldest first. @throws if Redis cannot be reached */
export async function readStream(
  redis: Redis,
  prefix: string,
  id: string,
  after: { attempt: number; n: number },
): Promise<StreamEntry[]> {
  const rows = await redis.xrange(streamKey(prefix, id), `(${after.attempt}-${after.n}`, '+')
  return rows.map(([entryId, [type, text]]) => {
    const [attempt, n] = entryId.split('-').map(Number)
    return { attempt: attempt!, n: n!, type: type as StreamEntry['type'], text: text ?? '' }
  })
}

import type { Redis } from '#shared/redis.ts'
import { clean } from '#shared/text.ts'
import type { Hints } from './hints.ts'

/**
 * The text of a running task as a Redis stream. Entry ids are `<attempt>-<n>`, so that Redis itself refuses a worker
 * that has been overtaken. Fields: `b` the attempt begins; `d` more text; `w` the whole text so far (what was there
 * before is lost); `e` the text is complete.
 */
export type StreamEntry = { attempt: number; n: number; type: 'b' | 'd' | 'w' | 'e'; text: string }

/**
 * How long a text is kept when no more comes: its Redis evicts nothing. A reader that comes back within it goes on where
 * it was; after it the whole text comes from Postgres.
 */
const KEEP_SECONDS = 120
const END_WAIT_MS = 1000

const streamKey = (prefix: string, id: string) => `${prefix}:text:${id}`

export type DeltaWriter = {
  write(text: string): void
  /** Writes what is left and the end mark; waits for Redis no longer than a second. */
  end(): Promise<void>
}

/** Opens the stream of one attempt; what earlier attempts wrote is dropped. */
export function openDeltaWriter(options: {
  redis: Redis
  hints: Hints
  prefix: string
  id: string
  attempt: number
  /** Upper bound of the call that brings the text, milliseconds. */
  timeoutMs: number
  /** How long `end` waits for Redis at most. */
  endWaitMs?: number
}): DeltaWriter {
  const { redis, hints, id, attempt, endWaitMs = END_WAIT_MS } = options
  const key = streamKey(options.prefix, id)
  // Nobody tells when the call fails, or its process dies.
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
    // The new top id comes first, so that a worker of an earlier attempt can no longer add.
    await redis.xadd(key, `${attempt}-0`, 'b', '')
    await redis.multi().xtrim(key, 'MINID', `${attempt}-0`).expire(key, keepWriting).exec()
  }

  async function add(type: 'd' | 'e', text: string): Promise<void> {
    n++
    const added = intact ? await redis.xadd(key, 'NOMKSTREAM', `${attempt}-${n}`, type, text) : null
    if (added !== null) return
    // The stream is gone, or an earlier write may not have arrived: start it again with everything.
    await redis.xadd(key, `${attempt}-${n}`, 'w', written)
    await redis.expire(key, keepWriting)
    if (type === 'e') await redis.xadd(key, `${attempt}-${++n}`, 'e', '')
    intact = true
  }

  async function attemptWrite(work: () => Promise<void>): Promise<void> {
    if (stale) return
    try {
      await work()
      hints.more(id)
    } catch (error) {
      // Redis is away: the text goes on in memory, and in whole when Redis is back.
      intact = false
      stale = isStale(error)
    }
  }

  let busy = attemptWrite(begin)
  let flushing = false

  function pump(): void {
    // Half a surrogate pair waits for its other half, which `write` brings; trying again at once would never end.
    if (flushing || closed || pending === '' || /^[\uD800-\uDBFF]$/.test(pending)) return
    flushing = true
    busy = busy
      .then(() => attemptWrite(flush))
      .finally(() => {
        flushing = false
        pump()
      })
  }

  /** No timer: what came while the previous entry was under way goes into the next one. */
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
    // Not before: a writer that has been overtaken does not get here, and leaves its successor's text alone.
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

import type { BatchView } from '#shared/db/batches/read.ts'
import { batchJson, hasEnded } from './batch-json.ts'

const POLL_MS = 1000

/** The state of a batch, as event streams send it. */
export type BatchFrame = { json: string; ended: boolean }

export type BatchFeed = {
  /**
   * Yields `first`, then the batch after each change, until it has ended or was deleted, or `over` is aborted. A slow reader
   * skips to the newest frame.
   */
  follow(first: BatchView, over: AbortSignal): AsyncGenerator<BatchFrame>
  stop(): void
}

type Followed = { frame: BatchFrame | null; readers: number; changed: PromiseWithResolvers<void> }

const frameOf = (batch: BatchView): BatchFrame => ({
  json: JSON.stringify(batchJson(batch)),
  ended: hasEnded(batch.status),
})

/** Serves all batch streams of this process with one query per second, and renders each batch once for all its readers. */
export function createBatchFeed(options: {
  readBatches: (ids: string[]) => Promise<BatchView[]>
  onError: (error: unknown) => void
}): BatchFeed {
  const followed = new Map<string, Followed>()

  function publish(one: Followed, frame: BatchFrame | null): void {
    if (one.frame?.json === frame?.json) return
    one.frame = frame
    one.changed.resolve()
    one.changed = Promise.withResolvers()
  }

  let reading = false
  const timer = setInterval(async () => {
    if (reading || followed.size === 0) return
    reading = true
    try {
      const streams = [...followed]
      const batches = new Map((await options.readBatches(streams.map(([id]) => id))).map(batch => [batch.id, batch]))
      for (const [id, one] of streams) {
        const batch = batches.get(id)
        publish(one, batch ? frameOf(batch) : null)
      }
    } catch (error) {
      // The next poll tries again. If the streams were ended, the clients would only reconnect.
      options.onError(error)
    } finally {
      reading = false
    }
  }, POLL_MS)
  timer.unref()

  return {
    async *follow(first, over) {
      const known = followed.get(first.id)
      const one = known ?? { frame: frameOf(first), readers: 0, changed: Promise.withResolvers<void>() }
      if (known) publish(known, frameOf(first))
      followed.set(first.id, one)
      one.readers++
      const aborted = Promise.withResolvers<void>()
      over.addEventListener('abort', () => aborted.resolve(), { once: true })
      if (over.aborted) aborted.resolve()
      try {
        for (let sent = ''; one.frame && !over.aborted; ) {
          const { changed } = one
          if (one.frame.json !== sent) {
            const frame = one.frame
            sent = frame.json
            yield frame
            if (frame.ended) return
          } else {
            await Promise.race([changed.promise, aborted.promise])
          }
        }
      } finally {
        if (--one.readers === 0 && followed.get(first.id) === one) followed.delete(first.id)
      }
    },
    stop: () => clearInterval(timer),
  }
}

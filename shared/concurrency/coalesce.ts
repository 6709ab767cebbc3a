export type CoalesceOptions<I, O> = {
  /** Processes all items in one round trip. @returns one result per item, in order */
  flush: (items: I[]) => Promise<O[]>
  /** Maximum number of items in one flush. */
  max: number
  /** Maximum weight of one flush. A single item that is heavier is flushed alone. Needs `weigh`. */
  maxWeight?: number
  weigh?: (item: I) => number
  /** Rejects new items with `error()` while the queued items weigh this much, so that a server that hangs does not fill the memory. */
  full?: { weight: number; error: () => Error }
  /** Maximum number of concurrent flushes. */
  concurrency?: number
  /** Items whose result is not urgent: they are flushed with the next urgent item, or after `lingerMs`. */
  idle?: { lingerMs: number; is: (item: I) => boolean }
  /**
   * Whether a single item may have caused the failure of a flush. If so, the batch is split until that item fails alone. If not
   * (the server is unavailable), the batch and everything queued behind it fail.
   */
  splitOnError: (error: unknown) => boolean
}

/** Options for items that are never urgent: they gather for `lingerMs`, so that more of them share a round trip. */
export const linger = (lingerMs: number) => (lingerMs > 0 ? { idle: { lingerMs, is: () => true } } : {})

type Queued<I, O> = { item: I; resolve: (value: O) => void; reject: (error: unknown) => void }

/**
 * Sends everything that waits at the same moment in one round trip. There is no timer: a flush starts when the previous one ends,
 * so that an idle server is asked at once and a busy one in larger batches.
 */
export function coalesce<I, O>(options: CoalesceOptions<I, O>): (item: I) => Promise<O> {
  const { max, maxWeight = Number.POSITIVE_INFINITY, weigh = () => 0, concurrency = 1, full, idle } = options
  let queue: Queued<I, O>[] = []
  let queuedWeight = 0
  let flushing = 0
  let scheduled = false
  /** The queue holds an urgent item, or one that has lingered long enough. */
  let urgent = false
  let lingering = false

  function take(): Queued<I, O>[] {
    let weight = 0
    let count = 0
    while (count < queue.length && count < max) {
      weight += weigh(queue[count]!.item)
      if (weight > maxWeight && count > 0) break
      count++
    }
    const batch = queue.slice(0, count)
    queue = queue.slice(count)
    if (full) for (const one of batch) queuedWeight -= weigh(one.item)
    return batch
  }

  function pump(): void {
    scheduled = false
    while (flushing < concurrency && queue.length > 0 && urgent) {
      const batch = take()
      urgent = queue.some(one => !idle?.is(one.item))
      flushing++
      void run(batch).finally(() => {
        flushing--
        pump()
      })
    }
  }

  async function run(batch: Queued<I, O>[]): Promise<void> {
    try {
      const results = await options.flush(batch.map(one => one.item))
      for (const [index, one] of batch.entries()) one.resolve(results[index]!)
    } catch (error) {
      if (!options.splitOnError(error)) {
        const others = queue
        queue = []
        queuedWeight = 0
        for (const one of [...batch, ...others]) one.reject(error)
        return
      }
      if (batch.length === 1) {
        batch[0]!.reject(error)
        return
      }
      const half = batch.length >> 1
      await run(batch.slice(0, half))
      await run(batch.slice(half))
    }
  }

  return item =>
    new Promise<O>((resolve, reject) => {
      if (full) {
        if (queuedWeight >= full.weight) {
          reject(full.error())
          return
        }
        queuedWeight += weigh(item)
      }
      queue.push({ item, resolve, reject })
      if (idle?.is(item)) {
        if (lingering) return
        lingering = true
        setTimeout(() => {
          lingering = false
          urgent = queue.length > 0
          pump()
        }, idle.lingerMs)
        return
      }
      urgent = true
      if (scheduled || flushing >= concurrency) return
      scheduled = true
      // Items of the same turn of the event loop share the flush.
      setImmediate(pump)
    })
}

export type CoalesceOptions<I, O> = {
  /** Answers all items, in order. One call is one round trip. */
  flush: (items: I[]) => Promise<O[]>
  /** Most items in one flush. */
  max: number
  /** Most weight in one flush (a heavier single item still goes, alone). Needs `weigh`. */
  maxWeight?: number
  weigh?: (item: I) => number
  /** Beyond this weight of what waits, new items are refused with `error()`: a server that hangs must not fill the memory. */
  full?: { weight: number; error: () => Error }
  /** Flushes under way at once. */
  concurrency?: number
  /** Items for which nobody waits: they go along with the next one that is waited for, or after `lingerMs` by themselves. */
  idle?: { lingerMs: number; is: (item: I) => boolean }
  /**
   * Whether one item may be to blame for a failed flush. If so the batch is split until the culprit alone fails;
   * if not (the server is away) all fail together, and with them what waits: it would only take as long to meet the same.
   */
  itemsToBlame: (error: unknown) => boolean
}

/** For callers that are in no hurry: what they ask gathers for so long, so that more of it shares a round trip. */
export const patience = (lingerMs: number) => (lingerMs > 0 ? { idle: { lingerMs, is: () => true } } : {})

type Waiting<I, O> = { item: I; resolve: (value: O) => void; reject: (error: unknown) => void }

/**
 * Lets everything that waits at the same moment share one round trip. There is no timer: a flush starts when the
 * previous one is done, so an idle server answers at once and a busy one in larger batches.
 */
export function coalesce<I, O>(options: CoalesceOptions<I, O>): (item: I) => Promise<O> {
  const { max, maxWeight = Number.POSITIVE_INFINITY, weigh = () => 0, concurrency = 1, full, idle } = options
  let waiting: Waiting<I, O>[] = []
  let waitingWeight = 0
  let flushing = 0
  let scheduled = false
  /** Somebody waits for something that waits here, or it has waited long enough. */
  let urgent = false
  let lingering = false

  function take(): Waiting<I, O>[] {
    let weight = 0
    let count = 0
    while (count < waiting.length && count < max) {
      weight += weigh(waiting[count]!.item)
      if (weight > maxWeight && count > 0) break
      count++
    }
    const batch = waiting.slice(0, count)
    waiting = waiting.slice(count)
    if (full) for (const one of batch) waitingWeight -= weigh(one.item)
    return batch
  }

  function pump(): void {
    scheduled = false
    while (flushing < concurrency && waiting.length > 0 && urgent) {
      const batch = take()
      urgent = waiting.some(one => !idle?.is(one.item))
      flushing++
      void run(batch).finally(() => {
        flushing--
        pump()
      })
    }
  }

  async function run(batch: Waiting<I, O>[]): Promise<void> {
    try {
      const answers = await options.flush(batch.map(one => one.item))
      for (const [index, one] of batch.entries()) one.resolve(answers[index]!)
    } catch (error) {
      if (!options.itemsToBlame(error)) {
        const others = waiting
        waiting = []
        waitingWeight = 0
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
        if (waitingWeight >= full.weight) {
          reject(full.error())
          return
        }
        waitingWeight += weigh(item)
      }
      waiting.push({ item, resolve, reject })
      if (idle?.is(item)) {
        if (lingering) return
        lingering = true
        setTimeout(() => {
          lingering = false
          urgent = waiting.length > 0
          pump()
        }, idle.lingerMs)
        return
      }
      urgent = true
      if (scheduled || flushing >= concurrency) return
      scheduled = true
      // Everything that this turn of the event loop brings goes into the same flush.
      setImmediate(pump)
    })
}

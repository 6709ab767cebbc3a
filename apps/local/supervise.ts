import { describeExit, type Running } from './process.ts'

const FIRST_BACKOFF_MS = 200
const MAX_BACKOFF_MS = 10_000
/** Who lived this long has recovered from whatever it was. */
const RECOVERED_AFTER_MS = 30_000

export type SuperviseDeps = {
  log: (line: string) => void
  /** Milliseconds. */
  now: () => number
  /** Resolves after `ms`, or at once when `signal` aborts. */
  wait: (ms: number, signal: AbortSignal) => Promise<void>
}

export type Supervised<R extends Running = Running> = {
  /** What runs now; null: it died and is being started again. */
  current(): R | null
  /**
   * Ends it for good, also while it is being started or waits for its next try. `gently` is given time with what runs before that
   * is told to stop.
   */
  stop(gently?: (running: R) => Promise<unknown>): Promise<void>
  /** Ends it for good at once, without waiting. */
  kill(): void
}

/** Keeps one process running: whenever it dies without being told to, it is started again after a backoff. */
export function supervise<R extends Running>(
  o: SuperviseDeps & {
    name: string
    /** What runs already. */
    first: R
    /** It has died by itself. */
    onExit?: () => void
    /** Starts it again; rejects if that fails, and gives up early when `signal` aborts. */
    start: (signal: AbortSignal) => Promise<R>
  },
): Supervised<R> {
  const end = new AbortController()
  let current: R | null = o.first

  const loop = (async () => {
    let failures = 0
    let born = o.now()
    while (current) {
      const exit = await current.exited
      current = null
      if (end.signal.aborted) return
      o.onExit?.()
      if (o.now() - born >= RECOVERED_AFTER_MS) failures = 0
      let why = describeExit(exit)
      while (!current) {
        const ms = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures++)
        o.log(`${o.name} ${why}; starting it again in ${ms} ms`)
        await o.wait(ms, end.signal)
        if (end.signal.aborted) return
        try {
          current = await o.start(end.signal)
          born = o.now()
        } catch (error) {
          why = `did not start (${(error as Error).message})`
        }
        if (end.signal.aborted) return
      }
      o.log(`${o.name} is back`)
    }
  })()

  return {
    current: () => current,
    async stop(gently) {
      end.abort()
      if (gently && current) await gently(current)
      await current?.stop()
      await loop
      // A start that had gone too far to give up.
      await current?.stop()
    },
    kill() {
      end.abort()
      current?.kill()
    },
  }
}

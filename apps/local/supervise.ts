import { describeExit, type Exit, type Running } from './process.ts'

const FIRST_BACKOFF_MS = 200
const MAX_BACKOFF_MS = 10_000
/** A process that lived this long starts again with the first backoff. */
const RECOVERED_AFTER_MS = 30_000

export type SuperviseDeps = {
  log: (line: string) => void
  /** Milliseconds. */
  now: () => number
  /** Resolves after `ms`, or at once when `signal` aborts. */
  wait: (ms: number, signal: AbortSignal) => Promise<void>
}

export type Supervised<R extends Running = Running> = {
  /** The running process; null while it is being started. */
  current(): R | null
  /**
   * Stops the process for good, also while it is being started or waits for its next start. `before` is awaited before a
   * running process is told to stop.
   */
  stop(before?: (running: R) => Promise<unknown>): Promise<void>
  /** Kills the process for good, without waiting. */
  kill(): void
}

/** Keeps one process running: starts it, and starts it again with backoff whenever it exits or does not start. */
export function supervise<R extends Running>(
  o: SuperviseDeps & {
    name: string
    /** The process, if it runs already. */
    first?: R
    /** Rejects if the process does not start; gives up when `signal` aborts. */
    start: (signal: AbortSignal) => Promise<R>
    /** Called when the process exits without having been told to stop. */
    onExit?: (exit: Exit) => void
  },
): Supervised<R> {
  const end = new AbortController()
  let current: R | null = o.first ?? null

  async function run(): Promise<void> {
    let failures = 0
    let startedAt = o.now()
    while (!end.signal.aborted) {
      let why: string
      if (current) {
        const exit = await current.exited
        current = null
        if (end.signal.aborted) return
        o.onExit?.(exit)
        if (o.now() - startedAt >= RECOVERED_AFTER_MS) failures = 0
        why = describeExit(exit)
      } else {
        try {
          current = await o.start(end.signal)
          startedAt = o.now()
          if (failures > 0 && !end.signal.aborted) o.log(`${o.name} is back`)
          continue
        } catch (error) {
          if (end.signal.aborted) return
          why = `did not start (${(error as Error).message})`
        }
      }
      const ms = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures++)
      o.log(`${o.name} ${why}; starting it again in ${ms} ms`)
      await o.wait(ms, end.signal)
    }
  }
  const running = run()

  return {
    current: () => current,
    async stop(before) {
      end.abort()
      if (before && current) await before(current)
      await current?.stop()
      await running
      // A start that could not be given up any more.
      await current?.stop()
    },
    kill() {
      end.abort()
      current?.kill()
    },
  }
}

import type { Readable, Writable } from 'node:stream'
import { type Client, SluiceApiError } from '../client/index.ts'
import { explain, isAway, isTurnedAway } from './failure.ts'
import type { Progress } from './progress.ts'

/** The environment of a command. */
export type Session = {
  /** Without retries of its own: `persistently` retries and tells the user. */
  client: Client
  progress: Progress
  stdin: Readable
  stdout: Writable
  stderr: Writable
  /** Aborted with `Interrupted`. */
  signal: AbortSignal
  /** Rejects with the reason of `signal`. */
  pause(ms: number): Promise<void>
  /** The command line for the same server, such as `npx sluice batch status …`. */
  command(words: string): string
}

const FIRST_WAIT_MS = 250
const MAX_WAIT_MS = 5_000
const GIVE_UP_AFTER_MS = 3_600_000

/**
 * Repeats `work` while the server is unavailable, for an hour at most, and tells the user. `maxSent` limits how often the
 * request is sent; a request that the server did not process does not count.
 */
export async function persistently<T>(
  { progress, pause }: Pick<Session, 'progress' | 'pause'>,
  work: () => Promise<T>,
  maxSent = Number.POSITIVE_INFINITY,
): Promise<T> {
  const until = Date.now() + GIVE_UP_AFTER_MS
  let sent = 0
  for (let tries = 1; ; tries++) {
    try {
      const value = await work()
      if (tries > 1) progress.say('the server answers again')
      return value
    } catch (error) {
      if (!isTurnedAway(error)) sent++
      if (!isAway(error) || sent >= maxSent || Date.now() > until) throw error
      if (tries === 1) progress.say(`${explain(error)}; trying again`)
      const asked = error instanceof SluiceApiError ? (error.retryAfter ?? 0) * 1000 : 0
      await pause(Math.min(Math.max(FIRST_WAIT_MS * 2 ** (tries - 1), asked), MAX_WAIT_MS))
    }
  }
}

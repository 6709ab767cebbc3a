import { type Client, SluiceApiError } from '../client/index.ts'
import { explain, isAway, isTurnedAway } from './failure.ts'
import type { Progress } from './progress.ts'

/** What the commands work with. */
export type Session = {
  /** It tries nothing twice: what is tried again is said to the user, see `persistently`. */
  client: Client
  progress: Progress
  /** Aborted with `Interrupted`. */
  signal: AbortSignal
  /** Rejects with the reason of `signal`. */
  pause(ms: number): Promise<void>
  /** How the user calls us, with the options that lead to the same server: `sluice batch`. */
  command(words: string): string
}

const FIRST_WAIT_MS = 250
const MOST_WAIT_MS = 5_000
const PATIENCE_MS = 3_600_000

/**
 * Does it again while the server is away, for an hour at most, and says so. `mostSent`: how often it may have been sent;
 * what nobody took is not counted.
 */
export async function persistently<T>(
  { progress, pause }: Pick<Session, 'progress' | 'pause'>,
  what: () => Promise<T>,
  mostSent = Number.POSITIVE_INFINITY,
): Promise<T> {
  const until = Date.now() + PATIENCE_MS
  let sent = 0
  for (let tries = 1; ; tries++) {
    try {
      const value = await what()
      if (tries > 1) progress.say('the server answers again')
      return value
    } catch (error) {
      if (!isTurnedAway(error)) sent++
      if (!isAway(error) || sent >= mostSent || Date.now() > until) throw error
      if (tries === 1) progress.say(`${explain(error)}; trying again`)
      const asked = error instanceof SluiceApiError ? (error.retryAfter ?? 0) * 1000 : 0
      await pause(Math.min(Math.max(FIRST_WAIT_MS * 2 ** (tries - 1), asked), MOST_WAIT_MS))
    }
  }
}

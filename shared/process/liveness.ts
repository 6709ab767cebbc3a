import { ConfigError } from '#shared/settings/config-error.ts'

/** Times in milliseconds. A process is dead to the others `deadAfterMs` after its last heartbeat; everything else follows from that. */
const PRODUCTION = {
  /** Interval of heartbeats. */
  beatMs: 2000,
  /** Pause after a heartbeat that failed. Short: when Postgres returns, a heartbeat should succeed before the claims are lost. */
  beatRetryMs: 250,
  /** A heartbeat that hangs is abandoned, because the next one uses another connection. */
  beatTimeoutMs: 3000,
  /** After this time without a heartbeat the process begins nothing new, because another worker might soon repeat it. */
  unhealthyAfterMs: 6000,
  /** After this time without a heartbeat the process stops its calls, before another worker repeats them. */
  abortAfterMs: 8000,
  /** After this time without a heartbeat the sweeper takes the claims of a process away. */
  deadAfterMs: 10_000,
  /** Postgres takes an advisory lock from a holder that has been silent for this time, such as a frozen process. */
  lockIdleMs: 10_000,
  /** BullMQ's lock on a job. Short: a job that a killed worker had fetched and not claimed waits for its end. A lock lost early does no harm. */
  jobLockMs: 8000,
  /** Interval at which BullMQ looks for jobs whose lock ended. */
  stalledCheckMs: 4000,
}

/** The times by which a process shows that it is alive, and by which others notice that it is not. All processes of an installation share them. */
export type Liveness = Readonly<typeof PRODUCTION>

/** The times of production. */
export const LIVENESS: Liveness = PRODUCTION

const MIN_SCALE = 0.05

/**
 * The times of production multiplied by the setting `LIVENESS_SCALE`, with which tests of crashes shorten all waits at once.
 * This is not a setting for users: a shorter time makes a busy process look dead, and a longer one delays every recovery.
 * @param scale text of the setting, 0.05 to 1; undefined or empty: 1
 * @throws ConfigError
 */
export function parseLiveness(scale: string | undefined): Liveness {
  const text = scale?.trim()
  if (!text || Number(text) === 1) return LIVENESS
  const factor = Number(text)
  if (!(factor >= MIN_SCALE && factor <= 1))
    throw new ConfigError(`LIVENESS_SCALE: must be a number from ${MIN_SCALE} to 1; it is only for tests`)
  return Object.fromEntries(Object.entries(LIVENESS).map(([name, ms]) => [name, Math.round(ms * factor)])) as Liveness
}

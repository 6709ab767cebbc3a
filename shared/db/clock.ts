import { setClock } from '#shared/process/clock.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { type Db, isUnavailable } from './pool.ts'

const READ_EVERY_MS = 10_000
/** A larger difference between the clocks is logged. */
const TOLERATED_MS = 5000

const readStatement = {
  name: 'clock_read',
  text: 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms',
}

/**
 * Makes `shared/process/clock.ts` follow the clock of Postgres: reads it before resolving, then every ten seconds. Call it before the
 * first id is made.
 * @returns stops it
 */
export async function followClock(db: Db, logger: Logger): Promise<() => Promise<void>> {
  let reported = false

  async function read(): Promise<void> {
    const sent = performance.now()
    const [row] = await db.query<{ ms: number }>(readStatement)
    const roundTrip = performance.now() - sent
    const ahead = setClock(row!.ms + roundTrip / 2)
    const wrong = Math.abs(ahead) > TOLERATED_MS + roundTrip
    if (wrong && !reported)
      logger.warn({ ahead_seconds: Math.round(ahead / 1000) }, 'the clocks of this machine and postgres differ')
    reported = wrong
  }

  await read()
  return repeatEvery(READ_EVERY_MS, read, error => {
    if (!isUnavailable(error)) logger.error({ err: error }, 'cannot read the clock of postgres')
  })
}

import pg from 'pg'
import type { Logger } from '#shared/logger.ts'

/** A statement with a name is prepared once per connection. */
export type Statement = { name: string; text: string }

export type Db = {
  /** @throws DatabaseUnavailable if Postgres could not be asked, else what it said */
  query<Row extends pg.QueryResultRow>(statement: Statement, values?: unknown[]): Promise<Row[]>
  /**
   * Runs statements one after the other, all or none. Each takes its own snapshot, so that what the first one locks the others
   * see as it is.
   * @param settings assignments for this transaction alone
   * @returns the rows of each
   */
  transaction<Rows extends pg.QueryResultRow[][]>(
    steps: readonly (readonly [statement: Statement, values?: unknown[]])[],
    settings?: readonly string[],
  ): Promise<Rows>
  /** Runs `work` while this process alone holds the advisory lock `key`; null: another one holds it. */
  withLock<T>(key: number, work: () => Promise<T>): Promise<T | null>
  stats(): { total: number; idle: number; waiting: number }
  close(): Promise<void>
}

/** Postgres could not be asked, as opposed to: said no. The same statement may succeed later. */
export class DatabaseUnavailable extends Error {
  readonly kind = 'database_unavailable'

  constructor(cause: unknown) {
    super(`postgres is away: ${(cause as Error | null)?.message ?? String(cause)}`, { cause })
  }
}

/**
 * SQLSTATE classes 08 (connection), 28 (not let in: a password being changed), 3D000 (the database is gone), 53 (resources),
 * 57P (shut down, starting up), 58 (system error), XX (internal error), 25006 (a read-only standby), 57014 (statement
 * time-out), 40 (rolled back too often), and whatever the driver threw without Postgres having spoken.
 */
function translate(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return new DatabaseUnavailable(error)
  return /^(08|28|3D000|40|53|57P|58|XX|25006|57014)/.test(error.code ?? '') ? new DatabaseUnavailable(error) : error
}

/** A deadlock, of which this statement was the victim: it has changed nothing, and will not meet it again. */
const wasRolledBack = (error: unknown) => error instanceof pg.DatabaseError && /^40/.test(error.code ?? '')
const MOST_ROLLBACKS = 5

/** For `coalesce`: a statement that Postgres refused may be one item's fault. */
export const itemsToBlame = (error: unknown): boolean => !(error instanceof DatabaseUnavailable)

export const isUnavailable = (error: unknown): error is DatabaseUnavailable => error instanceof DatabaseUnavailable

/** A row that was to be unique was there already. */
export const isDuplicate = (error: unknown): boolean => error instanceof pg.DatabaseError && error.code === '23505'

/**
 * Every statement in this folder is written for an index and touches few rows. Statistics that are a minute old, as they
 * are in a burst, make the planner prefer to read whole tables, and a plan made then is kept: so it is not asked.
 */
const PLANNER = `SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
  SET enable_hashjoin = off; SET enable_mergejoin = off`

export function openDb(options: {
  url: string
  max: number
  application: string
  logger: Logger
  /** How long a statement waits for a connection. */
  connectMs?: number
}): Db {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.max,
    application_name: options.application,
    connectionTimeoutMillis: options.connectMs ?? 3000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    // The pool waits for it before it hands out a new connection.
    onConnect: async client => void (await client.query(PLANNER)),
    // A server that accepts and never answers must not hold a request for ever.
    query_timeout: 30_000,
    statement_timeout: 25_000,
  })
  // An idle connection that breaks is the pool's own business; without a listener it would end the process.
  pool.on('error', error => options.logger.warn({ err: error }, 'idle postgres connection lost'))

  async function runSteps(steps: Parameters<Db['transaction']>[0], settings: readonly string[]) {
    const client = await pool.connect()
    // The pool listens to idle connections only: this one breaking between two queries would end the process.
    const onError = (error: Error) => options.logger.warn({ err: error }, 'postgres connection in a transaction lost')
    client.on('error', onError)
    let broken = false
    try {
      await client.query(['BEGIN', ...settings.map(one => `SET LOCAL ${one}`)].join('; '))
      const results: pg.QueryResultRow[][] = []
      for (const [statement, values = []] of steps) results.push((await client.query({ ...statement, values })).rows)
      await client.query('COMMIT')
      return results
    } catch (error) {
      broken = !(error instanceof pg.DatabaseError)
      if (!broken) await client.query('ROLLBACK').catch(() => (broken = true))
      throw error
    } finally {
      client.off('error', onError)
      client.release(broken)
    }
  }

  /** Begins anew after a deadlock, which has undone everything. */
  async function persistent<T>(work: () => Promise<T>): Promise<T> {
    for (let rollbacks = 0; ; rollbacks++) {
      try {
        return await work()
      } catch (error) {
        if (!wasRolledBack(error) || rollbacks === MOST_ROLLBACKS) throw translate(error)
      }
    }
  }

  return {
    async query<Row extends pg.QueryResultRow>(statement: Statement, values: unknown[] = []) {
      return await persistent(async () => (await pool.query<Row>({ ...statement, values })).rows)
    },
    async transaction<Rows extends pg.QueryResultRow[][]>(
      steps: Parameters<Db['transaction']>[0],
      settings: readonly string[] = [],
    ) {
      return (await persistent(() => runSteps(steps, settings))) as Rows
    },
    async withLock(key, work) {
      const client = await pool.connect().catch(error => {
        throw translate(error)
      })
      // The pool listens to idle connections only: this one breaking between two queries would end the process.
      const onError = (error: Error) => options.logger.warn({ err: error }, 'postgres connection with a lock lost')
      client.on('error', onError)
      let broken = true
      let beat: NodeJS.Timeout | undefined
      try {
        if (!(await ask(client, LOCK, key))) {
          broken = false
          return null
        }
        let beats = 0
        beat = setInterval(() => {
          if (++beats === MOST_LOCK_BEATS) clearInterval(beat)
          client.query('SELECT 1').catch(() => {})
        }, LOCK_BEAT_MS)
        const done = await work()
        // A connection that was lost meanwhile has given the lock back, and what was done is done.
        broken = !(await ask(client, UNLOCK, key).catch(() => false))
        return done
      } finally {
        clearInterval(beat)
        client.off('error', onError)
        // Closing the connection is what surely gives the lock back.
        client.release(broken)
      }
    },
    stats: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    close: () => pool.end(),
  }
}

/**
 * A holder that freezes, or whose machine loses its power, would hold the lock until TCP gives up, which takes hours:
 * Postgres ends a connection with a lock that has said nothing for so long. While the holder works over other connections it
 * says something now and then. Two at work must do no harm all the same.
 */
const LOCK_IDLE_TIMEOUT = '10s'
const LOCK_BEAT_MS = 3000
/** Work that hangs must not keep it for ever. */
const MOST_LOCK_BEATS = 20
const LOCK: Statement = {
  name: 'lock',
  text: `WITH lock AS MATERIALIZED (SELECT pg_try_advisory_lock($1) AS got)
    SELECT got, CASE WHEN got THEN set_config('idle_session_timeout', '${LOCK_IDLE_TIMEOUT}', false) END FROM lock`,
}
const UNLOCK: Statement = {
  name: 'unlock',
  text: `SELECT pg_advisory_unlock($1) AS got, set_config('idle_session_timeout', '0', false)`,
}

async function ask(client: pg.PoolClient, statement: Statement, key: number): Promise<boolean> {
  try {
    return (await client.query<{ got: boolean }>({ ...statement, values: [key] })).rows[0]?.got ?? false
  } catch (error) {
    throw translate(error)
  }
}

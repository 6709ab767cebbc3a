import pg from 'pg'
import { parseJson } from '#shared/json/lossless.ts'
import { LIVENESS } from '#shared/process/liveness.ts'
import type { Logger } from '#shared/process/logger.ts'
import { ConfigError } from '#shared/settings/config-error.ts'
import { LOCK_NAMESPACE } from './locks.ts'
import { detectPooling, type Pooling } from './pooling.ts'

/** A statement with a name is prepared once per connection. */
export type Statement = { name: string; text: string }

export type Db = {
  /** @throws DatabaseUnavailable, or the error that Postgres reported */
  query<Row extends pg.QueryResultRow>(statement: Statement, values?: unknown[]): Promise<Row[]>
  /**
   * Runs statements in one transaction. Each takes its own snapshot, so that the statements after a lock see the current rows.
   * @param settings assignments for this transaction only
   * @returns the rows of each statement
   */
  transaction<Rows extends pg.QueryResultRow[][]>(
    steps: readonly (readonly [statement: Statement, values?: unknown[]])[],
    settings?: readonly string[],
  ): Promise<Rows>
  /** Runs `work` while this process holds the lock `key`, one of `LOCKS`. @returns null: another process holds it */
  withLock<T>(key: number, work: () => Promise<T>): Promise<T | null>
  stats(): { total: number; idle: number; waiting: number }
  close(): Promise<void>
}

/** Postgres could not be reached, or could not run the statement now. The same statement may succeed later. */
export class DatabaseUnavailable extends Error {
  readonly kind = 'database_unavailable'

  constructor(cause: unknown) {
    super(`postgres is away: ${(cause as Error | null)?.message ?? String(cause)}`, { cause })
  }
}

/**
 * Unavailable are: SQLSTATE classes 08 (connection), 28 (authorization, while a password is being changed), 3D000 (no such
 * database), 53 (resources), 57P (shutdown, start-up), 58 (system error), XX (internal error), 25006 (read-only standby), 57014
 * (statement timeout), 40 (rolled back too often), and all errors of the driver itself.
 */
function translate(error: unknown): unknown {
  if (error instanceof ConfigError) return error
  if (!(error instanceof pg.DatabaseError)) return new DatabaseUnavailable(error)
  return /^(08|28|3D000|40|53|57P|58|XX|25006|57014)/.test(error.code ?? '') ? new DatabaseUnavailable(error) : error
}

/** A deadlock or serialization failure: the statement has changed nothing and may be repeated. */
const wasRolledBack = (error: unknown) => error instanceof pg.DatabaseError && /^40/.test(error.code ?? '')
const MAX_ROLLBACKS = 5

/** For `coalesce`: one item may have caused an error that Postgres reported. */
export const splitOnError = (error: unknown): boolean => !(error instanceof DatabaseUnavailable)

export const isUnavailable = (error: unknown): error is DatabaseUnavailable => error instanceof DatabaseUnavailable

/** A unique constraint was violated. */
export const isDuplicate = (error: unknown): boolean => error instanceof pg.DatabaseError && error.code === '23505'

/**
 * Every statement in this folder is written for an index and touches few rows. In a burst the statistics are a minute old, and the
 * planner prefers to read whole tables. Prepared statements would keep such a plan, so the planner gets no choice.
 */
const PLANNER = [
  'plan_cache_mode = force_generic_plan',
  'enable_seqscan = off',
  'enable_bitmapscan = off',
  'enable_hashjoin = off',
  'enable_mergejoin = off',
]
/** Set after connecting, because PgBouncer refuses connections with these startup parameters. */
const SETTINGS = [...PLANNER, 'statement_timeout = 25000']

/** Preserves the numbers in JSON of clients and models exactly. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) =>
    oid === pg.types.builtins.JSON ? parseJson : pg.types.getTypeParser(oid, format as 'text'),
}

export function openDb(options: {
  url: string
  max: number
  application: string
  logger: Logger
  /** Time a statement waits for a connection. */
  connectMs?: number
  /** Postgres takes a lock from a holder that has been silent for this time, milliseconds. */
  lockIdleMs?: number
}): Db {
  const connection = {
    connectionString: options.url,
    application_name: options.application,
    connectionTimeoutMillis: options.connectMs ?? 3000,
  }
  const { lockIdleMs = LIVENESS.lockIdleMs } = options
  let pooling: Pooling | null = null
  let detecting: Promise<Pooling> | null = null
  /** Runs once per process. */
  const detect = async (client: pg.ClientBase) => {
    pooling = await detectPooling(client, async () => {
      const second = new pg.Client(connection)
      second.on('error', () => {})
      await second.connect()
      return second
    })
    if (pooling === 'transaction')
      options.logger.info('DATABASE_URL: a pooler in transaction mode; statements are planned on each execution')
    return pooling
  }
  const pool = new pg.Pool({
    ...connection,
    max: options.max,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    types,
    // The pool waits for this before it hands out a new connection.
    onConnect: async client => {
      detecting ??= detect(client)
      const found = await detecting.catch(error => {
        detecting = null
        throw error
      })
      // Behind a pooler in transaction mode they would change the sessions of other clients.
      if (found === 'session') await client.query(SETTINGS.map(one => `SET ${one}`).join('; '))
    },
    // A server that accepts a query and never answers must not block a request forever.
    query_timeout: 30_000,
  })
  // The pool replaces a broken idle connection. Without this listener the error would end the process.
  pool.on('error', error => options.logger.warn({ err: error }, 'idle postgres connection lost'))

  /** Prepared only if the connection keeps it: behind a pooler the name may belong to another client's statement. */
  const asQuery = ({ name, text }: Statement, values: unknown[]) =>
    pooling === 'session' ? { name, text, values } : { text, values }

  async function runSteps(steps: Parameters<Db['transaction']>[0], settings: readonly string[]) {
    const client = await pool.connect()
    // The pool listens to idle connections only: this one breaking between two queries would end the process.
    const onError = (error: Error) => options.logger.warn({ err: error }, 'postgres connection in a transaction lost')
    client.on('error', onError)
    let broken = false
    try {
      const all = pooling === 'session' ? settings : [...SETTINGS, ...settings]
      await client.query(['BEGIN', ...all.map(one => `SET LOCAL ${one}`)].join('; '))
      const results: pg.QueryResultRow[][] = []
      for (const [statement, values = []] of steps) results.push((await client.query(asQuery(statement, values))).rows)
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

  /** Repeats `work` after a deadlock, which has undone everything. */
  async function persistent<T>(work: () => Promise<T>): Promise<T> {
    for (let rollbacks = 0; ; rollbacks++) {
      try {
        return await work()
      } catch (error) {
        if (!wasRolledBack(error) || rollbacks === MAX_ROLLBACKS) throw translate(error)
      }
    }
  }

  return {
    async query<Row extends pg.QueryResultRow>(statement: Statement, values: unknown[] = []) {
      return await persistent(async () => {
        // `pooling` is known after the first connection.
        if (pooling === null) (await pool.connect()).release()
        return (await pool.query<Row>(asQuery(statement, values))).rows
      })
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
        if (!(await tryLock(client, key, lockIdleMs))) {
          broken = !(await succeeds(client.query('ROLLBACK')))
          return null
        }
        let beats = 0
        beat = setInterval(() => {
          if (++beats === MAX_LOCK_BEATS) clearInterval(beat)
          client.query('SELECT 1').catch(() => {})
        }, lockIdleMs * LOCK_BEAT)
        const done = await work()
        // If the connection was lost meanwhile, the lock is released and the work is done all the same.
        broken = !(await succeeds(client.query('COMMIT')))
        return done
      } finally {
        clearInterval(beat)
        client.off('error', onError)
        // Closing the connection releases the lock for certain.
        client.release(broken)
      }
    },
    stats: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    close: () => pool.end(),
  }
}

/**
 * A holder that freezes, or whose machine loses its power, would hold the lock until TCP gives up, which takes hours:
 * Postgres ends a transaction that has been idle for so long. While the holder works over other connections it runs a
 * statement now and then, at this part of the time. Two at work must do no harm all the same.
 */
const LOCK_BEAT = 0.3
/** Work that hangs must not keep it for ever. */
const MAX_LOCK_BEATS = 20

/**
 * A lock of the transaction, which stays open while the holder works: behind a pooler of transactions a session's lock would
 * stay with a connection that others use. Between statements the transaction has no snapshot, so that it holds up no vacuum.
 */
async function tryLock(client: pg.PoolClient, key: number, idleMs: number): Promise<boolean> {
  try {
    const results = (await client.query(
      `BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${Math.round(idleMs)};
        SELECT pg_try_advisory_xact_lock(${LOCK_NAMESPACE}, ${BigInt(key)}) AS got`,
    )) as unknown as pg.QueryResult<{ got: boolean }>[]
    return results.at(-1)?.rows[0]?.got ?? false
  } catch (error) {
    throw translate(error)
  }
}

const succeeds = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  )

import pg from 'pg'
import type { Logger } from '#shared/logger.ts'

/** A statement with a name is prepared once per connection. */
export type Statement = { name: string; text: string }

export type Db = {
  query<Row extends pg.QueryResultRow>(statement: Statement, values?: unknown[]): Promise<Row[]>
  /** Runs `work` on one connection of its own, outside a transaction. */
  withClient<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T>
  stats(): { total: number; idle: number; waiting: number }
  close(): Promise<void>
}

export function openDb(options: { url: string; max: number; application: string; logger: Logger }): Db {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.max,
    application_name: options.application,
    connectionTimeoutMillis: 3000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    // A server that accepts and never answers must not hold a request for ever.
    query_timeout: 30_000,
    statement_timeout: 25_000,
  })
  // An idle connection that breaks is the pool's own business; without a listener it would end the process.
  pool.on('error', error => options.logger.warn({ err: error }, 'idle postgres connection lost'))

  return {
    async query<Row extends pg.QueryResultRow>(statement: Statement, values: unknown[] = []) {
      return (await pool.query<Row>({ ...statement, values })).rows
    },
    async withClient(work) {
      const client = await pool.connect()
      try {
        const value = await work(client)
        client.release()
        return value
      } catch (error) {
        client.release(isUnavailable(error))
        throw error
      }
    },
    stats: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    close: () => pool.end(),
  }
}

/**
 * Whether Postgres could not be asked, as opposed to: said no. SQLSTATE classes 08 (connection), 53 (resources),
 * 57P (shut down, starting up), 58 (system error), 25006 (a read-only standby), and everything without a SQLSTATE.
 */
export function isUnavailable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  if (typeof code !== 'string' || !/^[0-9A-Z]{5}$/.test(code)) return true
  return /^(08|53|57P|58)/.test(code) || code === '25006' || code === '57014'
}

/** For `coalesce`: a statement that Postgres refused may be one item's fault, or a deadlock that goes away when split. */
export const itemsToBlame = (error: unknown): boolean => !isUnavailable(error)

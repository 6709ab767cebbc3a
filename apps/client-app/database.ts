import type { FastifyBaseLogger } from 'fastify'
import pg from 'pg'

export type Database = ReturnType<typeof openDatabase>
type Row = Record<string, unknown>

/** Postgres could not be asked. */
export class StoreUnavailable extends Error {}

/** A pool of connections. @throws from every query: StoreUnavailable, or what Postgres said to a wrong one */
export function openDatabase({ url, name, log }: { url: string; name: string; log: FastifyBaseLogger }) {
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    application_name: name,
    connectionTimeoutMillis: 3000,
    query_timeout: 10_000,
    statement_timeout: 8000,
  })
  // An idle connection that breaks is the pool's own business; without a listener it would end the process.
  pool.on('error', error => log.warn({ err: error }, 'idle postgres connection lost'))

  async function query<R extends Row = Row>(text: string, values?: unknown[]): Promise<R[]> {
    try {
      return (await pool.query<R>(text, values)).rows
    } catch (error) {
      throw isRefusal(error) ? error : new StoreUnavailable((error as Error).message)
    }
  }

  return {
    query,
    ping: () => query('SELECT 1'),
    close: () => pool.end(),
  }
}

/** Postgres said no, as opposed to: was not there, was shutting down, or took too long. */
const isRefusal = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && !/^(08|28|3D|40|53|57|58)/.test(error.code ?? '')

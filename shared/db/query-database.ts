import pg from 'pg'
import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { Db } from './pool.ts'
import type { Cell, QueryOutcome, QueryRows, TableColumns } from './query-outcome.ts'
import { databaseIdentity, roleProblems } from './query-role.ts'

/** Queries of models must not run on this database. `message` completes the sentence `QUERY_DATABASE_URL …`. */
export class QueryDatabaseRefused extends Error {}

export type QueryDatabase = {
  /**
   * Runs one SELECT in a read-only transaction and rolls it back.
   * @param sql one statement, guarded; without a semicolon or comments
   * @param limits `columns`: the columns that the guard assumed; the query runs only if all of them exist
   * @returns `refused`: the query is at fault, or took too long
   */
  run(sql: string, limits: { rows: number; columns: TableColumns }): Promise<QueryOutcome>
  close(): Promise<void>
}

/** Connections, each with one query at a time. A query that waits longer fails. */
const CONCURRENCY = { atOnce: 4, waiting: 1000, waitMs: 60_000 }
const CONNECT_MS = 5000
/** Time beyond the timeout of a query after which its connection is closed. */
const GRACE_MS = 5000
const MAX_COLUMNS = 100
/** Characters of one value; bytes of all rows together, as JSON. */
const MAX_CELL = 20_000
const MAX_BYTES = 262_144
/** Rows fetched before their bytes are counted. */
const FETCH = 20

/**
 * Opens the database for queries of models. Every new connection is checked.
 * @param options `own`: Sluice's own database, which is not allowed
 * @throws QueryDatabaseRefused if it is Sluice's own database or the role is a superuser. A database that cannot be reached is only
 * logged
 */
export async function openQueryDatabase(options: {
  url: string
  own: Db
  timeoutMs: number
  logger: Logger
}): Promise<QueryDatabase> {
  const { timeoutMs, logger } = options
  const semaphore = createSemaphore(CONCURRENCY)
  const own = await options.own.query<{ identity: string }>(databaseIdentity)
  let warned = false

  async function assertFit(client: pg.ClientBase): Promise<void> {
    const [identity] = (await client.query<{ identity: string }>(databaseIdentity.text)).rows
    if (identity?.identity === own[0]?.identity) throw new QueryDatabaseRefused('is Sluice’s own database')
    const [role] = (await client.query<{ refused: string | null; writes: string | null }>(roleProblems)).rows
    if (role?.refused) throw new QueryDatabaseRefused(role.refused)
    if (role?.writes && !warned) {
      warned = true
      logger.warn(
        { may: role.writes },
        'QUERY_DATABASE_URL: its role may do more than read; queries run read-only, but take it from the role, too',
      )
    }
  }

  const pool = new pg.Pool({
    connectionString: options.url,
    max: CONCURRENCY.atOnce,
    application_name: 'sluice-query',
    connectionTimeoutMillis: CONNECT_MS,
    idleTimeoutMillis: 60_000,
    query_timeout: timeoutMs + GRACE_MS,
    // Privileges change. The pool hands out no connection for which this throws.
    onConnect: assertFit,
  })
  pool.on('error', error => logger.warn({ err: error }, 'idle connection of QUERY_DATABASE_URL lost'))

  async function run(sql: string, limits: { rows: number; columns: TableColumns }): Promise<QueryOutcome> {
    const client = await pool.connect()
    const onError = (error: Error) => logger.warn({ err: error }, 'connection of QUERY_DATABASE_URL lost')
    client.on('error', onError)
    let broken = true
    try {
      const found = await read(client, sql, { ...limits, timeoutMs })
      broken = false
      return found
    } catch (error) {
      // Any other error closes the connection, which ends the transaction.
      if (error instanceof pg.DatabaseError)
        broken = await client.query('ROLLBACK').then(
          () => false,
          () => true,
        )
      throw error
    } finally {
      client.off('error', onError)
      client.release(broken)
    }
  }

  try {
    ;(await pool.connect()).release()
  } catch (error) {
    if (error instanceof QueryDatabaseRefused) {
      await pool.end()
      throw error
    }
    logger.warn({ err: error }, 'QUERY_DATABASE_URL cannot be reached: queries fail until it can')
  }

  return {
    async run(sql, limits) {
      try {
        const outcome = await semaphore(() => run(sql, limits))
        return outcome ?? { kind: 'unavailable', reason: 'too many queries are waiting for their turn' }
      } catch (error) {
        const outcome = outcomeOf(error, timeoutMs)
        if (outcome.kind === 'unavailable') logger.warn({ err: error }, 'a query could not be run')
        return outcome
      }
    },
    close: () => pool.end(),
  }
}

/** Every value is read as text and cut on the server, because its length is unknown. */
async function read(
  client: pg.ClientBase,
  sql: string,
  { rows: most, columns: listed, timeoutMs }: { rows: number; columns: TableColumns; timeoutMs: number },
): Promise<QueryOutcome> {
  const deadline = performance.now() + timeoutMs
  // The extended protocol accepts only one statement.
  const ask = (text: string, values: unknown[] = []) =>
    client.query({ text, values, rowMode: 'array', queryMode: 'extended', types: AS_TEXT } as pg.QueryArrayConfig)
  const inTime = async (text: string, values?: unknown[]) => {
    await client.query(`SET LOCAL statement_timeout = ${Math.max(1, Math.round(deadline - performance.now()))}`)
    return await ask(text, values)
  }

  await client.query(`BEGIN READ ONLY; SET LOCAL lock_timeout = ${Math.ceil(timeoutMs / 2)};
    SET LOCAL idle_in_transaction_session_timeout = ${timeoutMs + GRACE_MS};
    SET LOCAL standard_conforming_strings = on; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL max_parallel_workers_per_gather = 0`)
  const { fields } = await inTime(`SELECT * FROM (${sql}\n) AS q LIMIT 0`)
  if (fields.length === 0) return await over({ kind: 'refused', reason: 'it has no columns' })
  if (fields.length > MAX_COLUMNS)
    return await over({ kind: 'refused', reason: `it has more than ${MAX_COLUMNS} columns` })
  // After the query above, which has locked its tables against changes.
  const missing = await inTime(MISSING, columnValues(listed))
  if (missing.rows.length > 0) {
    const reason = `the database of QUERY_DATABASE_URL has no column ${missing.rows.flat().join(', ')}`
    return await over({ kind: 'mismatch', reason })
  }
  const types = await ask(
    `SELECT pg_catalog.format_type(t.oid, t.typmod)
      FROM unnest($1::pg_catalog.oid[], $2::pg_catalog.int4[]) WITH ORDINALITY AS t(oid, typmod, n) ORDER BY t.n`,
    [fields.map(one => one.dataTypeID), fields.map(one => one.dataTypeModifier)],
  )
  const columns = fields.map((one, i) => ({ name: one.name, type: types.rows[i]?.[0] as string }))

  const names = fields.map((_, i) => `c${i}`)
  const cut = names.map(name => `pg_catalog.left(${name}::pg_catalog.text, ${MAX_CELL + 1})`)
  await inTime(`DECLARE found NO SCROLL CURSOR FOR SELECT ${cut.join(', ')} FROM (${sql}\n) AS q(${names.join(', ')})`)
  const found: QueryRows = { columns, rows: [], truncated: false }
  for (let bytes = 0; ; ) {
    const { rows } = (await inTime(`FETCH ${FETCH} FROM found`)) as { rows: (string | null)[][] }
    for (const texts of rows) {
      const row = texts.map((text, i) => cellOf(text, fields[i]!.dataTypeID, found))
      bytes += Buffer.byteLength(JSON.stringify(row))
      if (found.rows.length === most || bytes > MAX_BYTES)
        return await over({ kind: 'rows', ...found, truncated: true })
      found.rows.push(row)
    }
    if (rows.length < FETCH) return await over({ kind: 'rows', ...found })
  }

  async function over(outcome: QueryOutcome): Promise<QueryOutcome> {
    await client.query('ROLLBACK')
    return outcome
  }
}

/**
 * Selects listed columns that do not exist. Postgres could resolve such a name to something else: a hidden column of another table,
 * or a whole row.
 */
const MISSING = `SELECT w.said
  FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[], $3::pg_catalog.text[]) WITH ORDINALITY AS w(said, relation, name, n)
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass(w.relation) AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped)
  ORDER BY w.n LIMIT 5`

/** The parameters of MISSING: name for messages, quoted table and column name of each column. */
function columnValues(listed: TableColumns): string[][] {
  const columns = Object.entries(listed).flatMap(([table, names]) => names.map(name => ({ table, name })))
  const quoted = (table: string) => table.split('.').map(pg.escapeIdentifier).join('.')
  return [
    columns.map(({ table, name }) => `${table}.${name}`),
    columns.map(({ table }) => quoted(table)),
    columns.map(({ name }) => name),
  ]
}

const AS_TEXT = { getTypeParser: () => (text: string) => text }

const { BOOL, INT2, INT4, INT8, OID, FLOAT4, FLOAT8 } = pg.types.builtins
const NUMBERS: ReadonlySet<number> = new Set([INT2, INT4, INT8, OID, FLOAT4, FLOAT8])

function cellOf(text: string | null, type: number, found: QueryRows): Cell {
  if (text === null) return null
  if (type === BOOL) return text === 'true'
  if (NUMBERS.has(type)) {
    const value = Number(text)
    const exact = type === FLOAT4 || type === FLOAT8 ? Number.isFinite(value) : Number.isSafeInteger(value)
    return exact ? value : text
  }
  if (text.length <= MAX_CELL) return text
  found.truncated = true
  return text.slice(0, MAX_CELL).toWellFormed()
}

/** SQLSTATEs without fault of the query: connection, authorization, rollback, resources, locks, shutdown, internal errors. */
const SERVER_FAULT = /^(08|28|3D|40|53[0-3]|55P03|57P|58|XX)/

function outcomeOf(error: unknown, timeoutMs: number): QueryOutcome {
  if (error instanceof QueryDatabaseRefused)
    return { kind: 'unavailable', reason: `the database of QUERY_DATABASE_URL ${error.message}` }
  if (!(error instanceof pg.DatabaseError) || SERVER_FAULT.test(error.code ?? ''))
    return { kind: 'unavailable', reason: 'the database of QUERY_DATABASE_URL cannot be reached, or is too busy' }
  if (error.code === '57014')
    return { kind: 'refused', reason: `it took longer than ${timeoutMs / 1000} seconds and was stopped` }
  // Messages of class 42 (names, types, syntax, privileges) describe the query. Others may quote data.
  const message = error.code?.startsWith('42') ? error.message : error.message.split(/[:"]/)[0]!
  return { kind: 'refused', reason: `${message.trim().slice(0, 300).toWellFormed()} (SQLSTATE ${error.code})` }
}

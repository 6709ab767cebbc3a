import pg from 'pg'
import type { Cell, QueryOutcome, QueryRows } from '#shared/jobs/define.ts'
import { createLanes } from '#shared/lanes.ts'
import type { Logger } from '#shared/logger.ts'
import type { Tables } from '#shared/sql-guard/scope.ts'
import type { Db } from './pool.ts'
import { identityOf, wrongRole } from './query-role.ts'

/** The URL leads somewhere where no query of a model's may run. `message` says why. */
export class QueryDatabaseRefused extends Error {}

export type QueryDatabase = {
  /**
   * Runs one SELECT, in a transaction that can write nothing, and undoes it.
   * @param sql one statement, guarded; without a semicolon or comments
   * @param limits `columns`: what the guard was told of the tables that it reads; it is not run unless all are there
   * @returns `refused`: by its own fault, or it took too long
   */
  run(sql: string, limits: { rows: number; columns: Tables }): Promise<QueryOutcome>
  close(): Promise<void>
}

/** Connections, each with one query at a time. Whoever waits longer for his turn is told that it cannot be run. */
const TURNS = { atOnce: 4, waiting: 1000, waitMs: 60_000 }
const CONNECT_MS = 5000
/** Of a query, beyond its time-out, until a server that says nothing is given up. */
const SILENCE_MS = 5000
const MOST_COLUMNS = 100
/** Characters of one value; bytes of all rows together, as JSON. */
const MOST_CELL = 20_000
const MOST_BYTES = 262_144
/** Rows that are in memory before the bytes are counted. */
const FETCH = 20

/**
 * Opens the database that queries of models run on.
 * @param options `own`: Sluice's own database, which it must not be
 * @throws QueryDatabaseRefused if it is, or the role is a superuser. If it cannot be reached now that is logged, and each
 * connection is looked at when it is made.
 */
export async function openQueryDatabase(options: {
  url: string
  own: Db
  timeoutMs: number
  logger: Logger
}): Promise<QueryDatabase> {
  const { timeoutMs, logger } = options
  const lanes = createLanes(TURNS)
  const own = await options.own.query<{ identity: string }>(identityOf)
  let warned = false

  async function assertFit(client: pg.ClientBase): Promise<void> {
    const [identity] = (await client.query<{ identity: string }>(identityOf.text)).rows
    if (identity?.identity === own[0]?.identity) throw new QueryDatabaseRefused('is Sluice’s own database')
    const [role] = (await client.query<{ refused: string | null; writes: string | null }>(wrongRole)).rows
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
    max: TURNS.atOnce,
    application_name: 'sluice-query',
    connectionTimeoutMillis: CONNECT_MS,
    idleTimeoutMillis: 60_000,
    query_timeout: timeoutMs + SILENCE_MS,
    // What a role may do changes. The pool hands out no connection for which this throws.
    onConnect: assertFit,
  })
  pool.on('error', error => logger.warn({ err: error }, 'idle connection of QUERY_DATABASE_URL lost'))

  async function run(sql: string, limits: { rows: number; columns: Tables }): Promise<QueryOutcome> {
    const client = await pool.connect()
    const onError = (error: Error) => logger.warn({ err: error }, 'connection of QUERY_DATABASE_URL lost')
    client.on('error', onError)
    let broken = true
    try {
      const found = await read(client, sql, { ...limits, timeoutMs })
      broken = false
      return found
    } catch (error) {
      // Whatever else it was, its transaction is over with its connection.
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
        const outcome = await lanes(() => run(sql, limits))
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

/** Every value comes as text, cut on the server: nobody knows how long one is. */
async function read(
  client: pg.ClientBase,
  sql: string,
  { rows: most, columns: listed, timeoutMs }: { rows: number; columns: Tables; timeoutMs: number },
): Promise<QueryOutcome> {
  const deadline = performance.now() + timeoutMs
  // The extended protocol takes one statement, whatever the text holds.
  const ask = (text: string, values: unknown[] = []) =>
    client.query({ text, values, rowMode: 'array', queryMode: 'extended', types: AS_TEXT } as pg.QueryArrayConfig)
  const inTime = async (text: string, values?: unknown[]) => {
    await client.query(`SET LOCAL statement_timeout = ${Math.max(1, Math.round(deadline - performance.now()))}`)
    return await ask(text, values)
  }

  await client.query(`BEGIN READ ONLY; SET LOCAL lock_timeout = ${Math.ceil(timeoutMs / 2)};
    SET LOCAL idle_in_transaction_session_timeout = ${timeoutMs + SILENCE_MS};
    SET LOCAL standard_conforming_strings = on; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL max_parallel_workers_per_gather = 0`)
  const { fields } = await inTime(`SELECT * FROM (${sql}\n) AS q LIMIT 0`)
  if (fields.length === 0) return await over({ kind: 'refused', reason: 'it has no columns' })
  if (fields.length > MOST_COLUMNS)
    return await over({ kind: 'refused', reason: `it has more than ${MOST_COLUMNS} columns` })
  // Not earlier: now the query has locked its tables, and they stay as they are.
  const missing = await inTime(MISSING, wanted(listed))
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
  const cut = names.map(name => `pg_catalog.left(${name}::pg_catalog.text, ${MOST_CELL + 1})`)
  await inTime(`DECLARE found NO SCROLL CURSOR FOR SELECT ${cut.join(', ')} FROM (${sql}\n) AS q(${names.join(', ')})`)
  const found: QueryRows = { columns, rows: [], truncated: false }
  for (let bytes = 0; ; ) {
    const { rows } = (await inTime(`FETCH ${FETCH} FROM found`)) as { rows: (string | null)[][] }
    for (const texts of rows) {
      const row = texts.map((text, i) => cellOf(text, fields[i]!.dataTypeID, found))
      bytes += Buffer.byteLength(JSON.stringify(row))
      if (found.rows.length === most || bytes > MOST_BYTES)
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
 * Of listed columns, some that are not there. Postgres would take the name of such a one for something else: a hidden
 * column of another table, or the whole row.
 */
const MISSING = `SELECT w.said
  FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[], $3::pg_catalog.text[]) WITH ORDINALITY AS w(said, relation, name, n)
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass(w.relation) AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped)
  ORDER BY w.n LIMIT 5`

/** What MISSING is asked with: how each column is named in a message, its table as SQL has it, its name. */
function wanted(listed: Tables): string[][] {
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
  if (text.length <= MOST_CELL) return text
  found.truncated = true
  return text.slice(0, MOST_CELL).toWellFormed()
}

/** SQLSTATEs that say nothing of the query: connection, not let in, rolled back, resources, locks, shutting down, inside. */
const NOT_ITS_FAULT = /^(08|28|3D|40|53[0-3]|55P03|57P|58|XX)/

function outcomeOf(error: unknown, timeoutMs: number): QueryOutcome {
  if (error instanceof QueryDatabaseRefused)
    return { kind: 'unavailable', reason: `the database of QUERY_DATABASE_URL ${error.message}` }
  if (!(error instanceof pg.DatabaseError) || NOT_ITS_FAULT.test(error.code ?? ''))
    return { kind: 'unavailable', reason: 'the database of QUERY_DATABASE_URL cannot be reached, or is too busy' }
  if (error.code === '57014')
    return { kind: 'refused', reason: `it took longer than ${timeoutMs / 1000} seconds and was stopped` }
  // Of class 42 (names, types, grammar, privileges) Postgres speaks of the query; else it may quote what stands in the tables.
  const message = error.code?.startsWith('42') ? error.message : error.message.split(/[:"]/)[0]!
  return { kind: 'refused', reason: `${message.trim().slice(0, 300).toWellFormed()} (SQLSTATE ${error.code})` }
}

import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { query } from '#shared/jobs/query.ts'
import { createLogger } from '#shared/process/logger.ts'
import { guardSql } from '#shared/sql-guard/guard.ts'
import { createTestDatabase, type TestDatabase } from '#shared/testing/database.ts'
import { ask, connect } from '#shared/testing/postgres.ts'
import type { Db } from './pool.ts'
import { openQueryDatabase, type QueryDatabase } from './query-database.ts'

/** Queries that get past the guard in this test. */

const logger = createLogger({ level: 'silent', name: 'test' })
/** Queries with the column names that the guard assumes. */
const LEGITIMATE_NAMES = [
  `SELECT q.coalesce, q."case", q.total, q.max, q.int4, q."nullif", q.greatest, q.current_date, q."exists", q."array", q."row", q.text
    FROM (SELECT coalesce(note, customer), CASE WHEN id > 1 THEN 1 END, total::int, max(id) OVER (), 1::int, nullif(1, 2), greatest(1, 2),
      current_date, EXISTS (SELECT 1), ARRAY[1], ROW(1, 2), 'a'::text FROM orders) q`,
  'SELECT q.id, q.array FROM (SELECT (SELECT max(o.id) AS id FROM orders o), ARRAY(SELECT 1)) q',
  'SELECT q.id FROM (SELECT CASE WHEN true THEN 1 ELSE id END FROM orders) q',
  'SELECT q.array_agg FROM (SELECT (array_agg(id))[1] FROM orders) q',
  'SELECT g.g, h.n FROM generate_series(1, 2) g, generate_series(1, 2) AS h(n)',
  'SELECT t.x, t.n FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS t(x, n)',
  `SELECT e.value, f.v FROM jsonb_array_elements('[1]') e, json_array_elements_text('[1]') AS f(v)`,
  `SELECT e.key, e.value, f.k, f.value FROM jsonb_each('{"a":1}') e, json_each_text('{"a":1}') AS f(k)`,
  `SELECT k.k, r.r, s.s, m.m, i.i, i.ordinality FROM jsonb_object_keys('{"a":1}') k, regexp_split_to_table('a b', ' ') r, string_to_table('a,b', ',') s,
    regexp_matches('a', 'a') m, generate_subscripts(ARRAY[1], 1) WITH ORDINALITY i`,
  'SELECT generate_series.generate_series FROM generate_series(1, 2)',
  `SELECT d.d::date FROM generate_series(date_trunc('month', now()) - INTERVAL '2 months', now(), INTERVAL '1 month') d`,
  `SELECT format('%-5s|%s', customer, id), lpad(id::text, 5, '0'), repeat('*', 3), date(at), unnest(ARRAY[1, 2]) FROM public.orders`,
]
let own: TestDatabase
let other: TestDatabase
let ownDb: Db
let admin: Db
const roles: string[] = []

beforeAll(async () => {
  ;[own, other] = await Promise.all([createTestDatabase(), createTestDatabase()])
  ownDb = connect(own.url, 1)
  admin = connect(other.url, 2)
  await ask(
    admin,
    `CREATE TABLE orders (id int PRIMARY KEY, customer text, total numeric(10,2), at timestamptz, note text)`,
  )
  await ask(
    admin,
    `INSERT INTO orders SELECT n, 'c' || n % 3, n * 1.5, '2026-01-01Z', NULL FROM generate_series(1, 100) n`,
  )
  await ask(admin, 'CREATE TABLE private (secret text)')
  await ask(admin, 'CREATE SEQUENCE counter')
  await ask(admin, 'CREATE SCHEMA sales')
  await ask(admin, 'CREATE TABLE sales."Users" (id int, gone text, email text)')
  await ask(admin, 'ALTER TABLE sales."Users" DROP COLUMN gone')
  await ask(admin, `INSERT INTO sales."Users" VALUES (1, 'hidden')`)
  await ask(admin, `CREATE FUNCTION everything(sales."Users") RETURNS text LANGUAGE sql AS 'SELECT $1::text'`)
})
afterAll(async () => {
  await ask(admin, `DROP OWNED BY ${roles.join(', ')}`)
  await ask(admin, `DROP ROLE ${roles.join(', ')}`)
  await Promise.all([ownDb.close(), admin.close()])
  await Promise.all([own.drop(), other.drop()])
})

async function role(more = '', grants: string[] = ['SELECT ON orders']): Promise<string> {
  const name = `reader_${randomUUID().replaceAll('-', '')}`
  roles.push(name)
  await ask(admin, `CREATE ROLE ${name} LOGIN PASSWORD 'secret' ${more}`)
  for (const grant of grants) await ask(admin, `GRANT ${grant} TO ${name}`)
  const url = new URL(other.url)
  url.username = name
  url.password = 'secret'
  return url.href
}
async function open(url: string, timeoutMs = 10_000, log = logger): Promise<QueryDatabase> {
  const database = await openQueryDatabase({ url, own: ownDb, timeoutMs, logger: log })
  onTestFinished(() => database.close())
  return database
}
const run = async (
  sql: string,
  { rows = 100, timeoutMs = 10_000, grants }: { rows?: number; timeoutMs?: number; grants?: string[] } = {},
) => (await open(await role('', grants), timeoutMs)).run(sql, { rows, columns: {} })

describe('a query', () => {
  it('returns its rows in order, with the names and types of its columns', async () => {
    const found = await run(
      `SELECT id, total, customer AS "The Customer", at AS id, note, id > 1 AS late, count(*) OVER () AS n, 0.5::float8 AS half, 'NaN'::float8 AS none, 9007199254740993 AS large
        FROM orders ORDER BY orders.id DESC LIMIT 2`,
    )
    expect(found).toEqual({
      kind: 'rows',
      columns: [
        { name: 'id', type: 'integer' },
        { name: 'total', type: 'numeric(10,2)' },
        { name: 'The Customer', type: 'text' },
        { name: 'id', type: 'timestamp with time zone' },
        { name: 'note', type: 'text' },
        { name: 'late', type: 'boolean' },
        { name: 'n', type: 'bigint' },
        { name: 'half', type: 'double precision' },
        { name: 'none', type: 'double precision' },
        { name: 'large', type: 'bigint' },
      ],
      rows: [
        [100, '150.00', 'c1', expect.stringMatching(/^202[56]-/), null, true, 100, 0.5, 'NaN', '9007199254740993'],
        [99, '148.50', 'c0', expect.any(String), null, true, 100, 0.5, 'NaN', '9007199254740993'],
      ],
      truncated: false,
    })
    expect(await run('SELECT id FROM orders WHERE id < 0')).toMatchObject({ rows: [], truncated: false })
  })

  it('returns at most the requested rows, and reports that there are more', async () => {
    expect(await run('SELECT id FROM orders ORDER BY id LIMIT 43', { rows: 42 })).toMatchObject({
      rows: { length: 42 },
      truncated: true,
    })
    expect(await run('SELECT id FROM orders ORDER BY id LIMIT 42', { rows: 42 })).toMatchObject({ truncated: false })
  })

  it('returns at most 256 KiB, and no value longer than 20,000 characters', async () => {
    const many = await run(`SELECT repeat('x', 10000) FROM orders`, { rows: 1000 })
    expect(many).toMatchObject({ kind: 'rows', truncated: true })
    expect(JSON.stringify(many).length).toBeLessThan(270_000)
    const large = await run(`SELECT repeat('\u{1F600}', 100000) AS a, 1 AS b`)
    expect(large).toMatchObject({ rows: [['\u{1F600}'.repeat(10_000), 1]], truncated: true })
    expect(await run('SELECT')).toMatchObject({ kind: 'refused', reason: 'it has no columns' })
    const wide = Array.from({ length: 101 }, (_, n) => n).join(', ')
    expect(await run(`SELECT ${wide}`)).toMatchObject({ kind: 'refused' })
  })

  it('is stopped at its timeout, whatever it does', async () => {
    const endless = 'SELECT count(*) FROM generate_series(1, 100000000000) a'
    expect(await run(endless, { timeoutMs: 100 })).toEqual({
      kind: 'refused',
      reason: 'it took longer than 0.1 seconds and was stopped',
    })
    // Each row is fast enough, but all of them together are not.
    const slow = 'SELECT id, pg_sleep(0.02) IS NULL AS slept FROM orders'
    expect(await run(slow, { timeoutMs: 300 })).toMatchObject({ kind: 'refused' })
    const running = await ask(
      admin,
      `SELECT FROM pg_stat_activity WHERE application_name = 'sluice-query' AND state = 'active' AND datname = current_database()`,
    )
    expect(running).toEqual([])
  })

  it.each([
    ['INSERT', `WITH w AS (INSERT INTO orders (id) VALUES (1000) RETURNING id) SELECT * FROM w`],
    ['nextval', `SELECT nextval('counter')`],
    ['a second statement', `SELECT 1) AS q; COMMIT; DELETE FROM orders; SELECT * FROM (SELECT 1`],
    ['leaving read-only', `SELECT set_config('transaction_read_only', 'off', true)`],
    ['a large object', 'SELECT lo_create(0)'],
    ['a lock', 'SELECT id FROM orders FOR UPDATE'],
  ])('cannot write, even as a role that may: %s', async (_, sql) => {
    const count = () => ask(admin, `SELECT count(*)::int AS n, (SELECT last_value::int FROM counter) AS v FROM orders`)
    const before = await count()
    const found = await run(sql, { grants: ['ALL ON orders', 'ALL ON SEQUENCE counter'] })
    expect(found).toMatchObject({ kind: 'refused', reason: expect.stringMatching(/SQLSTATE/) })
    expect(await count()).toEqual(before)
  })

  describe('written by a model', () => {
    const GRANTS = ['SELECT ON orders', 'USAGE ON SCHEMA sales', 'SELECT ON sales."Users"']
    /** Checks an answer against a schema with these columns. */
    const checked = async (sql: string, schema: Record<string, string[]>) => {
      const tables = Object.entries(schema).map(([name, columns]) => ({
        name,
        columns: columns.map(name => ({ name })),
      }))
      const input = { question: 'What is there?', schema: { tables }, dialect: 'postgres', execute: true }
      const database = await open(await role('', GRANTS))
      const text = JSON.stringify({ sql, explanation: 'All.' })
      return await query.check(text, input, 'a-model', { runQuery: database.run })
    }

    it('runs if all columns of its tables exist, whatever their names', async () => {
      const schema = { orders: ['id', 'customer', 'at'], 'sales.Users': ['id'], others: ['id'] }
      const sql = 'SELECT o.id, u.id FROM orders o JOIN sales."Users" u ON u.id = o.id'
      expect(await checked(sql, schema)).toMatchObject({ ok: true, result: { rows: [[1, 1]] } })
    })

    it.each([
      [
        'a function of the row',
        'SELECT u.everything FROM sales."Users" u',
        { 'sales.Users': ['id', 'everything'] },
        'sales.Users.everything',
      ],
      [
        'a hidden column of an outer query',
        'SELECT (SELECT email FROM orders LIMIT 1) FROM sales."Users"',
        { 'sales.Users': ['id'], orders: ['id', 'email'] },
        'orders.email',
      ],
      [
        'a hidden column of another table',
        'SELECT email FROM orders, sales."Users" u',
        { orders: ['email', 'id', 'nothing'], 'sales.Users': ['id'] },
        'orders.email, orders.nothing',
      ],
      ['a dropped column', 'SELECT u.id FROM sales."Users" u', { 'sales.Users': ['id', 'gone'] }, 'sales.Users.gone'],
      ['a system column', 'SELECT o.id FROM orders o', { orders: ['id', 'xmin'] }, 'orders.xmin'],
    ])('does not run if one of them is %s', async (_, sql, schema, missing) => {
      const reason = `the database of QUERY_DATABASE_URL has no column ${missing}`
      const found = await checked(sql, schema as unknown as Record<string, string[]>)
      expect(found).toEqual({ ok: false, reason, fatal: 'query_schema_mismatch' })
    })
  })

  it('cannot call a function of the row by a column name if no columns are listed', async () => {
    await ask(admin, `CREATE FUNCTION fn(orders) RETURNS text LANGUAGE sql AS 'SELECT nextval(''counter'')::text'`)
    const database = await open(await role('', ['SELECT ON orders', 'USAGE ON SEQUENCE counter']))
    const guardedRun = async (sql: string) => {
      const guarded = await guardSql(sql, { tables: { orders: [] }, maxRows: 10 })
      return guarded.ok ? await database.run(guarded.sql, { rows: 10, columns: guarded.columns }) : guarded
    }
    for (const sql of [
      'SELECT o.fn FROM orders o',
      'SELECT orders.fn FROM public.orders',
      'SELECT o.id FROM orders o WHERE o.fn IS NULL',
      'SELECT o.id FROM orders o ORDER BY o.fn',
      'SELECT a.fn FROM orders a JOIN orders b ON a.id = b.id',
      'WITH q AS (SELECT * FROM orders) SELECT q.fn FROM q',
      'SELECT (SELECT o.fn) FROM orders o',
    ]) {
      expect([sql, await guardedRun(sql)]).toMatchObject([
        sql,
        { kind: 'mismatch', reason: expect.stringContaining('fn') },
      ])
    }
    for (const sql of ['SELECT (o).fn FROM orders o', 'SELECT j.fn FROM (orders a CROSS JOIN orders b) AS j'])
      expect(await guardedRun(sql)).toMatchObject({ ok: false })
    // Postgres does not resolve the bare name to a function.
    expect(await guardedRun('SELECT fn FROM orders')).toMatchObject({ kind: 'refused' })
    expect(await ask(admin, 'SELECT is_called FROM counter')).toEqual([{ is_called: false }])
    expect(await guardedRun('SELECT o.id, o.total FROM public.orders o ORDER BY o.id LIMIT 1')).toMatchObject({
      kind: 'rows',
      rows: [[1, '1.50']],
    })
  })

  it('has the column names that the guard assumes for subqueries and functions in FROM', async () => {
    const tables = { orders: ['id', 'customer', 'total', 'at', 'note'] }
    for (const sql of LEGITIMATE_NAMES) {
      const guarded = await guardSql(sql, { tables, maxRows: 10 })
      if (!guarded.ok) throw new Error(`${guarded.reason} ${sql}`)
      const found = await run(guarded.sql)
      expect([sql, found]).toMatchObject([sql, { kind: 'rows' }])
    }
  })

  it('cannot return a whole row by the name of a missing column', async () => {
    const database = await open(await role())
    const columns = { orders: ['id', 'orders'] }
    expect(await database.run('SELECT orders FROM orders LIMIT 1', { rows: 1, columns })).toEqual({
      kind: 'mismatch',
      reason: 'the database of QUERY_DATABASE_URL has no column orders.orders',
    })
    // The connection is not left in the transaction.
    expect(await database.run('SELECT id FROM orders LIMIT 1', { rows: 1, columns: { orders: ['id'] } })).toMatchObject(
      { kind: 'rows' },
    )
  })

  it.each([
    ['SELECT nothing FROM orders', 'column "nothing" does not exist (SQLSTATE 42703)'],
    ['SELECT secret FROM private', 'permission denied for table private (SQLSTATE 42501)'],
    ['SELECT FROM FROM orders', 'syntax error at or near "FROM" (SQLSTATE 42601)'],
    ['SELECT 1 / (id - 1) FROM orders', 'division by zero (SQLSTATE 22012)'],
    // Data of a table must not reach the model.
    ['SELECT customer::int FROM orders', 'invalid input syntax for type integer (SQLSTATE 22P02)'],
  ])('is refused with the error of Postgres: %s', async (sql, reason) => {
    expect(await run(sql)).toEqual({ kind: 'refused', reason })
  })

  it('leaves its connection usable after every outcome', async () => {
    const database = await open(await role())
    for (const sql of ['SELECT nothing', 'SELECT 1 AS one', `SELECT * FROM orders`, 'SELECT 1 AS one'])
      await database.run(sql, { rows: 3, columns: {} })
    expect(await database.run('SELECT 1 AS one', { rows: 3, columns: {} })).toMatchObject({
      rows: [[1]],
      truncated: false,
    })
    const together = await Promise.all(
      Array.from({ length: 20 }, () => database.run('SELECT 1 AS one', { rows: 1, columns: {} })),
    )
    expect(together.every(one => one.kind === 'rows')).toBe(true)
  })
})

describe('a query database', () => {
  it('is refused if it is Sluice’s own database, through any address', async () => {
    const url = new URL(await role())
    url.pathname = new URL(own.url).pathname
    await expect(open(url.href)).rejects.toThrow('is Sluice’s own database')
  })

  it.each([
    ['a superuser', 'SUPERUSER', 'superuser'],
    ['one who can become a superuser', 'IN ROLE postgres', 'superuser'],
    ['one who reads files', 'IN ROLE pg_read_server_files', 'files'],
    ['one who runs programs', 'NOINHERIT IN ROLE pg_execute_server_program', 'programs'],
  ])('is refused to %s', async (_, more, why) => {
    const [boss] = await ask<{ name: string }>(admin, 'SELECT current_user AS name')
    await expect(open(await role(more.replace('postgres', boss!.name)))).rejects.toThrow(why)
  })

  it('logs a warning only if the role can do more than read', async () => {
    const warnings: { may: string }[] = []
    const log = { ...logger, warn: (more: { may: string }) => void warnings.push(more) } as unknown as typeof logger
    await open(await role(), 10_000, log)
    expect(warnings).toEqual([])
    await open(await role('CREATEDB', ['SELECT, UPDATE (note) ON orders', 'INSERT ON private']), 10_000, log)
    expect(warnings).toHaveLength(1)
    expect(warnings[0]!.may).toMatch(/orders, write to private.*create roles/)
  })

  it('may be unavailable when opened: queries fail until it is back', async () => {
    const url = await role()
    const name = decodeURIComponent(new URL(url).username)
    await ask(admin, `ALTER ROLE ${name} NOLOGIN`)
    const database = await open(url)
    expect(await database.run('SELECT 1 AS one', { rows: 1, columns: {} })).toMatchObject({ kind: 'unavailable' })
    await ask(admin, `ALTER ROLE ${name} LOGIN`)
    expect(await database.run('SELECT 1 AS one', { rows: 1, columns: {} })).toMatchObject({ kind: 'rows' })
  })

  it('is checked with each connection: a role that became a superuser runs no more queries', async () => {
    const url = await role()
    const name = decodeURIComponent(new URL(url).username)
    const database = await open(url)
    await ask(admin, `ALTER ROLE ${name} SUPERUSER`)
    await ask(admin, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '${name}'`)
    // The first query may still hold the closed connection.
    const outcomes = [
      await database.run('SELECT 1 AS one', { rows: 1, columns: {} }),
      await database.run('SELECT 1 AS one', { rows: 1, columns: {} }),
    ]
    expect(outcomes.map(one => one.kind)).toEqual(['unavailable', 'unavailable'])
    await ask(admin, `ALTER ROLE ${name} NOSUPERUSER`)
  })
})

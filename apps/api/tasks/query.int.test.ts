import { randomUUID } from 'node:crypto'
import { afterAll, describe, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '#shared/testing/database.ts'
import { ask, connect } from '#shared/testing/postgres.ts'
import { startStack } from '#shared/testing/stack.ts'

/** Questions whose queries are run, on a separate database. */

const role = `reader_${randomUUID().replaceAll('-', '')}`
let shop: TestDatabase

const sqlOf = async (text: string) => {
  const db = connect(shop.url, 1)
  return await ask(db, text).finally(() => db.close())
}

const stack = startStack(async () => {
  shop = await createTestDatabase()
  await sqlOf('CREATE TABLE orders (id int PRIMARY KEY, customer text, total numeric(10,2))')
  await sqlOf(`INSERT INTO orders SELECT n, 'c' || n % 3, n FROM generate_series(1, 3000) n`)
  await sqlOf(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`)
  await sqlOf(`GRANT SELECT ON orders TO ${role}`)
  const url = new URL(shop.url)
  url.username = role
  url.password = 'secret'
  return { QUERY_DATABASE_URL: url.href, QUERY_TIMEOUT_SECONDS: '5' }
})
afterAll(async () => {
  await sqlOf(`DROP OWNED BY ${role}`)
  await sqlOf(`DROP ROLE ${role}`)
  await shop.drop()
})

const schema = { tables: [{ name: 'orders', columns: ['id', 'customer', 'total'].map(name => ({ name })) }] }
const says = (sql: string) => ({ text: JSON.stringify({ sql, explanation: 'It counts.' }) })
const submit = async (question: string, more: object = { execute: true }, options: object = {}) =>
  (
    await stack.call('POST', '/api/v1/tasks/query', {
      body: { input: { question, schema, dialect: 'postgres', ...more }, options },
      headers: { prefer: 'wait=30' },
    })
  ).body

describe('a query with execute', () => {
  it('returns columns and rows', async () => {
    stack.upstream.script(says('SELECT customer, count(*) AS n, sum(total) FROM orders GROUP BY 1 ORDER BY 1'))
    expect(await submit('How many orders has each?')).toMatchObject({
      status: 'succeeded',
      source: 'ai',
      result: {
        sql: 'SELECT customer, count(*) AS n, sum(total) FROM orders GROUP BY 1 ORDER BY 1 LIMIT 100',
        tables: ['orders'],
        columns: [
          { name: 'customer', type: 'text' },
          { name: 'n', type: 'bigint' },
          { name: 'sum', type: 'numeric' },
        ],
        rows: [
          ['c0', 1000, '1501500.00'],
          ['c1', 1000, '1499500.00'],
          ['c2', 1000, '1500500.00'],
        ],
        truncated: false,
      },
    })
  })

  it('says when there are more rows than max_rows', async () => {
    stack.upstream.script(says('SELECT id FROM orders ORDER BY id'), says('SELECT id FROM orders ORDER BY id LIMIT 2'))
    const { result } = await submit('Which orders are there?', { execute: true, max_rows: 2 })
    expect(result).toMatchObject({ sql: expect.stringMatching(/LIMIT 2$/), rows: [[1], [2]], truncated: true })
    expect((await submit('Which two?', { execute: true, max_rows: 10 })).result).toMatchObject({ truncated: false })
  })

  it('is repaired with the error message of Postgres', async () => {
    stack.upstream.script(says('SELECT total / (id - id) AS x FROM orders'), says('SELECT 1 AS x'))
    const task = await submit('What is the ratio?')
    expect(task).toMatchObject({ status: 'succeeded', result: { rows: [[1]] } })
    expect(task.attempts.map((one: { outcome: string }) => one.outcome)).toEqual(['rejected', 'succeeded'])
    expect(stack.upstream.calls.at(-1)!.prompt).toContain('the query failed: division by zero')
  })

  it('is stopped at its timeout and repaired', async () => {
    const endless = 'SELECT count(*) FROM orders a, orders b, orders c WHERE a.total + b.total + c.total < 0'
    stack.upstream.script(says(endless), says('SELECT 1 AS x'))
    const task = await submit('What takes for ever?')
    expect(task.attempts[0].error.message).toContain('it took longer than 5 seconds and was stopped')
    expect(task.result.rows).toEqual([[1]])
  })

  it('is not cached', async () => {
    for (const n of [1, 2]) {
      stack.upstream.script(says(`SELECT ${n} AS n`))
      expect(await submit('What now?')).toMatchObject({ source: 'ai', result: { rows: [[n]] } })
    }
  })

  it('fails when its role lost the privilege, and does not fall back to a precomputed answer', async () => {
    await sqlOf(`REVOKE SELECT ON orders FROM ${role}`)
    const sql = 'SELECT id FROM orders LIMIT 1'
    stack.upstream.rule(/no privilege/, says(sql))
    const written = { sql, tables: ['orders'], explanation: 'It counts.' }
    await stack.call('PUT', '/api/v1/precomputed/query', { body: { result: written } })
    const task = await submit('There is no privilege', { execute: true }, { fallback: 'rules' })
    expect(task).toMatchObject({ status: 'failed', error: { code: 'invalid_output' } })
    expect(task.error.message).toContain('permission denied for table orders')
    await stack.call('DELETE', '/api/v1/precomputed/query')
    await sqlOf(`GRANT SELECT ON orders TO ${role}`)
  })

  it('fails after one call when the database is unreachable', async () => {
    await sqlOf(`ALTER ROLE ${role} NOLOGIN`)
    await sqlOf(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '${role}'`)
    stack.upstream.script(says('SELECT 1 AS x'))
    const task = await submit('Is anybody there?')
    expect(task).toMatchObject({ status: 'failed', error: { code: 'query_unavailable' } })
    expect(task.attempts).toHaveLength(1)
    await sqlOf(`ALTER ROLE ${role} LOGIN`)
  })

  it('is not run by default', async () => {
    stack.upstream.script(says('SELECT id FROM orders'))
    const { result } = await submit('Which are there?', {})
    expect(Object.keys(result)).toEqual(['sql', 'tables', 'explanation'])
  })
})

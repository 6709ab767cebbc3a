import pg from 'pg'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { createLogger } from '#shared/process/logger.ts'
import { startChild } from '#shared/testing/child.ts'
import { createTestDatabase, type TestDatabase, testPrefix } from '#shared/testing/database.ts'
import { startPgBouncer } from '#shared/testing/pgbouncer.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { migrate } from './migrate.ts'
import { openDb } from './pool.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
const open = (url: string, max = 5) => openDb({ url, max, application: 'test', logger, connectMs: 20_000 })
const ADMIN = 'the-admin-key-of-this-test'

let database: TestDatabase
let upstream: Upstream
beforeAll(async () => {
  ;[database, upstream] = await Promise.all([createTestDatabase(), startUpstream({ reply: 'Hello' })])
})
afterAll(async () => {
  await upstream.close()
  await database.drop()
})

const show = async (url: string, name: string) => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return await client
    .query(`SHOW ${name}`)
    .then(({ rows }) => rows[0][name] as string)
    .finally(() => client.end())
}

describe.each(['session', 'transaction'] as const)('behind PgBouncer in %s mode', mode => {
  let bouncer: Awaited<ReturnType<typeof startPgBouncer>>
  beforeAll(async () => {
    // In transaction mode fewer servers than clients, so that servers change clients.
    bouncer = await startPgBouncer(database.url, { mode, poolSize: mode === 'session' ? 40 : 8 })
  })
  afterAll(() => bouncer.close())

  it('migrations run, two at once', async () => {
    await Promise.all([migrate(bouncer.url), migrate(bouncer.url)])
  })

  it('the API and a worker start and run concurrent tasks', { timeout: 60_000 }, async () => {
    const env = {
      ...{ DATABASE_URL: bouncer.url, REDIS_URL: inject('redisUrl'), REDIS_PREFIX: testPrefix(), ADMIN_KEY: ADMIN },
      ...{ ANTHROPIC_API_KEY: 'key', ANTHROPIC_BASE_URL: upstream.url, PROVIDERS: 'anthropic' },
      ...{ PORT: '0', WORKER_PORT: '0', LOG_LEVEL: 'silent', DRAIN_SECONDS: '2' },
    }
    const children = await Promise.all(['apps/api/main.ts', 'workers/main.ts'].map(main => startChild(main, env)))
    try {
      const ask = async (n: number) => {
        const answer = await fetch(`http://127.0.0.1:${children[0]!.port}/api/v1/tasks/generate`, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${ADMIN}`,
            'content-type': 'application/json',
            prefer: 'wait=30',
            'idempotency-key': `${mode}-${n}`,
          },
          body: JSON.stringify({ input: { prompt: `Say hello ${n}` }, options: { cache: 'off' } }),
        })
        return { status: answer.status, body: (await answer.json()) as { status: string } }
      }
      const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => ask(n)))
      expect(answers).toEqual(answers.map(() => expect.objectContaining({ status: 200 })))
      expect(answers.map(one => one.body.status)).toEqual(answers.map(() => 'succeeded'))
    } finally {
      await Promise.all(children.map(child => child.stop()))
    }
  })

  it('one of many processes holds a lock, releases it and leaves no setting behind', async () => {
    const dbs = [open(bouncer.url, 2), open(bouncer.url, 2)] as const
    const held = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    try {
      const first = dbs[0].withLock(42, async () => {
        begun.resolve()
        await held.promise
        return 'done'
      })
      await begun.promise
      expect(await dbs[1].withLock(42, async () => 'both')).toBeNull()
      held.resolve()
      expect(await first).toBe('done')
      expect(await dbs[1].withLock(42, async () => 'next')).toBe('next')
    } finally {
      await Promise.all(dbs.map(db => db.close()))
    }
    for (const [name, value] of [
      ['statement_timeout', '0'],
      ['enable_seqscan', 'on'],
      ['idle_session_timeout', '0'],
      ['idle_in_transaction_session_timeout', '0'],
    ] as const)
      expect([name, await show(bouncer.url, name)]).toEqual([name, value])
  })

  it('two clients can use different statements with the same name', async () => {
    const dbs = [open(bouncer.url, 1), open(bouncer.url, 1)] as const
    try {
      for (let round = 0; round < 4; round++)
        for (const [n, db] of dbs.entries())
          expect(await db.query({ name: 'same', text: `SELECT ${n} AS n, $1::int AS round` }, [round])).toEqual([
            { n, round },
          ])
      const rows = await dbs[0].transaction([[{ name: 'timeout', text: 'SHOW statement_timeout' }]])
      expect(rows).toEqual([[{ statement_timeout: '25s' }]])
    } finally {
      await Promise.all(dbs.map(db => db.close()))
    }
  })
})

it('a pooler that allows no transactions is refused in one line', async () => {
  const bouncer = await startPgBouncer(database.url, { mode: 'statement' })
  const db = open(bouncer.url)
  try {
    await expect(db.query({ name: 'one', text: 'SELECT 1' })).rejects.toThrow(
      /^DATABASE_URL: the pooler allows no transactions .* set its pool_mode/,
    )
  } finally {
    await db.close()
    await bouncer.close()
  }
})

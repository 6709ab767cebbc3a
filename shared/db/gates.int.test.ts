import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { createSeeder, MAX_GATES, markUsed, pruneGates } from './gates.ts'

const database = fileDatabase()
const db = () => database.dbs[0]
const target = { provider: 'anthropic', model: 'm' }
const seed = (one = target) => createSeeder(db())(one)

type Call = {
  taskId?: string
  n?: number
  agoSeconds?: number
  outcome?: string
  tokens?: [number, number]
  provider?: string
  model?: string
}

async function call({ taskId = randomUUID(), n = 1, agoSeconds = 1, outcome = 'started', tokens, ...more }: Call = {}) {
  await ask(
    db(),
    `INSERT INTO attempts (task_id, n, worker_id, provider, model, kind, api_key_id, reserved_usd, windows, booked_input_tokens,
        booked_output_tokens, outcome, input_tokens, output_tokens, started_at)
      VALUES ($1, $2, $1, $3, $4, 'generate', $1, 0, '{}', 1000, 500, $5, $6, $7, now() - $8 * interval '1 second')`,
    [taskId, n, more.provider ?? 'anthropic', more.model ?? 'm', outcome, tokens?.[0], tokens?.[1], agoSeconds],
  )
  return taskId
}

async function task(status: string, attempts = 1): Promise<string> {
  const id = randomUUID()
  await ask(
    db(),
    `INSERT INTO tasks (id, kind, status, queue, priority, api_key_id, input, options, attempts, run_at, deadline_at, created_at)
      VALUES ($1, 'generate', $2, 'default', 'normal', $1, '{}', '{}', $3, now(), now(), now())`,
    [id, status, attempts],
  )
  return id
}

beforeEach(async () => {
  await ask(db(), 'TRUNCATE gates')
})

describe('the seed of a gate', () => {
  it('is empty the first time, and only one of several readers sees the first time', async () => {
    const seeds = await Promise.all(Array.from({ length: 4 }, () => seed()))
    expect(seeds.filter(one => one.firstEver)).toEqual([{ firstEver: true, calls: [], open: [] }])
    expect(await seed()).toEqual({ firstEver: false, calls: [], open: [] })
    expect((await seed({ ...target, model: 'other' })).firstEver).toBe(true)
  })

  it('contains the calls of the last 65 seconds, with their usage or their booking', async () => {
    await database.clock.stop()
    await call({ agoSeconds: 64, outcome: 'succeeded', tokens: [12, 34] })
    await call({ agoSeconds: 30, outcome: 'timeout' })
    await call({ agoSeconds: 5 })
    await call({ agoSeconds: 66, outcome: 'succeeded', tokens: [1, 1] })
    await call({ provider: 'openai' })
    await call({ model: 'other' })
    const { calls, firstEver } = await seed()
    expect(firstEver).toBe(false)
    expect(
      calls
        .toSorted((a, b) => b.ageMs - a.ageMs)
        .map(({ ageMs, ...tokens }) => [Math.floor(ageMs / 1000), tokens.inputTokens, tokens.outputTokens]),
    ).toEqual([
      [64, 12, 34],
      [30, 1000, 500],
      [5, 1000, 500],
    ])
  })

  it('contains the calls of all names of the model', async () => {
    const base = { provider: 'anthropic', model: 'claude-sonnet-5-5' }
    const running = await task('running')
    await call({ model: base.model, outcome: 'succeeded', tokens: [1, 1] })
    await call({ model: 'claude-sonnet-5-5-20261001', outcome: 'succeeded', tokens: [2, 2] })
    await call({ model: 'claude-sonnet-5-5-20261001', taskId: running, agoSeconds: 600 })
    await call({ model: 'claude-sonnet-5', outcome: 'succeeded', tokens: [3, 3] })
    const { firstEver, calls, open } = await seed(base)
    expect(firstEver).toBe(false)
    expect(calls.map(one => one.inputTokens).toSorted()).toEqual([1, 2])
    expect(open).toEqual([{ id: running }])
  })

  it('contains the calls in flight, however old', async () => {
    const [running, ended, retried, other] = [
      await task('running'),
      await task('cancelled'),
      await task('running', 2),
      await task('running'),
    ]
    await call({ taskId: running, agoSeconds: 600 })
    await call({ taskId: ended, agoSeconds: 600 })
    await call({ taskId: retried, n: 1, agoSeconds: 600, outcome: 'unknown' })
    await call({ taskId: retried, n: 2, agoSeconds: 600 })
    await call({ taskId: other, agoSeconds: 600, model: 'other' })
    const { calls, open } = await seed()
    expect(calls).toEqual([])
    expect(open.map(one => one.id).toSorted()).toEqual([running, retried].toSorted())
  })

  it('is read without scanning the ledger', async () => {
    await ask(
      db(),
      `INSERT INTO attempts (task_id, n, worker_id, provider, model, kind, api_key_id, reserved_usd, windows, booked_input_tokens,
          booked_output_tokens, outcome, started_at)
        SELECT gen_random_uuid(), 1, gen_random_uuid(), 'anthropic', 'm', 'generate', gen_random_uuid(), 0, '{}', 1, 1, 'succeeded',
          now() - interval '1 day' FROM generate_series(1, 2000)`,
    )
    await call()
    const before = await read()
    await seed()
    expect((await read()) - before).toBeLessThan(10)
  })
  async function read() {
    await ask(db(), 'SELECT pg_stat_force_next_flush()')
    const [row] = await ask<{ n: number }>(
      db(),
      `SELECT (seq_tup_read + idx_tup_fetch)::int AS n FROM pg_stat_user_tables WHERE relname = 'attempts'`,
    )
    return row!.n
  }
})

describe('a row of a gate', () => {
  const rows = async () => {
    const text = `SELECT model, round(extract(epoch FROM now() - opened_at) / 3600)::int AS hours FROM gates ORDER BY model`
    return (await ask<{ model: string; hours: number }>(db(), text)).map(row => [row.model, row.hours])
  }
  const opened = (model: string, hoursAgo: number) =>
    ask(db(), `INSERT INTO gates VALUES ('anthropic', $1, now() - $2 * interval '1 hour')`, [model, hoursAgo])

  it('is deleted after three days without use, so that the target is new again', async () => {
    for (const [model, hours] of [
      ['a', 71],
      ['b', 73],
      ['c', 1000],
    ] as const)
      await opened(model, hours)
    await markUsed(db(), { ...target, model: 'c' })
    await pruneGates(db())
    expect(await rows()).toEqual([
      ['a', 71],
      ['c', 0],
    ])
    expect((await seed({ ...target, model: 'b' })).firstEver).toBe(true)
  })

  it('exists for a bounded number of targets; targets without a row are seeded from the ledger', async () => {
    const rows = async () => (await ask<{ n: number }>(db(), 'SELECT count(*)::int AS n FROM gates'))[0]!.n
    await seed()
    await ask(
      db(),
      `INSERT INTO gates (provider, model, opened_at) SELECT 'ollama', 'm' || n, now() FROM generate_series(2, $1::int) n`,
      [MAX_GATES],
    )
    await call({ provider: 'ollama', model: 'made up', outcome: 'succeeded', tokens: [12, 34] })
    const seeded = await seed({ provider: 'ollama', model: 'made up' })
    expect(seeded).toMatchObject({ firstEver: false, calls: [{ inputTokens: 12, outputTokens: 34 }] })
    for (let n = 0; n < 20; n++) {
      expect((await seed({ provider: 'ollama', model: `made up ${n}` })).firstEver).toBe(false)
      await markUsed(db(), { provider: 'ollama', model: `made up ${n}` })
    }
    expect(await rows()).toBe(MAX_GATES)
    // A target with a row keeps it.
    await ask(db(), `UPDATE gates SET opened_at = now() - interval '2 days' WHERE model = 'm'`)
    await markUsed(db(), target)
    expect(
      await ask(db(), `SELECT FROM gates WHERE model = 'm' AND opened_at > now() - interval '1 day'`),
    ).toHaveLength(1)
    expect(await seed()).toEqual({ firstEver: false, calls: [], open: [] })
    // There is room again after other targets were unused.
    await ask(db(), `UPDATE gates SET opened_at = now() - interval '4 days' WHERE provider = 'ollama'`)
    await pruneGates(db())
    expect((await seed({ provider: 'ollama', model: 'new' })).firstEver).toBe(true)
  })

  it('stays while the target is used', async () => {
    await opened('m', 100)
    await opened('old', 100)
    await markUsed(db(), target)
    await pruneGates(db())
    expect(await rows()).toEqual([['m', 0]])
  })

  it('is refreshed when the gate is seeded again', async () => {
    await opened('m', 72)
    expect((await seed()).firstEver).toBe(false)
    expect(await rows()).toEqual([['m', 0]])
  })
})

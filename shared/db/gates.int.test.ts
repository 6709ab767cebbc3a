import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { createSeeder, forgetGates, noteUse } from './gates.ts'

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

describe('what a gate is seeded with', () => {
  it('is nothing the first time, which is told once, to one of those that ask', async () => {
    const seeds = await Promise.all(Array.from({ length: 4 }, () => seed()))
    expect(seeds.filter(one => one.firstEver)).toEqual([{ firstEver: true, calls: [], open: [] }])
    expect(await seed()).toEqual({ firstEver: false, calls: [], open: [] })
    expect((await seed({ ...target, model: 'other' })).firstEver).toBe(true)
  })

  it('are the calls of the last 65 seconds: what they used, or what was booked for them', async () => {
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

  it('are the calls of all names of the model, of which the ledger keeps the one that was called', async () => {
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

  it('are the calls that are under way, however old', async () => {
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

  it('is read without the rest of the ledger', async () => {
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

  it('goes when its target has not been in use for three days, so that it is new again', async () => {
    for (const [model, hours] of [
      ['a', 71],
      ['b', 73],
      ['c', 1000],
    ] as const)
      await opened(model, hours)
    await noteUse(db(), { ...target, model: 'c' })
    await forgetGates(db())
    expect(await rows()).toEqual([
      ['a', 71],
      ['c', 0],
    ])
    expect((await seed({ ...target, model: 'b' })).firstEver).toBe(true)
  })

  it('stays while the target is in use', async () => {
    await opened('m', 100)
    await opened('old', 100)
    await noteUse(db(), target)
    await forgetGates(db())
    expect(await rows()).toEqual([['m', 0]])
  })

  it('is as good as new when a gate is seeded again', async () => {
    await opened('m', 72)
    expect((await seed()).firstEver).toBe(false)
    expect(await rows()).toEqual([['m', 0]])
  })
})

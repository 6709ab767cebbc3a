import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, connect, fileDatabase } from '#shared/testing/postgres.ts'
import {
  BUDGET_WINDOWS,
  type Budget,
  type BudgetWindow,
  deleteBudget,
  leastRemaining,
  listBudgets,
  openBudgetWindows,
  putBudget,
} from './budgets.ts'

const database = fileDatabase()
const db = () => database.dbs[0]
const clock = () => database.clock

/** Sets the time, in UTC. */
const at = async (moment: string) => {
  const [row] = await ask<{ seconds: number }>(
    db(),
    `SELECT extract(epoch FROM $1::timestamptz - now())::float8 AS seconds`,
    [moment],
  )
  await clock().advance(row!.seconds)
}
const windows = () =>
  ask<{ starts_at: Date; ends_at: Date | null; limit_usd: string; spent_usd: string }>(
    db(),
    `SELECT starts_at, ends_at, trim_scale(limit_usd)::text AS limit_usd, trim_scale(spent_usd)::text AS spent_usd
      FROM budget_windows ORDER BY budget_id, starts_at`,
  )
/** Number of statements that wait for a lock. */
const waiters = async () => {
  const text = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
  return (await ask(db(), text)).length
}
const put = (window: BudgetWindow, limitUsd: string, scope = 'global') => putBudget(db(), { scope, window, limitUsd })
const rollUp = (hour: string, costUsd: string, more: { provider?: string; kind?: string; key?: string } = {}) =>
  ask(db(), `INSERT INTO cost_rollups VALUES ($1, $2, 'm', $3, $4, 1, 10, 20, 0, 0, $5, 0)`, [
    hour,
    more.provider ?? 'anthropic',
    more.kind ?? 'generate',
    more.key ?? randomUUID(),
    costUsd,
  ])

beforeEach(async () => {
  await ask(db(), 'TRUNCATE budgets, budget_windows, cost_rollups')
  await at('2031-03-30T12:30:00Z')
})

describe('a budget', () => {
  it('has the window that contains the current time in UTC, whatever the time zone of Postgres', async () => {
    const berlin = connect(database.url, 1)
    await ask(berlin, `SET TIME ZONE 'Europe/Berlin'`)
    for (const window of BUDGET_WINDOWS) await putBudget(berlin, { scope: 'global', window, limitUsd: '1.5' })
    const resets = Object.fromEntries(
      (await listBudgets(berlin)).map(one => [one.window, one.resets_at?.toISOString() ?? null]),
    )
    await berlin.close()
    // Berlin switched to summer time that morning.
    expect(resets).toEqual({
      request: null,
      hour: '2031-03-30T13:00:00.000Z',
      day: '2031-03-31T00:00:00.000Z',
      month: '2031-04-01T00:00:00.000Z',
      total: null,
    })
    const ranges = (await windows()).map(({ starts_at, ends_at }) =>
      [starts_at, ends_at].map(moment => moment?.toISOString().slice(0, 16) ?? null).join(' '),
    )
    expect(ranges.toSorted()).toEqual([
      '1970-01-01T00:00 ',
      '2031-03-01T00:00 2031-04-01T00:00',
      '2031-03-30T00:00 2031-03-31T00:00',
      '2031-03-30T12:00 2031-03-30T13:00',
      '2031-03-30T13:00 2031-03-30T14:00',
      '2031-03-31T00:00 2031-04-01T00:00',
      '2031-04-01T00:00 2031-05-01T00:00',
    ])
  })

  it('keeps its amounts exact', async () => {
    const made = await put('total', '999999999999.123456789012')
    await ask(db(), `UPDATE budget_windows SET reserved_usd = 0.000000000001, spent_usd = 0.1`)
    expect(made).toMatchObject({ limit_usd: '999999999999.123456789012', reserved_usd: '0', spent_usd: '0' })
    expect(await listBudgets(db())).toEqual([
      { ...made, reserved_usd: '0.000000000001', spent_usd: '0.1', remaining_usd: '999999999999.023456789011' },
    ])
  })

  it('a new limit for the same scope and window applies to all windows that have not ended', async () => {
    const first = await put('hour', '5')
    await ask(db(), `UPDATE budget_windows SET spent_usd = 3, reserved_usd = 1 WHERE starts_at <= now()`)
    const second = await put('hour', '2')
    expect(second).toEqual({
      ...first,
      limit_usd: '2',
      spent_usd: '3',
      reserved_usd: '1',
      // Below the spending: nothing remains, and the remainder is not negative.
      remaining_usd: '0',
    })
    expect((await windows()).map(one => one.limit_usd)).toEqual(['2', '2'])
    await put('day', '7')
    expect(await listBudgets(db())).toHaveLength(2)
  })

  it('created at noon starts with the spending of its scope since the window began', async () => {
    const key = randomUUID()
    await rollUp('2031-03-30T12:00Z', '0.000000000001')
    await rollUp('2031-03-30T11:00Z', '0.02', { key })
    await rollUp('2031-03-30T00:00Z', '0.3', { provider: 'openai' })
    await rollUp('2031-03-29T23:00Z', '4', { kind: 'moderate' })
    await rollUp('2031-02-28T23:00Z', '50', { key })
    const spent = async (window: BudgetWindow, scope?: string) => (await put(window, '1', scope)).spent_usd
    expect(await spent('request')).toBe('0')
    expect(await spent('hour')).toBe('0.000000000001')
    expect(await spent('day')).toBe('0.320000000001')
    expect(await spent('month')).toBe('4.320000000001')
    expect(await spent('total')).toBe('54.320000000001')
    expect(await spent('total', `key:${key}`)).toBe('50.02')
    expect(await spent('month', `key:${key}`)).toBe('0.02')
    expect(await spent('day', 'provider:openai')).toBe('0.3')
    expect(await spent('total', 'kind:moderate')).toBe('4')
    // Future windows have no spending, and setting a limit again does not count twice.
    expect(
      (await windows()).filter(one => one.starts_at > new Date('2031-03-30T12:30Z') && one.spent_usd !== '0'),
    ).toEqual([])
    expect(await spent('day')).toBe('0.320000000001')
    await rollUp('2031-03-30T12:00Z', '-0.5', { kind: 'corrected' })
    expect(await spent('hour', 'kind:corrected')).toBe('0')
  })

  it('the lowest remaining amount of each type is reported', async () => {
    expect(await leastRemaining(db())).toEqual([])
    for (const [scope, limit] of [
      ['kind:a', '5'],
      ['kind:b', '3.5'],
      ['kind:c', '9'],
      ['global', '1'],
    ] as const)
      await put('day', limit, scope)
    await put('request', '0.25', 'kind:a')
    const spend = `UPDATE budget_windows w SET spent_usd = 7, reserved_usd = 1 FROM budgets b
      WHERE b.id = w.budget_id AND scope = $1 AND starts_at <= now()`
    await ask(db(), spend, ['kind:c'])
    await ask(db(), spend, ['global'])
    const least = await leastRemaining(db())
    expect(least.map(one => [one.scope_kind, one.window, one.usd]).toSorted()).toEqual([
      ['global', 'day', 0],
      ['kind', 'day', 1],
      ['kind', 'request', 0.25],
    ])
  })

  it('deletion leaves nothing behind', async () => {
    const { id } = await put('hour', '1')
    expect(await deleteBudget(db(), randomUUID())).toBeNull()
    expect(await deleteBudget(db(), id)).toMatchObject({ id, limit_usd: '1' })
    expect([await deleteBudget(db(), id), await listBudgets(db()), await windows()]).toEqual([null, [], []])
  })
})

describe('budget windows', () => {
  it('are opened once, shortly before they start, with the current limit and no spending', async () => {
    await put('hour', '1')
    await put('request', '1')
    await at('2031-03-30T13:50:00Z')
    await rollUp('2031-03-30T13:00Z', '9')
    await openBudgetWindows(db())
    expect((await windows()).map(one => one.starts_at.getUTCHours())).toEqual([12, 13])
    await at('2031-03-30T13:58:01Z')
    await openBudgetWindows(db())
    await openBudgetWindows(db())
    expect((await windows()).map(one => [one.starts_at.getUTCHours(), one.limit_usd, one.spent_usd])).toEqual([
      [12, '1', '0'],
      [13, '1', '0'],
      [14, '1', '0'],
    ])
    await at('2031-03-31T09:00:00Z')
    expect(await listBudgets(db())).toMatchObject([{ window: 'hour', remaining_usd: '1' }, { window: 'request' }])
    await openBudgetWindows(db())
    expect((await windows()).map(one => one.starts_at.toISOString())).toContain('2031-03-31T09:00:00.000Z')
  })

  it('opened while a limit is being set get the new limit, in either order', async () => {
    for (const first of ['put', 'open'] as const) {
      await ask(db(), 'TRUNCATE budgets, budget_windows')
      await put('hour', '100')
      await ask(db(), 'DELETE FROM budget_windows')
      const slow = connect(database.url, 1)
      const set = (on = db()): Promise<Budget> => putBudget(on, { scope: 'global', window: 'hour', limitUsd: '0' })
      await ask(slow, 'BEGIN')
      await (first === 'put' ? set(slow) : openBudgetWindows(slow))
      const second = first === 'put' ? openBudgetWindows(db()) : set()
      // It waits for the lock that the first one holds.
      await expect.poll(waiters).toBe(1)
      await ask(slow, 'COMMIT')
      await second
      await slow.close()
      expect((await windows()).map(one => [first, one.limit_usd])).toEqual([
        [first, '0'],
        [first, '0'],
      ])
    }
  })

  it('stay consistent when many processes create, set, open and delete at once', async () => {
    const work = Array.from({ length: 60 }, async (_, n) => {
      const budget = await put('hour', `${n}`, `kind:${n % 3}`)
      await openBudgetWindows(db())
      if (n % 4 === 0) await deleteBudget(db(), budget.id)
    })
    await Promise.all(work)
    const [odd] = await ask<{ count: number }>(
      db(),
      `SELECT count(*)::int AS count FROM budget_windows w LEFT JOIN budgets b ON b.id = w.budget_id
        WHERE b.limit_usd IS DISTINCT FROM w.limit_usd`,
    )
    expect(odd!.count).toBe(0)
  })
})

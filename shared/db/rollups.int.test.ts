import { beforeEach, describe, expect, it } from 'vitest'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { COST_GROUPS, type CostGroup, createCostReader } from './rollups.ts'

const database = fileDatabase()
const db = () => database.dbs[0]
const A = '00000000-0000-0000-0000-00000000000a'
const B = '00000000-0000-0000-0000-00000000000b'

const ROWS = [
  ['2026-03-01T23:00Z', 'anthropic', 'small', 'generate', A, 2, 10, 20, 1, 2, '0.000000000001', '0'],
  ['2026-03-02T00:00Z', 'anthropic', 'small', 'generate', A, 1, 5, 5, 0, 0, '0.1', '0.1'],
  ['2026-03-02T00:00Z', 'anthropic', 'large', 'generate', B, 1, 7, 9, 0, 0, '0.2', '0'],
  ['2026-03-02T05:00Z', 'openai', 'small', 'moderate', B, 3, 1, 1, 0, 0, '123456789.000000000001', '0'],
  // A corrected estimate.
  ['2026-03-03T00:00Z', 'anthropic', 'small', 'generate', A, 0, 0, 0, 0, 0, '-0.05', '-0.1'],
]
const march = { from: new Date('2026-03-01'), to: new Date('2026-04-01'), limit: 100 }
const costs = async (groupBy: CostGroup[], more: Partial<typeof march> = {}) =>
  (await createCostReader(db()).costs({ ...march, groupBy, ...more }))!

beforeEach(async () => {
  await ask(db(), 'TRUNCATE cost_rollups')
  for (const row of ROWS)
    await ask(db(), 'INSERT INTO cost_rollups VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)', row)
})

describe('costs', () => {
  it('are summed exactly', async () => {
    const totals = {
      calls: 7,
      input_tokens: 23,
      output_tokens: 35,
      cache_read_tokens: 1,
      cache_write_tokens: 2,
      reasoning_tokens: 0,
      cost_usd: '123456789.250000000002',
      estimated_usd: '0',
    }
    expect(await costs([])).toEqual({ rows: [totals], totals, truncated: false })
  })

  it('are grouped as requested, highest first', async () => {
    const { rows } = await costs(['key', 'provider'])
    expect(rows.map(({ provider, key, cost_usd, calls }) => [provider, key, cost_usd, calls])).toEqual([
      ['openai', B, '123456789.000000000001', 3],
      ['anthropic', B, '0.2', 1],
      ['anthropic', A, '0.050000000001', 3],
    ])
    expect((await costs(['model'])).rows.map(one => one.model)).toEqual(['small', 'large'])
    expect((await costs(['kind'])).rows.map(one => one.kind)).toEqual(['moderate', 'generate'])
  })

  it('grouped by day are in order, in UTC', async () => {
    await ask(db(), `SET TIME ZONE 'Pacific/Auckland'`)
    const { rows } = await costs(['day', 'provider'])
    expect(rows.map(({ day, provider, cost_usd }) => [day, provider, cost_usd])).toEqual([
      ['2026-03-01', 'anthropic', '0.000000000001'],
      ['2026-03-02', 'openai', '123456789.000000000001'],
      ['2026-03-02', 'anthropic', '0.3'],
      ['2026-03-03', 'anthropic', '-0.05'],
    ])
  })

  it('include only the requested hours', async () => {
    const some = await costs(['day'], { from: new Date('2026-03-02T00:00Z'), to: new Date('2026-03-02T05:00Z') })
    expect(some).toMatchObject({
      rows: [{ day: '2026-03-02', cost_usd: '0.3' }],
      totals: { cost_usd: '0.3', calls: 2 },
    })
    const none = await costs(['day'], { from: new Date('2027-01-01'), to: new Date('2028-01-01') })
    expect(none).toMatchObject({ rows: [], totals: { calls: 0, cost_usd: '0', estimated_usd: '0' }, truncated: false })
  })

  it('are truncated at the limit and report that; the totals include all rows', async () => {
    const all = await costs(COST_GROUPS)
    expect(all.rows).toHaveLength(5)
    expect(await costs(COST_GROUPS, { limit: 5 })).toEqual(all)
    expect(await costs(COST_GROUPS, { limit: 4 })).toEqual({ ...all, rows: all.rows.slice(0, 4), truncated: true })
  })

  it('reads only the requested time range', async () => {
    await ask(
      db(),
      `INSERT INTO cost_rollups SELECT timestamptz '2020-01-01Z' + n * interval '1 hour', 'p', 'm', 'k', '${A}', 1, 1, 1, 1, 1, 1, 0
        FROM generate_series(1, 5000) n`,
    )
    const before = await read()
    await costs(['provider', 'day'])
    expect((await read()) - before).toBe(ROWS.length)
  })
  async function read() {
    await ask(db(), 'SELECT pg_stat_force_next_flush()')
    const [row] = await ask<{ n: number }>(
      db(),
      `SELECT (seq_tup_read + idx_tup_fetch)::int AS n FROM pg_stat_user_tables WHERE relname = 'cost_rollups'`,
    )
    return row!.n
  }

  it('are summed for today, this month and in total', async () => {
    await ask(db(), `UPDATE testing.clock SET passed = timestamptz '2026-03-03T10:00Z' - pg_catalog.now()`)
    const spent = () => createCostReader(db()).spent()
    expect(await spent()).toEqual({
      today_usd: '-0.05',
      month_usd: '123456789.250000000002',
      total_usd: '123456789.250000000002',
    })
    await ask(db(), 'TRUNCATE cost_rollups')
    expect(await spent()).toEqual({ today_usd: '0', month_usd: '0', total_usd: '0' })
  })
})

import { describe, expect, it } from 'vitest'
import { startStack } from '#shared/testing/stack.ts'

const stack = startStack()
const costs = (query: Record<string, string> = {}) =>
  stack.call('GET', `/api/v1/analytics/costs?${new URLSearchParams(query)}`)
const KEY = '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000'
const rollUp = (when: string, costUsd: string, provider = 'anthropic') =>
  stack.sql(`INSERT INTO cost_rollups
    VALUES (date_trunc('hour', ${when}), '${provider}', 'm', 'generate', '${KEY}', 1, 10, 20, 0, 0, ${costUsd}, 0)`)

describe('costs', () => {
  it('cover the last 30 days in one row by default', async () => {
    await rollUp('now()', '1.25')
    await rollUp(`now() - interval '29 days'`, '0.000000000001')
    await rollUp(`now() - interval '32 days'`, '100', 'openai')
    const { body } = await costs()
    expect(body).toMatchObject({
      data: [body.totals],
      totals: { cost_usd: '1.250000000001', calls: 2 },
      truncated: false,
    })
    expect(Date.parse(body.to) - Date.parse(body.from)).toBe(30 * 86_400_000)
    const { body: all } = await costs({ from: '2020-01-01', group_by: 'provider,key' })
    expect(all.data).toEqual([
      { ...all.data[0], provider: 'openai', key: `key_${KEY.replaceAll('-', '')}`, cost_usd: '100' },
      { ...all.data[1], provider: 'anthropic', cost_usd: '1.250000000001', input_tokens: 20, output_tokens: 40 },
    ])
    expect(all.totals.cost_usd).toBe('101.250000000001')
  })

  it('of a date cover the whole day', async () => {
    for (const hour of ['2024-02-28 23:00Z', '2024-02-29 00:00Z', '2024-02-29 23:00Z', '2024-03-01 00:00Z'])
      await rollUp(`timestamptz '${hour}'`, '1')
    const { body } = await costs({ from: '2024-02-29', to: '2024-02-29', group_by: 'day' })
    expect(body.data).toEqual([expect.objectContaining({ day: '2024-02-29', calls: 2 })])
  })

  it.each([
    ['/from', { from: 'yesterday' }],
    ['/to', { to: '2026-02-30' }],
    ['/from', { from: '2026-02-02', to: '2026-02-01T00:00Z' }],
    ['/group_by', { group_by: 'provider,secret_hash' }],
    ['/sort', { sort: 'x' }],
  ])('with a wrong %s are refused: %j', async (field, query) => {
    const code = field === '/sort' ? 'unknown_field' : 'invalid_request'
    expect(await costs(query)).toMatchObject({ status: 422, body: { code, context: { field } } })
  })
})

it('GET /cost returns the total cost', async () => {
  expect((await stack.call('GET', '/cost')).body).toMatchObject({ total_usd: expect.stringMatching(/^\d/) })
})

import { afterEach, describe, expect, it } from 'vitest'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
const put = (body: object) => stack.call('PUT', '/api/v1/budgets', { body })
const list = async () => (await stack.call('GET', '/api/v1/budgets')).body.data
const base = { scope: 'global', window: 'day', limit_usd: 10 }

afterEach(async () => {
  for (const { id } of await list()) await stack.call('DELETE', `/api/v1/budgets/${id}`)
})

describe('a budget', () => {
  it('is set, shown, replaced and deleted', async () => {
    const made = await put({ ...base, limit_usd: '10.50' })
    expect(made).toMatchObject({
      status: 200,
      body: {
        id: expect.stringMatching(/^budget_[0-9a-f]{32}$/),
        scope: 'global',
        window: 'day',
        limit_usd: '10.5',
        reserved_usd: '0',
        resets_at: expect.stringMatching(/T00:00:00.000Z$/),
      },
    })
    expect(await list()).toEqual([made.body])
    const replaced = await put({ ...base, limit_usd: 0.000000000001 })
    expect(replaced.body).toEqual({ ...made.body, limit_usd: '0.000000000001', remaining_usd: expect.any(String) })
    expect(await list()).toHaveLength(1)
    const path = `/api/v1/budgets/${made.body.id}`
    expect(await stack.call('DELETE', path)).toMatchObject({ status: 200, body: replaced.body })
    expect(await stack.call('DELETE', path)).toMatchObject({ status: 404, body: { code: 'budget_not_found' } })
    expect(await list()).toEqual([])
  })

  it('can have any scope and window', async () => {
    const { id } = await stack.makeKey()
    const scopes = ['global', 'kind:generate', 'provider:google', `key:${id}`]
    for (const scope of scopes)
      for (const window of ['request', 'hour', 'day', 'month', 'total'])
        expect((await put({ scope, window, limit_usd: 1 })).body).toMatchObject({ scope, window, limit_usd: '1' })
    expect(new Set((await list()).map((one: { scope: string }) => one.scope))).toEqual(new Set(scopes))
  })

  it('shows the exact spending, equal to the analytics', async () => {
    const { secret: key, id } = await stack.makeKey()
    await put({ scope: `key:${id}`, window: 'month', limit_usd: 1 })
    await stack.submit({}, { key, headers: { prefer: 'wait=30' } })
    const [budget] = await list()
    expect(budget).toMatchObject({ reserved_usd: '0', spent_usd: expect.stringMatching(/^0\.0*[1-9]/) })
    const places = (text: string) => BigInt(text.replace('.', '').padEnd(text.indexOf('.') + 12, '0'))
    expect(places(budget.spent_usd) + places(budget.remaining_usd)).toBe(10n ** 12n)
    const costs = (await stack.call('GET', '/api/v1/analytics/costs?group_by=key')).body.data
    expect(costs).toContainEqual(expect.objectContaining({ key: id, calls: 1, cost_usd: budget.spent_usd }))
    // A budget that is created afterwards includes the spending.
    expect((await put({ scope: `key:${id}`, window: 'total', limit_usd: 1 })).body.spent_usd).toBe(budget.spent_usd)
  })

  const unknown = `key:key_${'0'.repeat(32)}`
  it.each([
    ['/scope', { scope: 'world' }],
    ['/scope', { scope: '' }],
    ['/scope', { scope: 'global:x' }],
    ['/scope', { scope: 'batch:x' }],
    ['/scope', { scope: 'kind:poem' }],
    ['/scope', { scope: 'kind' }],
    ['/scope', { scope: 'provider:unknown' }],
    ['/scope', { scope: unknown }],
    ['/scope', { scope: 'key:00000000-0000-0000-0000-000000000000' }],
    ['/scope', { scope: 'global\0' }],
    ['/scope', { scope: 1 }],
    ['/window', { window: 'week' }],
    ['/window', { window: undefined }],
    ['/limit_usd', { limit_usd: -0.01 }],
    ['/limit_usd', { limit_usd: '-1' }],
    ['/limit_usd', { limit_usd: '1e3' }],
    ['/limit_usd', { limit_usd: '0.1234567890123' }],
    ['/limit_usd', { limit_usd: 1e12 }],
    ['/limit_usd', { limit_usd: 0.1 + 0.2 }],
    ['/limit_usd', { limit_usd: null }],
    ['/limit_usd', { limit_usd: undefined }],
    ['/more', { more: 1 }],
  ])('with a wrong %s is refused: %j', async (field, wrong) => {
    const refused = await put({ ...base, ...wrong })
    const code = field === '/more' ? 'unknown_field' : 'invalid_request'
    expect(refused).toMatchObject({ status: 422, body: { code, context: { field } } })
    expect(await list()).toEqual([])
  })

  it('of a revoked key is refused', async () => {
    const { id } = await stack.makeKey()
    await stack.call('DELETE', `/api/v1/keys/${id}`)
    expect((await put({ ...base, scope: `key:${id}` })).status).toBe(422)
  })
})

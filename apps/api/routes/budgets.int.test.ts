import { afterEach, describe, expect, it } from 'vitest'
import { startMachine } from '#shared/testing/machine.ts'

const machine = startMachine()
const put = (body: object) => machine.call('PUT', '/api/v1/budgets', { body })
const list = async () => (await machine.call('GET', '/api/v1/budgets')).body.data
const base = { scope: 'global', window: 'day', limit_usd: 10 }

afterEach(async () => {
  for (const { id } of await list()) await machine.call('DELETE', `/api/v1/budgets/${id}`)
})

describe('a budget', () => {
  it('is set, shown, replaced and taken away', async () => {
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
    expect(await machine.call('DELETE', path)).toMatchObject({ status: 200, body: replaced.body })
    expect(await machine.call('DELETE', path)).toMatchObject({ status: 404, body: { code: 'budget_not_found' } })
    expect(await list()).toEqual([])
  })

  it('may be of anything that spends, in any window', async () => {
    const { id } = await machine.makeKey()
    const scopes = ['global', 'kind:generate', 'provider:google', `key:${id}`]
    for (const scope of scopes)
      for (const window of ['request', 'hour', 'day', 'month', 'total'])
        expect((await put({ scope, window, limit_usd: 1 })).body).toMatchObject({ scope, window, limit_usd: '1' })
    expect(new Set((await list()).map((one: { scope: string }) => one.scope))).toEqual(new Set(scopes))
  })

  it('shows what calls have spent, to the last digit, as the analytics do', async () => {
    const { secret: key, id } = await machine.makeKey()
    await put({ scope: `key:${id}`, window: 'month', limit_usd: 1 })
    await machine.submit({}, { key, headers: { prefer: 'wait=30' } })
    const [budget] = await list()
    expect(budget).toMatchObject({ reserved_usd: '0', spent_usd: expect.stringMatching(/^0\.0*[1-9]/) })
    const places = (text: string) => BigInt(text.replace('.', '').padEnd(text.indexOf('.') + 12, '0'))
    expect(places(budget.spent_usd) + places(budget.remaining_usd)).toBe(10n ** 12n)
    const costs = (await machine.call('GET', '/api/v1/analytics/costs?group_by=key')).body.data
    expect(costs).toContainEqual(expect.objectContaining({ key: id, calls: 1, cost_usd: budget.spent_usd }))
    // Another one, made afterwards, begins with it.
    expect((await put({ scope: `key:${id}`, window: 'total', limit_usd: 1 })).body.spent_usd).toBe(budget.spent_usd)
  })

  const nobody = `key:key_${'0'.repeat(32)}`
  it.each([
    ['/scope', { scope: 'world' }],
    ['/scope', { scope: '' }],
    ['/scope', { scope: 'global:x' }],
    ['/scope', { scope: 'batch:x' }],
    ['/scope', { scope: 'kind:poem' }],
    ['/scope', { scope: 'kind' }],
    ['/scope', { scope: 'provider:nobody' }],
    ['/scope', { scope: nobody }],
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
  ])('with %s wrong is refused: %j', async (field, wrong) => {
    const refused = await put({ ...base, ...wrong })
    expect(refused).toMatchObject({ status: 422, body: { code: 'invalid_request', context: { field } } })
    expect(await list()).toEqual([])
  })

  it('of a key that was revoked cannot be made', async () => {
    const { id } = await machine.makeKey()
    await machine.call('DELETE', `/api/v1/keys/${id}`)
    expect((await put({ ...base, scope: `key:${id}` })).status).toBe(422)
  })
})

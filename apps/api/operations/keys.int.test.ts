import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { ADMIN, sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

describe('a key', () => {
  it('is shown once and stored as a hash', async () => {
    const made = await stack.call('POST', '/api/v1/keys', {
      body: { name: 'secret', requests_per_minute: 9, weight: 3 },
    })
    const { key: secret, webhook_secret, ...rest } = made.body
    expect(secret).toMatch(/^sk-sluice-[\w-]{43}$/)
    expect(rest).toMatchObject({
      name: 'secret',
      scopes: ['submit', 'read'],
      requests_per_minute: 9,
      weight: 3,
      hint: secret.slice(-4),
    })
    const list = await stack.call('GET', '/api/v1/keys')
    expect(list.body.data).toContainEqual(rest)
    expect(JSON.stringify(list.body)).not.toContain(secret)
    expect(JSON.stringify(list.body)).not.toContain(webhook_secret)

    const rows = await stack.sql<{ whole: string; secret_hash: Buffer }>(
      `SELECT k::text AS whole, secret_hash FROM api_keys k WHERE name = 'secret'`,
    )
    expect(rows).toHaveLength(1)
    expect(rows[0]!.whole).not.toContain(secret)
    expect(rows[0]!.secret_hash).toEqual(createHash('sha256').update(secret).digest())
  })

  it('is accepted in both headers', async () => {
    expect((await stack.call('GET', '/api/v1/tasks', { key: null, headers: { 'x-api-key': ADMIN } })).status).toBe(200)
    expect(
      (await stack.call('GET', '/api/v1/tasks', { key: null, headers: { authorization: `bearer ${ADMIN}` } })).status,
    ).toBe(200)
    const basic = { authorization: `Basic ${Buffer.from(`x:${ADMIN}`).toString('base64')}` }
    expect((await stack.call('GET', '/api/v1/tasks', { key: null, headers: basic })).status).toBe(401)
  })

  it('is refused at once after it was revoked; its tasks continue', async () => {
    const { id, secret } = await stack.makeKey({ name: 'to go' })
    const { body } = await stack.submit({}, { key: secret })
    expect(await stack.call('DELETE', `/api/v1/keys/${id}`)).toMatchObject({
      status: 200,
      body: { id, name: 'to go' },
    })
    expect((await stack.submit({}, { key: secret })).status).toBe(401)
    expect((await stack.call('DELETE', `/api/v1/keys/${id}`)).status).toBe(404)
    expect((await stack.call('GET', '/api/v1/keys')).body.data).not.toContainEqual(expect.objectContaining({ id }))
    expect((await stack.call('GET', `${body.urls.self}?wait=30`)).body.status).toBe('succeeded')
  })

  it('has the budgets, limits and expiry that it was created with, and is changed by PATCH', async () => {
    const bad = [
      {
        budgets: [
          { window: 'day', limit_usd: '1' },
          { window: 'day', limit_usd: '2' },
        ],
      },
      { expires_at: '2020-01-01T00:00:00Z' },
      { expires_at: 'tomorrow' },
    ]
    for (const more of bad) {
      const refused = await stack.call('POST', '/api/v1/keys', { body: { name: 'never made', ...more } })
      expect(refused).toMatchObject({ status: 422, body: { context: { field: `/${Object.keys(more)[0]}` } } })
    }
    const expires_at = '2999-01-01T00:00:00.000Z'
    const body = { name: 'bounded', expires_at, budgets: [{ window: 'total', limit_usd: '0' }] }
    const made = await stack.call('POST', '/api/v1/keys', { body })
    const { key, webhook_secret: _, ...listed } = made.body
    expect(listed).toMatchObject({ expires_at, budgets: [{ scope: `key:${listed.id}`, limit_usd: '0' }] })
    expect((await stack.call('GET', `/api/v1/keys/${listed.id}`)).body).toEqual(listed)
    const spent = await stack.submit({ options: { on_budget: 'fail' } }, { key, headers: { prefer: 'wait=30' } })
    expect(spent.body).toMatchObject({ status: 'failed', error: { code: 'budget_exceeded' } })

    const changes = { requests_per_minute: 60, expires_at: null, scopes: ['read'] }
    const changed = await stack.call('PATCH', `/api/v1/keys/${listed.id}`, { body: changes })
    expect(changed.body).toEqual({ ...listed, ...changes, budgets: [expect.objectContaining({ limit_usd: '0' })] })
    expect((await stack.submit({}, { key })).status).toBe(403)
    const unknown = `/api/v1/keys/${listed.id.slice(0, -4)}0000`
    expect((await stack.call('PATCH', unknown, { body: changes })).body.code).toBe('key_not_found')
    expect((await stack.call('GET', unknown)).body.code).toBe('key_not_found')
    await stack.call('DELETE', `/api/v1/budgets/${listed.budgets[0].id}`)
  })

  it('is rotated with an overlap, in which both secrets see its tasks', async () => {
    const { id, secret } = await stack.makeKey({ name: 'rotated' })
    const { body: task } = await stack.submit({}, { key: secret })
    const rotated = await stack.call('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 600 } })
    expect(rotated.body).toMatchObject({ id, previous_secrets: [{ hint: secret.slice(-4) }] })
    for (const key of [secret, rotated.body.key])
      expect((await stack.call('GET', task.urls.self, { key })).status).toBe(200)
    const ended = await stack.call('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 0 } })
    for (const key of [secret, rotated.body.key])
      expect((await stack.call('GET', task.urls.self, { key })).body.code).toBe('invalid_api_key')
    expect((await stack.call('GET', task.urls.self, { key: ended.body.key })).status).toBe(200)
    const admin = `/api/v1/keys/key_${'0'.repeat(12)}7000${'8000'.padEnd(16, '0')}/rotate`
    expect(await stack.call('POST', admin)).toMatchObject({ status: 422, body: { context: { field: '/id' } } })
  })

  it('may do what its scopes allow and nothing else', async () => {
    const { body } = await stack.submit()
    const id = body.task_id
    const routes: [scope: string, method: string, path: string][] = [
      ['submit', 'POST', '/api/v1/tasks/generate'],
      ['submit', 'POST', '/api/v1/tasks/poem'],
      ['submit', 'POST', `/api/v1/tasks/${id}/cancel`],
      ['read', 'GET', '/api/v1/tasks'],
      ['read', 'GET', `/api/v1/tasks/${id}`],
      ['read', 'GET', `/api/v1/tasks/${id}/events`],
      ['read', 'GET', '/api/v1/models'],
      ['admin', 'GET', '/api/v1/keys'],
      ['admin', 'POST', '/api/v1/keys'],
      ['admin', 'GET', `/api/v1/keys/${id}`],
      ['admin', 'PATCH', `/api/v1/keys/${id}`],
      ['admin', 'POST', `/api/v1/keys/${id}/rotate`],
      ['admin', 'DELETE', `/api/v1/keys/${id}`],
      ['admin', 'GET', '/api/v1/workers'],
      ['read', 'GET', '/api/v1/providers'],
      ['read', 'GET', '/api/v1/providers/anthropic/health'],
      ['read', 'GET', '/circuit-breaker'],
      ['admin', 'PUT', '/api/v1/providers/anthropic/limits'],
      ['admin', 'DELETE', '/api/v1/providers/anthropic/limits'],
      ['admin', 'GET', '/api/v1/analytics/costs'],
      ['admin', 'GET', '/cost'],
      ['admin', 'GET', '/api/v1/budgets'],
      ['admin', 'PUT', '/api/v1/budgets'],
      ['admin', 'DELETE', `/api/v1/budgets/${id}`],
      ['submit', 'GET', '/api/v1/keys/self/webhook-secret'],
      ['submit', 'POST', '/api/v1/keys/self/webhook-secret'],
      ['read', 'GET', '/api/v1/webhooks/deliveries'],
      ['submit', 'POST', `/api/v1/webhooks/deliveries/${id}/redeliver`],
    ]
    for (const own of ['submit', 'read']) {
      const { secret: key } = await stack.makeKey({ name: own, scopes: [own] })
      for (const [scope, method, path] of routes) {
        const answer = await stack.call(method, path, { key })
        if (scope === own) expect([401, 403], path).not.toContain(answer.status)
        else
          expect(answer).toMatchObject({ status: 403, body: { code: 'forbidden', context: { scope, scopes: [own] } } })
      }
    }
  })

  it('sees only its own tasks; an admin key sees all', async () => {
    const [{ secret: mine }, { secret: yours }] = [await stack.makeKey(), await stack.makeKey()]
    const { body } = await stack.submit({}, { key: mine })
    for (const [method, path] of [
      ['GET', body.urls.self],
      ['GET', `${body.urls.self}?wait=5`],
      ['GET', body.urls.events],
      ['POST', body.urls.cancel],
    ] as const) {
      const stranger = await stack.call(method, path, { key: yours })
      expect(stranger).toMatchObject({ status: 404, body: { code: 'task_not_found' } })
    }
    expect((await stack.call('GET', '/api/v1/tasks', { key: yours })).body.data).toEqual([])
    for (const key of [mine, ADMIN]) expect((await stack.call('GET', body.urls.self, { key })).status).toBe(200)
  })

  it('is limited, with Retry-After', async () => {
    const { secret: key } = await stack.makeKey({ name: 'limited', requests_per_minute: 1 })
    expect((await stack.call('GET', '/api/v1/tasks', { key })).status).toBe(200)
    const refused = await stack.call('GET', '/api/v1/tasks', { key })
    expect(refused).toMatchObject({ status: 429, body: { code: 'rate_limited', context: { requests_per_minute: 1 } } })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  })
})

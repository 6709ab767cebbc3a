import { describe, expect, it } from 'vitest'
import { ADMIN, sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

describe('the queue dashboard', () => {
  const basic = (secret: string) => ({
    key: null,
    headers: { authorization: `Basic ${Buffer.from(`anyone:${secret}`).toString('base64')}` },
  })

  it('asks browsers for a password', async () => {
    for (const path of ['/queues', '/queues/', '/queues/api/queues', '/queues/static/js/x.js']) {
      for (const [options, code] of [
        [{ key: null }, 'unauthenticated'],
        [basic('wrong'), 'invalid_api_key'],
        [basic(''), 'unauthenticated'],
      ] as const) {
        const answer = await stack.call('GET', path, options)
        expect(answer).toMatchObject({ status: 401, body: { code } })
        expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm="/)
      }
    }
  })

  it('is forbidden without the admin scope', async () => {
    const { secret } = await stack.makeKey()
    for (const options of [basic(secret), { key: secret }]) {
      const answer = await stack.call('GET', '/queues/api/queues', options)
      expect(answer).toMatchObject({ status: 403, body: { code: 'forbidden', context: { scope: 'admin' } } })
    }
  })

  it('loads with an admin key as password, with all its assets', async () => {
    const page = await stack.call('GET', '/queues/', basic(ADMIN))
    expect(page.status).toBe(200)
    const own = [...page.body.matchAll(/(?:href|src)="(static[^"]+)"/g)].map(match => `/queues/${match[1]}`)
    expect(own.length).toBeGreaterThan(2)
    for (const path of own) expect([path, (await stack.call('GET', path, basic(ADMIN))).status]).toEqual([path, 200])
  })

  it('is read-only', async () => {
    const queue = '/queues/api/queues/default'
    const state = async () => {
      const { isPaused, globalConcurrency, readOnlyMode } = (
        await stack.call('GET', '/queues/api/queues', basic(ADMIN))
      ).body.queues[0]
      return { isPaused, globalConcurrency, readOnlyMode }
    }
    const before = await state()
    expect(before).toEqual({ isPaused: false, globalConcurrency: null, readOnlyMode: true })
    const gate = stack.upstream.hold({ when: /dashboard/ })
    const { body } = await stack.submit({ input: { prompt: 'dashboard' } })
    await gate.waiting()
    const actions: [method: string, path: string, body?: object][] = [
      ['PUT', '/queues/api/queues/pause'],
      ['PUT', '/queues/api/queues/resume'],
      ['POST', `${queue}/add`, { name: 'x', data: {}, options: {} }],
      ['PUT', `${queue}/pause`],
      ['PUT', `${queue}/resume`],
      ['PUT', `${queue}/empty`],
      ['PUT', `${queue}/obliterate`],
      ['PUT', `${queue}/promote`],
      ['PUT', `${queue}/retry/failed`],
      ['PUT', `${queue}/clean/failed`],
      ['PUT', `${queue}/concurrency`, { concurrency: 1 }],
      ['PUT', `${queue}/rate-limit`, { max: 1, duration: 1000 }],
    ]
    const url = `http://127.0.0.1:${stack.api.port}`
    for (const [method, path, json] of actions) {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { ...basic(ADMIN).headers, ...(json && { 'content-type': 'application/json' }) },
        ...(json && { body: JSON.stringify(json) }),
      })
      // Actions on all queues skip read-only ones.
      if (path.startsWith(queue)) expect(response.status, `${method} ${path}`).toBeGreaterThanOrEqual(400)
      expect(await state(), `${method} ${path}`).toEqual(before)
    }
    gate.release()
    expect((await stack.call('GET', `${body.urls.self}?wait=30`)).body.status).toBe('succeeded')
  })
})

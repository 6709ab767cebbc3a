import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startMachine } from '#shared/testing/machine.ts'
import { type Received, type Receiver, startReceiver } from '#shared/testing/receiver.ts'

const machine = startMachine()
let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(() => {
  receiver.received.length = 0
  receiver.answers(response => response.writeHead(204).end())
})

const LOG = '/api/v1/webhooks/deliveries'
const unwrap = ({ body, headers }: Received, webhookSecret: string) =>
  new OpenAI({ apiKey: 'none', webhookSecret }).webhooks.unwrap(body, headers as Record<string, string>)
/** The log's rows of a task, once all of them fit. */
const logged = async (task: string, fits: object) => {
  await expect
    .poll(async () => (await machine.call('GET', `${LOG}?task_id=${task}`)).body.data, { timeout: 20_000 })
    .toEqual([expect.objectContaining(fits)])
  return (await machine.call('GET', `${LOG}?task_id=${task}`)).body.data[0]
}

describe('a task with a webhook', () => {
  it('is told of by an event that the openai library believes, and that its key finds in the log', async () => {
    const { secret: key, webhookSecret } = await machine.makeKey()
    const webhook_url = `${receiver.url}/hook`
    const { task_id } = (await machine.submit({ options: { webhook_url } }, { key })).body
    const [event] = await receiver.until(1)
    const said = await unwrap(event!, webhookSecret)
    expect(said).toMatchObject({ object: 'event', type: 'task.succeeded', data: { id: task_id } })
    expect(await logged(task_id, { status: 'delivered' })).toEqual({
      id: said.id,
      type: 'task.succeeded',
      data: { id: task_id },
      url: webhook_url,
      status: 'delivered',
      attempts: 1,
      last_status: 204,
      last_error: null,
      next_attempt_at: null,
      created_at: expect.any(String),
      delivered_at: expect.any(String),
    })
    expect((await machine.call('GET', LOG, { key })).body).toMatchObject({ data: [{ id: said.id }], has_more: false })
  })

  it('is told of once when the cache answers, as it is accepted or later', async () => {
    const body = (path: string) => ({
      input: { prompt: 'the same again' },
      options: { cache: 'use', webhook_url: `${receiver.url}${path}` },
    })
    // Where it is told has no say in the answer.
    const first = await machine.finished(body('/first'))
    const second = await machine.submit(body('/second'))
    expect(second).toMatchObject({ status: 200, body: { source: 'cache' } })
    for (const [path, { task_id }] of [['/first', first] as const, ['/second', second.body] as const]) {
      await logged(task_id, { status: 'delivered' })
      const events = receiver.received.filter(one => one.path === path).map(one => JSON.parse(one.body))
      expect(events).toMatchObject([{ type: 'task.succeeded', data: { id: task_id } }])
    }
  })

  it('that follows an identical one is told of itself', async () => {
    const gate = machine.upstream.hold({ when: /followed/ })
    const body = (path: string) => ({
      input: { prompt: 'to be followed' },
      options: { cache: 'use', webhook_url: `${receiver.url}${path}` },
    })
    const leader = (await machine.submit(body('/leader'))).body
    await gate.waiting()
    const follower = (await machine.submit(body('/follower'))).body
    await expect
      .poll(() => machine.sql(`SELECT 1 FROM tasks WHERE leader_id IS NOT NULL`), { timeout: 20_000 })
      .toHaveLength(1)
    gate.release()
    const events = await receiver.until(2)
    const seen = events.map(one => [one.path, JSON.parse(one.body).type, JSON.parse(one.body).data.id])
    expect(seen.toSorted()).toEqual([
      ['/follower', 'task.succeeded', follower.task_id],
      ['/leader', 'task.succeeded', leader.task_id],
    ])
    for (const { task_id } of [leader, follower]) await logged(task_id, { status: 'delivered', attempts: 1 })
  })

  it.each([
    ['cancelled', { prompt: 'cancel me' }, {}],
    ['expired', { prompt: 'too slow' }, { deadline_seconds: 1, fallback: 'none' }],
    ['failed', { prompt: 'refuse me' }, {}],
  ])('that is %s is told of once', async (status, input, options) => {
    const held = status === 'failed' ? null : machine.upstream.hold({ when: new RegExp(input.prompt) })
    if (!held) machine.upstream.script({ when: input.prompt, status: 400, message: 'no' })
    const webhook_url = `${receiver.url}/${status}`
    const { task_id, urls } = (await machine.submit({ input, options: { ...options, webhook_url } })).body
    if (status === 'cancelled') await machine.call('POST', urls.cancel)
    const [event] = await receiver.until(1, one => one.path === `/${status}`)
    expect(JSON.parse(event!.body)).toMatchObject({ type: `task.${status}`, data: { id: task_id } })
    await logged(task_id, { status: 'delivered', attempts: 1 })
    held?.release()
  })

  it.each([
    ['http://10.0.0.1/hook', /not allowed/],
    ['https://169.254.169.254/latest', /not allowed/],
    ['https://[::ffff:127.0.0.1]/', /not allowed/],
    ['https://user:secret@my.app/', /user name/],
    ['ftp://my.app/', /https/],
    ['my.app', /not a URL/],
  ])('is not accepted with %.40s, and the answer names the field', async (webhook_url, detail) => {
    const answer = await machine.submit({ options: { webhook_url } })
    expect(answer).toMatchObject({
      status: 422,
      body: { code: 'invalid_request', context: { field: '/options/webhook_url' } },
    })
    expect(answer.body.detail).toMatch(detail)
    expect(answer.body.detail).not.toContain('secret')
  })

  it('goes on being told of when its key is revoked, as it goes on itself', async () => {
    const { id, secret: key, webhookSecret } = await machine.makeKey()
    const gate = machine.upstream.hold({ when: /revoked/ })
    const webhook_url = `${receiver.url}/revoked`
    await machine.submit({ input: { prompt: 'revoked' }, options: { webhook_url } }, { key })
    await machine.call('DELETE', `/api/v1/keys/${id}`)
    gate.release()
    const [event] = await receiver.until(1, one => one.path === '/revoked')
    expect(await unwrap(event!, webhookSecret)).toMatchObject({ type: 'task.succeeded' })
  })
})

describe('the secret of a key', () => {
  it('is read and replaced by the key itself, or by an admin, and signs from then on', async () => {
    const { id, secret: key, webhookSecret } = await machine.makeKey()
    expect(webhookSecret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    for (const [name, how] of [
      ['self', { key }],
      [id, { key }],
      [id, {}],
    ] as const)
      expect((await machine.call('GET', `/api/v1/keys/${name}/webhook-secret`, how)).body).toEqual({
        id,
        webhook_secret: webhookSecret,
      })
    const { webhook_secret: replaced } = (await machine.call('POST', '/api/v1/keys/self/webhook-secret', { key })).body
    expect(replaced).toMatch(/^whsec_/)
    expect(replaced).not.toBe(webhookSecret)
    expect((await machine.call('GET', `/api/v1/keys/${id}/webhook-secret`)).body.webhook_secret).toBe(replaced)
    await machine.submit({ options: { webhook_url: `${receiver.url}/rotated` } }, { key })
    const [event] = await receiver.until(1, one => one.path === '/rotated')
    await expect(unwrap(event!, webhookSecret)).rejects.toThrow()
    expect(await unwrap(event!, replaced)).toMatchObject({ type: 'task.succeeded' })
  })

  it('is nobody else’s, as if there were no such key', async () => {
    const [{ id }, { secret: other }] = [await machine.makeKey(), await machine.makeKey()]
    for (const method of ['GET', 'POST'])
      for (const name of [id, 'key_1', `key_${'0'.repeat(32)}`])
        expect(await machine.call(method, `/api/v1/keys/${name}/webhook-secret`, { key: other })).toMatchObject({
          status: 404,
          body: { code: 'key_not_found' },
        })
    await machine.call('DELETE', `/api/v1/keys/${id}`)
    expect((await machine.call('GET', `/api/v1/keys/${id}/webhook-secret`)).status).toBe(404)
  })
})

describe('the log', () => {
  it('has what failed, which can be sent again, by the same id', async () => {
    receiver.answers(response => response.writeHead(410).end())
    const { secret: key, webhookSecret } = await machine.makeKey()
    const { task_id } = (await machine.submit({ options: { webhook_url: receiver.url } }, { key })).body
    const failed = await logged(task_id, { status: 'failed' })
    expect(failed).toMatchObject({ attempts: 1, last_status: 410, last_error: 'answered 410', delivered_at: null })
    expect((await machine.call('GET', `${LOG}?status=failed`, { key })).body.data).toEqual([failed])
    expect((await machine.call('GET', `${LOG}?status=delivered`, { key })).body.data).toEqual([])

    receiver.answers(response => response.writeHead(200).end())
    const again = await machine.call('POST', `${LOG}/${failed.id}/redeliver`, { key })
    expect(again).toMatchObject({ status: 202, body: { id: failed.id, next_attempt_at: expect.any(String) } })
    await logged(task_id, { status: 'delivered', attempts: 2, last_error: null })
    const [first, second] = receiver.received
    expect(second!.headers['webhook-id']).toBe(first!.headers['webhook-id'])
    expect(await unwrap(second!, webhookSecret)).toMatchObject({ id: failed.id })
  })

  it('is each key’s own, in pages', async () => {
    const [{ secret: mine }, { secret: yours }] = [await machine.makeKey(), await machine.makeKey()]
    for (let n = 0; n < 3; n++) await machine.submit({ options: { webhook_url: receiver.url } }, { key: mine })
    await receiver.until(3)
    const all = (await machine.call('GET', LOG, { key: mine })).body.data
    expect(all).toHaveLength(3)
    const first = (await machine.call('GET', `${LOG}?limit=2`, { key: mine })).body
    expect(first).toMatchObject({ has_more: true, next: all[1].id })
    const second = (await machine.call('GET', `${LOG}?limit=2&after=${first.next}`, { key: mine })).body
    expect(second).toMatchObject({ has_more: false, next: null })
    const ids = [...first.data, ...second.data].map(one => one.id)
    expect(ids).toEqual(all.map((one: { id: string }) => one.id))

    expect((await machine.call('GET', LOG, { key: yours })).body.data).toEqual([])
    expect((await machine.call('GET', `${LOG}?task_id=${all[0].data.id}`, { key: yours })).body.data).toEqual([])
    for (const id of [all[0].id, 'evt_1', `evt_${'0'.repeat(32)}`])
      expect(await machine.call('POST', `${LOG}/${id}/redeliver`, { key: yours })).toMatchObject({
        status: 404,
        body: { code: 'delivery_not_found' },
      })
  })

  it.each([
    'task_id=batch_1',
    'batch_id=task_1',
    'after=x',
    'status=lost',
    'limit=0',
    `task_id=task_${'0'.repeat(32)}&batch_id=batch_${'0'.repeat(32)}`,
  ])('is not asked for with %s', async query => {
    const answer = await machine.call('GET', `${LOG}?${query}`)
    expect(answer).toMatchObject({ status: 422, body: { code: 'invalid_request', context: { in: 'querystring' } } })
  })
})

it('what was sent is counted, and what waits', async () => {
  await machine.finished({ options: { webhook_url: receiver.url } })
  await receiver.until(1)
  const scrape = async (port: number) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  await expect
    .poll(() => scrape(machine.worker.port))
    .toMatch(/^sluice_webhook_attempts_total\{outcome="delivered",.*\} [1-9]/m)
  await expect.poll(() => scrape(machine.api.port)).toMatch(/^sluice_webhook_deliveries_pending\{.*\} \d/m)
})

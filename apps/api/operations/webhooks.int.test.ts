import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Received, type Receiver, startReceiver } from '#shared/testing/receiver.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
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
/** The deliveries of a task, once all of them match. */
const logged = async (task: string, fits: object) => {
  await expect
    .poll(async () => (await stack.call('GET', `${LOG}?task_id=${task}`)).body.data, { timeout: 20_000 })
    .toEqual([expect.objectContaining(fits)])
  return (await stack.call('GET', `${LOG}?task_id=${task}`)).body.data[0]
}

describe('a task with a webhook', () => {
  it('sends an event that the openai library verifies and the log of its key shows', async () => {
    const { secret: key, webhookSecret } = await stack.makeKey()
    const webhook_url = `${receiver.url}/hook`
    const { task_id } = (await stack.submit({ options: { webhook_url } }, { key })).body
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
    expect((await stack.call('GET', LOG, { key })).body).toMatchObject({ data: [{ id: said.id }], has_more: false })
  })

  it('sends one event when the cache answers, at once or later', async () => {
    const body = (path: string) => ({
      input: { prompt: 'the same again' },
      options: { cache: 'use', webhook_url: `${receiver.url}${path}` },
    })
    // The webhook URL is not part of the cache key.
    const first = await stack.finished(body('/first'))
    const second = await stack.submit(body('/second'))
    expect(second).toMatchObject({ status: 200, body: { source: 'cache' } })
    for (const [path, { task_id }] of [['/first', first] as const, ['/second', second.body] as const]) {
      await logged(task_id, { status: 'delivered' })
      const events = receiver.received.filter(one => one.path === path).map(one => JSON.parse(one.body))
      expect(events).toMatchObject([{ type: 'task.succeeded', data: { id: task_id } }])
    }
  })

  it('sends its own event as a follower of an identical task', async () => {
    const gate = stack.upstream.hold({ when: /followed/ })
    const body = (path: string) => ({
      input: { prompt: 'to be followed' },
      options: { cache: 'use', webhook_url: `${receiver.url}${path}` },
    })
    const leader = (await stack.submit(body('/leader'))).body
    await gate.waiting()
    const follower = (await stack.submit(body('/follower'))).body
    await expect
      .poll(() => stack.sql(`SELECT 1 FROM tasks WHERE leader_id = '${leader.task_id.slice('task_'.length)}'`))
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
  ])('sends one event when it is %s', async (status, input, options) => {
    const held = status === 'failed' ? null : stack.upstream.hold({ when: new RegExp(input.prompt) })
    if (!held) stack.upstream.script({ when: input.prompt, status: 400, message: 'no' })
    const webhook_url = `${receiver.url}/${status}`
    const { task_id, urls } = (await stack.submit({ input, options: { ...options, webhook_url } })).body
    if (status === 'cancelled') await stack.call('POST', urls.cancel)
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
  ])('is refused with the URL %.40s', async (webhook_url, detail) => {
    const answer = await stack.submit({ options: { webhook_url } })
    expect(answer).toMatchObject({
      status: 422,
      body: { code: 'invalid_request', context: { field: '/options/webhook_url' } },
    })
    expect(answer.body.detail).toMatch(detail)
    expect(answer.body.detail).not.toContain('secret')
  })

  it('sends its event after its key was revoked', async () => {
    const { id, secret: key, webhookSecret } = await stack.makeKey()
    const gate = stack.upstream.hold({ when: /revoked/ })
    const webhook_url = `${receiver.url}/revoked`
    await stack.submit({ input: { prompt: 'revoked' }, options: { webhook_url } }, { key })
    await stack.call('DELETE', `/api/v1/keys/${id}`)
    gate.release()
    const [event] = await receiver.until(1, one => one.path === '/revoked')
    expect(await unwrap(event!, webhookSecret)).toMatchObject({ type: 'task.succeeded' })
  })
})

describe('a webhook secret', () => {
  const secretsOf = (key: string) => stack.call('GET', '/api/v1/keys/self/webhook-secret', { key })
  const rotate = (key: string, body?: object) =>
    stack.call('POST', '/api/v1/keys/self/webhook-secret', { key, ...(body && { body }) })
  /** The secrets with which the openai library verifies the next event. */
  async function accepted(key: string, secrets: string[]): Promise<boolean[]> {
    const path = `/${crypto.randomUUID()}`
    await stack.submit({ options: { webhook_url: `${receiver.url}${path}` } }, { key })
    const [event] = await receiver.until(1, one => one.path === path)
    return Promise.all(secrets.map(secret => unwrap(event!, secret).then(Boolean, () => false)))
  }

  it('is readable by its key and by an admin', async () => {
    const { id, secret: key, webhookSecret } = await stack.makeKey()
    expect(webhookSecret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    for (const [name, how] of [
      ['self', { key }],
      [id, { key }],
      [id, {}],
    ] as const)
      expect((await stack.call('GET', `/api/v1/keys/${name}/webhook-secret`, how)).body).toEqual({
        id,
        webhook_secret: webhookSecret,
        previous: [],
      })
  })

  it('is rotated with an overlap of one day in which both secrets sign', async () => {
    const { id, secret: key, webhookSecret } = await stack.makeKey()
    const { body } = await rotate(key)
    expect(body).toEqual({
      id,
      webhook_secret: expect.stringMatching(/^whsec_/),
      previous: [{ webhook_secret: webhookSecret, expires_at: expect.any(String) }],
    })
    expect(body.webhook_secret).not.toBe(webhookSecret)
    const [{ hours }] = (await stack.sql<{ hours: number }>(
      `SELECT extract(epoch FROM signs_until - retired_at)::float8 / 3600 AS hours FROM retired_webhook_secrets
        WHERE api_key_id = '${id.slice('key_'.length)}'`,
    )) as [{ hours: number }]
    expect(hours).toBe(24)
    expect((await secretsOf(key)).body).toEqual(body)
    expect(await accepted(key, [body.webhook_secret, webhookSecret])).toEqual([true, true])
  })

  it('still signs after two rotations, because a client may retry a rotation', async () => {
    const { secret: key, webhookSecret } = await stack.makeKey()
    const second = (await rotate(key, { overlap_seconds: 600 })).body.webhook_secret
    const third = (await rotate(key, { overlap_seconds: 600 })).body.webhook_secret
    expect(await accepted(key, [third, second, webhookSecret])).toEqual([true, true, true])
  })

  it('stops signing at once after a rotation with overlap 0', async () => {
    const { secret: key, webhookSecret } = await stack.makeKey()
    const second = (await rotate(key, { overlap_seconds: 600 })).body.webhook_secret
    const { body } = await rotate(key, { overlap_seconds: 0 })
    expect(body.previous).toEqual([])
    expect(await accepted(key, [body.webhook_secret, second, webhookSecret])).toEqual([true, false, false])
  })

  it('stops signing when its overlap ends by the clock of Postgres', async () => {
    const { id, secret: key, webhookSecret } = await stack.makeKey()
    const { body } = await rotate(key, { overlap_seconds: 600 })
    await stack.sql(
      `UPDATE retired_webhook_secrets SET signs_until = now() WHERE api_key_id = '${id.slice('key_'.length)}'`,
    )
    expect(await accepted(key, [body.webhook_secret, webhookSecret])).toEqual([true, false])
    expect((await secretsOf(key)).body.previous).toEqual([])
  })

  it('signs redeliveries together with the secret of the first delivery', async () => {
    const { secret: key, webhookSecret } = await stack.makeKey()
    receiver.answers(response => response.writeHead(410).end())
    const { task_id } = (await stack.submit({ options: { webhook_url: `${receiver.url}/again` } }, { key })).body
    const { id } = await logged(task_id, { status: 'failed' })
    const { body } = await rotate(key)
    await stack.call('POST', `${LOG}/${id}/redeliver`, { key })
    const [first, second] = await receiver.until(2, one => one.path === '/again')
    expect(String(first!.headers['webhook-signature']).split(' ')).toHaveLength(1)
    expect(String(second!.headers['webhook-signature'])).toMatch(/^v1,\S+ v1,\S+$/)
    for (const secret of [body.webhook_secret, webhookSecret])
      expect(await unwrap(second!, secret)).toMatchObject({ type: 'task.succeeded' })
  })

  it.each([-1, 604_801, 1.5, '60'])('refuses an overlap of %j', async overlap_seconds => {
    const { secret: key } = await stack.makeKey()
    expect(await rotate(key, { overlap_seconds })).toMatchObject({
      status: 422,
      body: { code: 'invalid_request', context: { field: '/overlap_seconds' } },
    })
  })

  it('is 404 for other keys', async () => {
    const [{ id }, { secret: other }] = [await stack.makeKey(), await stack.makeKey()]
    for (const method of ['GET', 'POST'])
      for (const name of [id, 'key_1', `key_${'0'.repeat(32)}`])
        expect(await stack.call(method, `/api/v1/keys/${name}/webhook-secret`, { key: other })).toMatchObject({
          status: 404,
          body: { code: 'key_not_found' },
        })
    await stack.call('DELETE', `/api/v1/keys/${id}`)
    expect((await stack.call('GET', `/api/v1/keys/${id}/webhook-secret`)).status).toBe(404)
  })
})

describe('the delivery log', () => {
  it('shows failed deliveries, which can be redelivered under the same id', async () => {
    receiver.answers(response => response.writeHead(410).end())
    const { secret: key, webhookSecret } = await stack.makeKey()
    const { task_id } = (await stack.submit({ options: { webhook_url: receiver.url } }, { key })).body
    const failed = await logged(task_id, { status: 'failed' })
    expect(failed).toMatchObject({ attempts: 1, last_status: 410, last_error: 'answered 410', delivered_at: null })
    expect((await stack.call('GET', `${LOG}?status=failed`, { key })).body.data).toEqual([failed])
    expect((await stack.call('GET', `${LOG}?status=delivered`, { key })).body.data).toEqual([])

    receiver.answers(response => response.writeHead(200).end())
    const again = await stack.call('POST', `${LOG}/${failed.id}/redeliver`, { key })
    expect(again).toMatchObject({ status: 202, body: { id: failed.id, next_attempt_at: expect.any(String) } })
    await logged(task_id, { status: 'delivered', attempts: 2, last_error: null })
    const [first, second] = receiver.received
    expect(second!.headers['webhook-id']).toBe(first!.headers['webhook-id'])
    expect(await unwrap(second!, webhookSecret)).toMatchObject({ id: failed.id })
  })

  it('belongs to its key and is paged', async () => {
    const [{ secret: mine }, { secret: yours }] = [await stack.makeKey(), await stack.makeKey()]
    for (let n = 0; n < 3; n++) await stack.submit({ options: { webhook_url: receiver.url } }, { key: mine })
    await receiver.until(3)
    const all = (await stack.call('GET', LOG, { key: mine })).body.data
    expect(all).toHaveLength(3)
    const first = (await stack.call('GET', `${LOG}?limit=2`, { key: mine })).body
    expect(first).toMatchObject({ has_more: true, next: all[1].id })
    const second = (await stack.call('GET', `${LOG}?limit=2&after=${first.next}`, { key: mine })).body
    expect(second).toMatchObject({ has_more: false, next: null })
    const ids = [...first.data, ...second.data].map(one => one.id)
    expect(ids).toEqual(all.map((one: { id: string }) => one.id))

    expect((await stack.call('GET', LOG, { key: yours })).body.data).toEqual([])
    expect((await stack.call('GET', `${LOG}?task_id=${all[0].data.id}`, { key: yours })).body.data).toEqual([])
    for (const id of [all[0].id, 'evt_1', `evt_${'0'.repeat(32)}`])
      expect(await stack.call('POST', `${LOG}/${id}/redeliver`, { key: yours })).toMatchObject({
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
  ])('refuses the query %s', async query => {
    const answer = await stack.call('GET', `${LOG}?${query}`)
    expect(answer).toMatchObject({ status: 422, body: { code: 'invalid_request', context: { in: 'querystring' } } })
  })
})

it('metrics count webhook attempts and pending deliveries', async () => {
  await stack.finished({ options: { webhook_url: receiver.url } })
  await receiver.until(1)
  const scrape = async (port: number) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  await expect
    .poll(() => scrape(stack.worker.port))
    .toMatch(/^sluice_webhook_attempts_total\{outcome="delivered",.*\} [1-9]/m)
  await expect.poll(() => scrape(stack.api.port)).toMatch(/^sluice_webhook_deliveries_pending\{.*\} \d/m)
})

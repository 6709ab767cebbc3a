import { randomUUID } from 'node:crypto'
import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import type { Db } from '#shared/db/pool.ts'
import { createFinisher } from '#shared/db/tasks/finish.ts'
import { createInserter } from '#shared/db/tasks/insert.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createLogger } from '#shared/process/logger.ts'
import { ask, fileDatabase, newTask } from '#shared/testing/postgres.ts'
import { type Receiver, startReceiver } from '#shared/testing/receiver.ts'
import { startWebhookDelivery } from './deliver.ts'
import { formatSecret } from './event.ts'
import { createSend } from './send.ts'
import { parseTargetPolicy } from './target.ts'

const database = fileDatabase(2)
const apiKeyId = randomUUID()
let db: Db
let receiver: Receiver
let hanging: Receiver
beforeAll(async () => {
  ;[receiver, hanging] = await Promise.all([startReceiver(), startReceiver()])
  hanging.answers(() => {})
})
afterAll(() => Promise.all([receiver.close(), hanging.close()]))
beforeEach(async () => {
  db = database.dbs[0]
  for (const one of [receiver, hanging]) one.received.length = 0
  receiver.answers(response => response.writeHead(204).end())
  await ask(db, `INSERT INTO api_keys (id, name, secret_hash, hint, scopes) VALUES ($1, 'k', '\\x01', 'h', '{}')`, [
    apiKeyId,
  ])
})

const policy = parseTargetPolicy('127.0.0.0/8')

/** Runs delivery like a worker process until the test ends. */
function start({ of = db, allow = policy, timeoutMs = 10_000 } = {}) {
  const metrics = createMetrics('worker')
  const stop = startWebhookDelivery({
    db: of,
    config: { webhookTargets: allow },
    metrics,
    tracing: null,
    logger: createLogger({ level: 'silent', name: 'test' }),
    send: createSend({ policy: allow, timeoutMs }),
  })
  onTestFinished(stop)
  const counted = async () => {
    const { values } = await metrics.webhookAttempts.get()
    return Object.fromEntries(values.map(({ labels, value }) => [labels.outcome, value]))
  }
  return { stop, counted }
}

/** Finished tasks with a due event. */
async function finishTasks(webhookUrl: string, count = 1): Promise<string[]> {
  const tasks = Array.from({ length: count }, () => newTask({ apiKeyId, webhookUrl }))
  const insert = createInserter(db)
  await Promise.all(tasks.map(insert))
  const end = createFinisher(db, () => {})
  const how = { status: 'failed', from: 'live', epoch: null, workerId: null, settlement: null } as const
  await Promise.all(tasks.map(({ id }) => end({ id, ...how })))
  return tasks.map(task => task.id)
}

type Row = { status: string; attempts: number; last_status: number | null; last_error: string | null; due: boolean }
const rows = () => ask<Row>(db, 'SELECT *, next_at <= now() AS due FROM webhook_deliveries ORDER BY id')
/** Resolves when every delivery has at least this number of settled attempts. */
const settled = async (attempts = 1): Promise<Row[]> => {
  const done = (row: Row) => row.attempts >= attempts && (row.last_status !== null || row.last_error !== null)
  return expect
    .poll(async () => (await rows()).every(done), { timeout: 20_000 })
    .toBe(true)
    .then(rows)
}
/** Retries start after ten seconds at most, which the test does not wait for, so that attempts can be counted. */
function retriesLate(): void {
  const random = vi.spyOn(Math, 'random').mockReturnValue(0.999)
  onTestFinished(() => random.mockRestore())
}
/** Makes all next attempts due. */
const hasten = () => ask(db, `UPDATE webhook_deliveries SET next_at = now(), last_status = NULL, last_error = NULL`)

it('an event is sent with a signature that the openai library accepts', async () => {
  const [id] = await finishTasks(`${receiver.url}/hook`)
  const [key] = await ask<{ webhook_secret: Buffer }>(db, 'SELECT webhook_secret FROM api_keys')
  const { counted } = start()
  const [event] = await receiver.until(1)
  const { webhooks } = new OpenAI({ apiKey: 'none', webhookSecret: formatSecret(key!.webhook_secret) })
  expect(await webhooks.unwrap(event!.body, event!.headers as Record<string, string>)).toEqual({
    id: event!.headers['webhook-id'],
    object: 'event',
    created_at: expect.closeTo(Date.now() / 1000, -1),
    type: 'task.failed',
    data: { id: `task_${id!.replaceAll('-', '')}` },
  })
  expect(event).toMatchObject({ path: '/hook', headers: { 'content-type': 'application/json' } })
  expect(await settled()).toMatchObject([{ status: 'delivered', attempts: 1, last_status: 204, last_error: null }])
  expect(await counted()).toEqual({ delivered: 1 })
})

it('a failed delivery is retried under the same id with a new signature', async () => {
  retriesLate()
  receiver.answers(response => response.writeHead(500).end())
  await finishTasks(receiver.url)
  const { counted } = start()
  expect(await settled()).toMatchObject([
    { status: 'pending', attempts: 1, last_status: 500, last_error: 'answered 500' },
  ])
  receiver.answers(response => response.writeHead(200).end())
  await hasten()
  expect(await settled(2)).toMatchObject([{ status: 'delivered', attempts: 2, last_status: 200, last_error: null }])
  const ids = receiver.received.map(one => one.headers['webhook-id'])
  expect(ids).toEqual([ids[0], ids[0]])
  expect(await counted()).toEqual({ refused: 1, delivered: 1 })
})

it.each([
  [302, 'pending', 'answered 302; redirects are not followed'],
  [410, 'failed', 'answered 410'],
  [429, 'pending', 'answered 429'],
])('a response with status %i: the delivery is %s', async (status, became, last_error) => {
  receiver.answers(response => response.writeHead(status, { location: hanging.url, 'retry-after': '1800' }).end())
  await finishTasks(receiver.url)
  start()
  expect(await settled()).toMatchObject([{ status: became, last_status: status, last_error, due: expect.any(Boolean) }])
  if (became === 'pending') {
    const [left] = await ask<{ seconds: number }>(
      db,
      'SELECT extract(epoch FROM next_at - now())::float8 AS seconds FROM webhook_deliveries',
    )
    expect(left!.seconds).toBeGreaterThan(1700)
    expect(left!.seconds).toBeLessThanOrEqual(1800)
  }
  expect(hanging.received).toEqual([])
})

it('a forbidden target gets no request under any name, and its address is not revealed', async () => {
  retriesLate()
  for (const host of ['127.0.0.1', 'localhost', '[::1]']) await finishTasks(`http://${host}:${receiver.port}/`)
  const { counted } = start({ allow: parseTargetPolicy('10.0.0.0/8') })
  for (const row of await settled()) {
    expect(row).toMatchObject({ status: 'pending', last_status: null })
    expect(row.last_error).toMatch(/^the target is not allowed/)
    expect(row.last_error).not.toContain('127')
  }
  expect(await counted()).toEqual({ forbidden: 3 })
  expect(receiver.received).toEqual([])
})

it('one host that hangs with thousands of events does not delay the others', async () => {
  await finishTasks(hanging.url, 3000)
  start({ timeoutMs: 600_000 })
  await hanging.until(8)
  const ids = await finishTasks(receiver.url, 100)
  const came = await receiver.until(100)
  // Deliveries that hang cannot have timed out by then.
  expect((await rows()).filter(row => row.last_error !== null)).toEqual([])
  expect(new Set(came.map(one => JSON.parse(one.body).data.id)).size).toBe(ids.length)
  expect(hanging.received).toHaveLength(8)
})

it('two processes send each event once', async () => {
  await finishTasks(receiver.url, 300)
  for (const of of database.dbs) start({ of })
  await settled()
  const ids = receiver.received.map(one => one.headers['webhook-id'])
  expect(ids).toHaveLength(300)
  expect(new Set(ids).size).toBe(300)
})

it('a process that stops releases unfinished deliveries, and another one sends them at once', async () => {
  await finishTasks(hanging.url)
  const { stop } = start()
  await hanging.until(1)
  await stop()
  expect(await rows()).toMatchObject([{ status: 'pending', attempts: 1, last_error: 'interrupted', due: true }])
  start({ of: database.dbs[1] })
  await hanging.until(2)
})

it('another process sends the deliveries of a dead one, under the same ids', async () => {
  await finishTasks(receiver.url)
  receiver.answers(() => {})
  start()
  const [first] = await receiver.until(1)
  start({ of: database.dbs[1] })
  receiver.answers(response => response.writeHead(204).end())
  await database.clock.advance(31)
  const [, second] = await receiver.until(2)
  expect(second!.headers['webhook-id']).toBe(first!.headers['webhook-id'])
  await expect.poll(rows).toMatchObject([{ status: 'delivered', attempts: 2 }])
})

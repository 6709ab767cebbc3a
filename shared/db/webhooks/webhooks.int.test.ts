import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, type Clock, fileDatabase, newTask } from '#shared/testing/postgres.ts'
import type { Db } from '../pool.ts'
import { createFinisher, type TaskOutcome } from '../tasks/finish.ts'
import { createFollower } from '../tasks/follow.ts'
import { createInserter } from '../tasks/insert.ts'
import type { NewTask } from '../tasks/new-task.ts'
import { insertWebhooks } from './insert.ts'
import { leaseDeliveries } from './lease.ts'
import { createDeliveryLister, type DeliveryFilter, pruneDeliveries, readDeliveryBacklog, redeliver } from './log.ts'
import { createDeliverySettler, type DeliveryOutcome } from './settle.ts'

/** Webhook deliveries in the database. */

const database = fileDatabase(2)
let db: Db
let clock: Clock
beforeEach(() => {
  db = database.dbs[0]
  clock = database.clock
})

const URL = 'https://my.app/hook'

async function accept(more: Partial<NewTask> = {}): Promise<string> {
  const task = newTask({ webhookUrl: URL, ...more })
  expect(await createInserter(db)(task)).toMatchObject({ kind: 'inserted' })
  return task.id
}
const end = (id: string, more: Partial<TaskOutcome> = {}) =>
  createFinisher(db, () => {})({
    id,
    status: 'succeeded',
    from: 'live',
    epoch: null,
    workerId: null,
    settlement: null,
    ...more,
  })
type Row = { id: string; type: string; subject_id: string; url: string; status: string; attempts: number }
const rows = () => ask<Row>(db, 'SELECT * FROM webhook_deliveries ORDER BY id')
const sentWebhooks = async () => (await rows()).map(row => [row.subject_id, row.type, row.url])
const lease = async (more: Partial<Parameters<typeof leaseDeliveries>[1]> = {}, of = db) =>
  (await leaseDeliveries(of, { hosts: [], perHost: 100, keys: [], perKey: 100, limit: 100, ...more })).leased
const settle = (one: { id: string; attempts: number }, more: Partial<DeliveryOutcome> = {}) =>
  createDeliverySettler(db)({ ...one, delivered: false, status: 500, error: 'answered 500', waitMs: 1000, ...more })

/** Due deliveries to one host. */
async function plant(host: string, count: number, apiKeyId: string | null = null): Promise<void> {
  await ask(
    db,
    `INSERT INTO webhook_deliveries (id, api_key_id, type, subject_id, url, next_at, created_at)
      SELECT gen_random_uuid(), coalesce($3::uuid, gen_random_uuid()), 'task.succeeded', gen_random_uuid(), 'https://' || $1 || '/hook?' || n, now(), now() FROM generate_series(1, $2::int) n`,
    [host, count, apiKeyId],
  )
}
const hostsOf = (leased: { host: string }[]) => {
  const counts: Record<string, number> = {}
  for (const { host } of leased) counts[host] = (counts[host] ?? 0) + 1
  return counts
}

describe('a finished task', () => {
  it.each(['succeeded', 'failed', 'cancelled', 'expired'] as const)('sends one webhook: %s', async status => {
    const [id, silent] = [await accept(), await accept({ webhookUrl: null })]
    for (const one of [id, silent, id]) await end(one, { status })
    expect(await sentWebhooks()).toEqual([[id, `task.${status}`, URL]])
  })

  it('two finishers race: one webhook is sent', async () => {
    const id = await accept()
    const [first, second] = database.dbs.map(one => createFinisher(one, () => {}))
    const how = { id, from: 'live', epoch: null, workerId: null, settlement: null } as const
    await Promise.all([first!({ ...how, status: 'cancelled' }), second!({ ...how, status: 'expired' })])
    expect(await sentWebhooks()).toHaveLength(1)
  })

  it.each([null, { key: 'k', requestHash: Buffer.alloc(32) }])(
    'sends its webhook if it was answered from the cache at once, or ended later',
    async idempotency => {
      const answer = { result: { text: 'Hi' }, provider: 'p', model: 'm' }
      const id = await accept({ answer, idempotency })
      await accept({ idempotency: idempotency && { ...idempotency, key: 'other' } })
      await accept({ answer, webhookUrl: null, idempotency: idempotency && { ...idempotency, key: 'third' } })
      expect(await sentWebhooks()).toEqual([[id, 'task.succeeded', URL]])
    },
  )

  it('a repeated request sends no webhook', async () => {
    const how = {
      apiKeyId: randomUUID(),
      answer: { result: 1, provider: 'p', model: 'm' },
      idempotency: { key: 'k', requestHash: Buffer.alloc(32) },
    }
    await accept(how)
    expect(await createInserter(db)(newTask({ webhookUrl: URL, ...how }))).toMatchObject({ kind: 'exists' })
    expect(await sentWebhooks()).toHaveLength(1)
  })

  it.each([
    ['succeeded', ['task.succeeded']],
    ['failed', []],
  ] as const)('sends the webhooks of its followers when it has %s: %j', async (status, types) => {
    const cacheKey = Buffer.alloc(32, 1)
    const leader = await accept({ cacheKey, webhookUrl: null })
    const follower = await accept({ cacheKey })
    expect(await createFollower(db)({ id: follower, epoch: 0, leaderId: leader })).toBe(true)
    await end(leader, { status, result: 1, source: 'ai', quality: 'high' })
    await expect
      .poll(() => ask(db, 'SELECT FROM tasks WHERE id = $1 AND leader_id IS NULL', [follower]))
      .toHaveLength(1)
    expect(await sentWebhooks()).toEqual(types.map(type => [follower, type, URL]))
  })

  it('event ids are UUIDv7, in the order of time', async () => {
    for (let n = 0; n < 5; n++) await end(await accept())
    for (const { id, subject_id } of await rows()) {
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      const millis = (uuid: string) => Number.parseInt(uuid.replace('-', '').slice(0, 12), 16)
      expect(millis(id) - millis(subject_id)).toBeLessThan(20_000)
      expect(millis(id) - millis(subject_id)).toBeGreaterThanOrEqual(-1)
    }
  })
})

it('the statement that ends a batch also inserts its webhook', async () => {
  const states = ['in_progress', 'completed', 'failed', 'expired', 'cancelled', 'cancelling']
  await ask(
    db,
    `WITH moved AS (SELECT gen_random_uuid() AS id, gen_random_uuid() AS api_key_id, s AS status, $2 AS webhook_url FROM unnest($1::text[]) s),
      notified AS (${insertWebhooks('batch', 'moved')}) SELECT`,
    [states, URL],
  )
  const types = (await sentWebhooks()).map(([, type]) => type)
  expect(types.toSorted()).toEqual(['batch.cancelled', 'batch.completed', 'batch.expired', 'batch.failed'])
})

describe('a delivery', () => {
  it('is leased to one process with the key’s secret, and to another one after 30 s without an outcome', async () => {
    await clock.stop()
    const apiKeyId = randomUUID()
    await ask(db, `INSERT INTO api_keys (id, name, secret_hash, hint, scopes) VALUES ($1, 'k', '\\x01', 'h', '{}')`, [
      apiKeyId,
    ])
    const id = await accept({ apiKeyId })
    await end(id)
    const leases = await Promise.all(database.dbs.map(one => lease({}, one)))
    expect(leases.flat()).toMatchObject([{ subject_id: id, type: 'task.succeeded', url: URL, attempts: 1 }])
    expect(leases.flat()[0]!.secret).toHaveLength(32)
    await clock.advance(29)
    expect(await lease()).toEqual([])
    await clock.advance(2)
    expect(await lease()).toMatchObject([{ id: leases.flat()[0]!.id, attempts: 2 }])
  })

  it('is retried at its time, and ends when it was delivered', async () => {
    await clock.stop()
    await plant('a.app', 1)
    const [first] = await lease()
    expect(await settle(first!, { waitMs: 60_000 })).toBe('pending')
    await clock.advance(59)
    expect(await lease()).toEqual([])
    await clock.advance(2)
    const [second] = await lease()
    expect(second).toMatchObject({ id: first!.id, attempts: 2 })
    expect(await settle(second!, { delivered: true, status: 200, error: null, waitMs: null })).toBe('delivered')
    await clock.advance(86_400)
    expect(await lease()).toEqual([])
    expect(await rows()).toMatchObject([{ status: 'delivered', attempts: 2, last_status: 200, last_error: null }])
  })

  it('fails at once without a retry time, and otherwise after 24 hours with a last attempt', async () => {
    await plant('a.app', 1)
    await clock.advance(86_000)
    const [late] = await lease()
    expect(await settle(late!, { waitMs: 3_600_000 })).toBe('pending')
    await clock.advance(402)
    const [last] = await lease()
    expect(await settle(last!)).toBe('failed')
    expect(await lease()).toEqual([])
    await plant('b.app', 1)
    expect(await settle((await lease())[0]!, { waitMs: null })).toBe('failed')
  })

  it('attempted by two processes is settled by the later attempt, unless the earlier one was delivered', async () => {
    await plant('a.app', 2)
    const first = await lease()
    await clock.advance(31)
    await lease()
    expect(await settle(first[0]!)).toBeNull()
    expect(await settle(first[1]!, { delivered: true, status: 204, error: null, waitMs: null })).toBe('delivered')
    expect(await settle(first[1]!, { delivered: true, status: 204, error: null, waitMs: null })).toBeNull()
  })

  it('can be sent again in any status', async () => {
    const apiKeyId = randomUUID()
    await end(await accept({ apiKeyId }))
    const [one] = await lease()
    await settle(one!, { delivered: true, status: 200, error: null, waitMs: null })
    expect(await redeliver(db, one!.id, randomUUID())).toBeNull()
    expect(await redeliver(db, one!.id, apiKeyId)).toMatchObject({ status: 'pending', delivered_at: null })
    expect(await lease()).toMatchObject([{ id: one!.id, attempts: 2 }])
  })

  it('is deleted after a week, unless it is pending', async () => {
    for (let n = 0; n < 3; n++) await end(await accept())
    const [done] = await lease({ limit: 1 })
    await settle(done!, { waitMs: null })
    await clock.advance(7 * 86_400 - 100)
    expect(await pruneDeliveries(db, 7)).toBe(0)
    await clock.advance(200)
    expect(await pruneDeliveries(db, 7)).toBe(1)
    expect((await rows()).map(row => row.status)).toEqual(['pending', 'pending'])
  })
})

describe('hosts', () => {
  it('take turns, each up to its room', async () => {
    await plant('many.app', 50)
    await plant('few.app', 2)
    await plant('HANGS.app:8443', 5)
    const hosts = [{ host: 'hangs.app:8443', room: 0, seconds: 10 }]
    expect(hostsOf(await lease({ hosts, perHost: 8, limit: 6 }))).toEqual({ 'many.app': 4, 'few.app': 2 })
    expect(hostsOf(await lease({ hosts, perHost: 8, limit: 60 }))).toEqual({ 'many.app': 8 })
  })

  it('that hang do not hide the deliveries of others', async () => {
    await plant('hangs.app', 1200)
    await plant('good.app', 3)
    const hosts = [{ host: 'hangs.app', room: 0, seconds: 10 }]
    const found = []
    for (let round = 0; round < 3; round++) found.push(...(await lease({ hosts, perHost: 8, limit: 60 })))
    expect(hostsOf(found)).toEqual({ 'good.app': 3 })
    for (const one of found) await settle(one, { waitMs: null })
    // Postponed deliveries come again, without a counted attempt.
    await clock.advance(301)
    expect(hostsOf(await lease({ perHost: 8, limit: 60 }))).toEqual({ 'hangs.app': 8 })
    expect((await rows()).filter(row => row.attempts > 0)).toHaveLength(11)
  })

  it('of one key take at most its share, and do not hide the deliveries of other keys', async () => {
    const one = randomUUID()
    for (let n = 0; n < 60; n++) await plant(`h${n}.hangs.app`, 10, one)
    await plant('good.app', 3)
    const keys = [{ apiKeyId: one, room: 2 }]
    const found = []
    for (let round = 0; round < 3; round++) found.push(...(await lease({ keys, perHost: 8, perKey: 20, limit: 60 })))
    const hosts = hostsOf(found)
    expect(hosts['good.app']).toBe(3)
    // Two per round, because the test always passes room for two.
    expect(found).toHaveLength(3 + 3 * 2)
    await clock.advance(301)
    expect(Object.values(hostsOf(await lease({ perHost: 8, perKey: 20, limit: 60 })))).toEqual(Array(20).fill(1))
  })
})

it('the backlog is counted, with the seconds since its oldest delivery became due', async () => {
  expect(await readDeliveryBacklog(db)).toEqual({ pending: 0, overdue_seconds: 0 })
  await clock.stop()
  await plant('a.app', 3)
  await clock.advance(50)
  expect(await readDeliveryBacklog(db)).toEqual({ pending: 3, overdue_seconds: expect.closeTo(50, 3) })
  await lease()
  expect(await readDeliveryBacklog(db)).toEqual({ pending: 3, overdue_seconds: 0 })
})

it('deliveries are listed newest first, by key, subject and status', async () => {
  const list = createDeliveryLister(db)
  const all = { apiKeyId: null, status: null, subjectId: null, after: null, limit: 100 }
  const [mine, yours] = [randomUUID(), randomUUID()]
  const subjects: string[] = []
  for (const apiKeyId of [mine, yours, mine, mine]) {
    const id = await accept({ apiKeyId })
    await end(id)
    subjects.push(id)
  }
  // Ids from the same millisecond are in no order.
  await ask(db, 'UPDATE webhook_deliveries SET id = subject_id')
  const [one] = await ask<Row>(db, 'SELECT * FROM webhook_deliveries WHERE subject_id = $1', [subjects[2]])
  await ask(db, `UPDATE webhook_deliveries SET status = 'failed' WHERE id = $1`, [one!.id])
  const ids = async (filter: Partial<DeliveryFilter>) => (await list({ ...all, ...filter }))!.map(row => row.subject_id)
  expect(await ids({})).toEqual(subjects.toReversed())
  expect(await ids({ apiKeyId: mine })).toEqual([subjects[3], subjects[2], subjects[0]])
  expect(await ids({ apiKeyId: mine, after: one!.id })).toEqual([subjects[0]])
  expect(await ids({ apiKeyId: mine, status: 'failed' })).toEqual([subjects[2]])
  expect(await ids({ apiKeyId: mine, subjectId: subjects[1]! })).toEqual([])
  expect(await ids({ subjectId: subjects[1]! })).toEqual([subjects[1]])
  expect(await ids({ limit: 2 })).toEqual([subjects[3], subjects[2]])
})

import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { startReceiver } from '#shared/testing/receiver.ts'
import { type Cluster, PATIENT, startCluster, until, uuidOf, type WorkerProcess, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
/** The worker that runs: tests stop it and start another. */
let worker: WorkerProcess
beforeAll(async () => {
  const env = { WEBHOOK_ALLOW: '127.0.0.1', DRAIN_SECONDS: '5', WORKER_CONCURRENCY: '10' }
  cluster = await startCluster({ apis: 2, env })
  worker = cluster.workers[0]!
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

async function openReceiver() {
  const receiver = await startReceiver()
  onTestFinished(async () => void (await receiver.close()))
  return receiver
}

test('kill -9 of a worker during a delivery: another worker delivers under the same id, and the openai library accepts both', async () => {
  const { api, sql } = cluster
  const receiver = await openReceiver()
  receiver.answers(() => {})
  const id = await api.submit('[[delivered]]', { options: { webhook_url: `${receiver.url}/hook` } })
  await within('the event comes', receiver.until(1))
  worker.kill()
  await worker.exited
  receiver.answers(response => response.writeHead(200).end())
  worker = await cluster.startWorker()
  // Ends the lease of half a minute early.
  await sql('UPDATE webhook_deliveries SET next_at = now()')
  const events = await within('the event comes again', receiver.until(2))
  await until('the delivery is recorded', async () => {
    const [row] = await sql('SELECT status, attempts FROM webhook_deliveries WHERE subject_id = $1', [uuidOf(id)])
    return row?.status === 'delivered' && row.attempts === 2
  })
  const { body } = await api.call('GET', '/api/v1/keys/self/webhook-secret')
  const { webhooks } = new OpenAI({ apiKey: 'none', webhookSecret: body.webhook_secret })
  const said = await Promise.all(events.map(one => webhooks.unwrap(one.body, one.headers as Record<string, string>)))
  expect(said[0]).toMatchObject({ type: 'task.succeeded', data: { id } })
  expect(said[1]).toEqual(said[0])
  expect(await cluster.attempts(id)).toHaveLength(1)
})

test('SIGTERM: a worker delivers finished tasks and releases deliveries that hang', async () => {
  const { api, upstream, sql } = cluster
  const [receiver, hanging] = await Promise.all([openReceiver(), openReceiver()])
  hanging.answers(() => {})
  const stuck = await api.submit('[[stuck]]', { options: { webhook_url: hanging.url } })
  await within('one hangs', hanging.until(1))
  const held = upstream.hold({ when: /drained/ })
  const drained = await api.submit('[[drained]]', { options: { webhook_url: receiver.url } })
  await within('a call is in flight', held.waiting(1))
  const stopped = worker.stop()
  held.release()
  // The worker delivers until its last calls have ended.
  await stopped
  const rows = await sql(
    `SELECT url, status, next_at <= now() AS due FROM webhook_deliveries WHERE subject_id = ANY($1) ORDER BY id`,
    [[stuck, drained].map(uuidOf)],
  )
  expect(rows).toEqual([
    { url: `${hanging.url}/`, status: 'pending', due: true },
    { url: `${receiver.url}/`, status: expect.stringMatching(/pending|delivered/), due: expect.any(Boolean) },
  ])
  worker = await cluster.startWorker()
  await within('both are delivered', Promise.all([hanging.until(2), receiver.until(1)]))
})

test('every task sends one webhook, also when its worker is killed or two APIs race to cancel it', async () => {
  const { apis, upstream, sql } = cluster
  const receiver = await openReceiver()
  const survivor = await cluster.startWorker()
  const names = Array.from({ length: 60 }, (_, n) => `webhook-${n}`)
  const held = upstream.hold()
  const ids = await Promise.all(
    names.map((name, n) => apis[n % 2]!.submit(`[[${name}]]`, { options: { webhook_url: `${receiver.url}/${n}` } })),
  )
  await within('calls are in flight', held.waiting(20))
  const cancelled = ids.filter((_, n) => n % 3 === 0)
  const racing = cancelled.flatMap(id => apis.map(api => api.cancel(id)))
  worker.kill()
  held.release()
  await Promise.all(racing)
  await cluster.presumeDead(worker)
  worker = survivor
  await cluster.ended(ids)
  const uuids = ids.map(uuidOf)
  await until('all are delivered', async () => {
    const open = `SELECT 1 FROM webhook_deliveries WHERE subject_id = ANY($1) AND status <> 'delivered'`
    return (await sql(open, [uuids])).length === 0
  })
  const rows = await sql(
    `SELECT d.type = 'task.' || t.status AS fits FROM tasks t LEFT JOIN webhook_deliveries d ON d.subject_id = t.id WHERE t.id = ANY($1)`,
    [uuids],
  )
  expect(rows).toEqual(ids.map(() => ({ fits: true })))
  expect(new Set(receiver.received.map(one => JSON.parse(one.body).data.id))).toEqual(new Set(ids))
})

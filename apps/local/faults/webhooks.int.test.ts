import OpenAI from 'openai'
import { expect, test, vi } from 'vitest'
import { startReceiver } from '#shared/testing/receiver.ts'
import { PATIENT, startCluster, until, uuidOf, within } from './cluster.ts'

vi.setConfig(PATIENT)

const ALLOWED = { WEBHOOK_ALLOW: '127.0.0.1' }

test.concurrent('kill -9 of a worker in mid-delivery: another one tells it, under the same id, and the openai library believes both', async ({
  onTestFinished,
}) => {
  const [cluster, receiver] = await Promise.all([startCluster({ env: ALLOWED }), startReceiver()])
  onTestFinished(async () => {
    await cluster.close()
    await receiver.close()
  })
  const { api, workers, sql } = cluster
  receiver.answers(() => {})
  const id = await api.submit('[[told]]', { options: { webhook_url: `${receiver.url}/hook` } })
  await within('the event comes', receiver.until(1))
  workers[0]!.kill()
  await workers[0]!.exited
  receiver.answers(response => response.writeHead(200).end())
  const survivor = await cluster.startWorker()
  // Its lease is over sooner than in half a minute.
  await sql(`UPDATE webhook_deliveries SET next_at = now()`)
  const events = await within('the event comes again', receiver.until(2))
  await until('that it was heard is written down', async () => {
    const [row] = await sql('SELECT status, attempts FROM webhook_deliveries WHERE subject_id = $1', [uuidOf(id)])
    return row?.status === 'delivered' && row.attempts === 2
  })
  const { body } = await api.call('GET', '/api/v1/keys/self/webhook-secret')
  const { webhooks } = new OpenAI({ apiKey: 'none', webhookSecret: body.webhook_secret })
  const said = await Promise.all(events.map(one => webhooks.unwrap(one.body, one.headers as Record<string, string>)))
  expect(said[0]).toMatchObject({ type: 'task.succeeded', data: { id } })
  expect(said[1]).toEqual(said[0])
  expect(await cluster.attempts(id)).toHaveLength(1)
  await survivor.stop()
})

test.concurrent('a worker that is asked to stop tells what it can, and gives back what hangs', async ({
  onTestFinished,
}) => {
  const [cluster, receiver, hanging] = await Promise.all([
    startCluster({ env: { ...ALLOWED, DRAIN_SECONDS: '5' } }),
    startReceiver(),
    startReceiver(),
  ])
  onTestFinished(async () => {
    await cluster.close()
    await Promise.all([receiver.close(), hanging.close()])
  })
  const { api, workers, upstream, sql } = cluster
  hanging.answers(() => {})
  await api.submit('[[stuck]]', { options: { webhook_url: hanging.url } })
  await within('one hangs', hanging.until(1))
  const held = upstream.hold({ when: /drained/ })
  await api.submit('[[drained]]', { options: { webhook_url: receiver.url } })
  await within('a call is in flight', held.waiting(1))
  const stopped = workers[0]!.stop()
  held.release()
  // It goes on telling while its last calls end.
  await stopped
  const rows = await sql('SELECT url, status, next_at <= now() AS due FROM webhook_deliveries ORDER BY id')
  expect(rows).toEqual([
    { url: `${hanging.url}/`, status: 'pending', due: true },
    { url: `${receiver.url}/`, status: expect.stringMatching(/pending|delivered/), due: expect.any(Boolean) },
  ])
  await cluster.startWorker()
  await within('both are told', Promise.all([hanging.until(2), receiver.until(1)]))
})

test.concurrent('every task is told of exactly once, however its process dies and whoever ends it', async ({
  onTestFinished,
}) => {
  const [cluster, receiver] = await Promise.all([
    startCluster({ apis: 2, workers: 2, env: { ...ALLOWED, WORKER_CONCURRENCY: '10' } }),
    startReceiver(),
  ])
  onTestFinished(async () => {
    await cluster.close()
    await receiver.close()
  })
  const { apis, workers, upstream, sql } = cluster
  const names = Array.from({ length: 60 }, (_, n) => `told-${n}`)
  const held = upstream.hold()
  const ids = await Promise.all(
    names.map((name, n) => apis[n % 2]!.submit(`[[${name}]]`, { options: { webhook_url: `${receiver.url}/${n}` } })),
  )
  await within('calls are in flight', held.waiting(20))
  const cancelled = ids.filter((_, n) => n % 3 === 0)
  const racing = cancelled.flatMap(id => apis.map(api => api.cancel(id)))
  workers[0]!.kill()
  held.release()
  await Promise.all(racing)
  await cluster.startWorker()
  await cluster.presumeDead(workers[0]!)
  await cluster.ended(ids)
  await until(
    'all are told',
    async () => (await sql(`SELECT 1 FROM webhook_deliveries WHERE status <> 'delivered'`)).length === 0,
  )
  const rows = await sql(
    `SELECT d.type = 'task.' || t.status AS fits FROM tasks t LEFT JOIN webhook_deliveries d ON d.subject_id = t.id`,
  )
  expect(rows).toEqual(ids.map(() => ({ fits: true })))
  expect(new Set(receiver.received.map(one => JSON.parse(one.body).data.id))).toEqual(new Set(ids))
})

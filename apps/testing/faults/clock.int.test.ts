import OpenAI from 'openai'
import { expect, test, vi } from 'vitest'
import { clockShiftedBy } from '#shared/testing/clock.ts'
import { startReceiver } from '#shared/testing/receiver.ts'
import { batchesOf, jsonl } from './batches.ts'
import { markers, PATIENT, startCluster, until, uuidOf, within } from './cluster.ts'

vi.setConfig(PATIENT)

const DAY = 86_400
test.concurrent.each([
  ['the worker, which sweeps, is 40 days ahead', 0, 40],
  ['all processes are 40 days ahead', 40, 40],
  ['the API is 40 days behind', -40, 0],
  ['all processes are 40 days behind', -40, -40],
])('%s: only data older than its retention is deleted, and nothing expires early', async (_, apiDays, workerDays) => {
  const receiver = await startReceiver()
  const env = { RESULT_RETENTION_DAYS: '30', WEBHOOK_ALLOW: '127.0.0.1' }
  const cluster = await startCluster({ apis: 0, workers: 0, env })
  const { sql } = cluster
  const batches = batchesOf(cluster)
  const shifted = (days: number) => (days === 0 ? {} : clockShiftedBy(days * DAY))
  try {
    let api = await cluster.startApi(shifted(apiDays))
    await cluster.startWorker(shifted(workerDays))

    const headers = { 'idempotency-key': 'the-first' }
    const first = await api.submit('[[hooked]]', { headers, options: { webhook_url: receiver.url } })
    const ids = [first, ...(await api.submitAll(markers('kept', 9)))]
    const batchId = await batches.create(jsonl(markers('line', 2)), {
      surface: 'openai',
      endpoint: '/v1/chat/completions',
    })
    await cluster.ended(ids)
    const batch = await batches.until(batchId, 'ends', view => view.status === 'completed')
    expect(await api.tasks(ids)).toEqual(ids.map(() => expect.objectContaining({ status: 'succeeded' })))

    // From now on the worker sweeps, or processes with the same clock. A task that ended before its retention is deleted in
    // the same round in which a wrong clock would delete the others.
    const old = await api.submit('[[old]]')
    await cluster.ended([old])
    if (workerDays !== apiDays) await api.stop()
    const past = Date.now() - 31 * DAY * 1000
    const pastId = `${past
      .toString(16)
      .padStart(12, '0')
      .replace(/^(.{8})/, '$1-')}-7000-8000-000000000000`
    await sql(
      `UPDATE tasks SET id = $2, created_at = created_at - interval '31 days', finished_at = finished_at - interval '31 days' WHERE id = $1`,
      [uuidOf(old), pastId],
    )
    await until('the old task is deleted', async () => (await cluster.count(`tasks WHERE id = '${pastId}'`)) === 0)
    if (workerDays !== apiDays) api = await cluster.startApi(shifted(apiDays))

    expect(await cluster.count('tasks WHERE batch_id IS NULL')).toBe(ids.length)
    expect(await cluster.count('tasks WHERE batch_id IS NOT NULL')).toBe(2)
    expect(await cluster.count(`attempts a JOIN tasks t ON t.id = a.task_id WHERE a.outcome = 'succeeded'`)).toBe(12)
    expect(await batches.output(batch.output_file_id)).toHaveLength(2)
    expect(await cluster.count(`files WHERE status <> 'processed' OR expires_at < now() + interval '29 days'`)).toBe(0)

    // The same Idempotency-Key returns the same task, and a receiver with the right time accepts the event.
    expect(await api.submit('[[hooked]]', { headers, options: { webhook_url: receiver.url } })).toBe(first)
    const [event] = await within('the event comes', receiver.until(1))
    const { body } = await api.call('GET', '/api/v1/keys/self/webhook-secret')
    const { webhooks } = new OpenAI({ apiKey: 'none', webhookSecret: body.webhook_secret })
    expect(await webhooks.unwrap(event!.body, event!.headers as Record<string, string>)).toMatchObject({
      data: { id: first },
    })

    // The time in an id, by which lists are ordered, is the time of its row.
    const apart = `abs(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000 - extract(epoch FROM created_at))`
    expect(await cluster.count(`tasks WHERE batch_id IS NULL AND ${apart} > 3600`)).toBe(0)
    expect(await cluster.count('tasks WHERE deadline_at < now()')).toBe(0)
  } finally {
    await batches.close()
    await cluster.close()
    await receiver.close()
  }
})

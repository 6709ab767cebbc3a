import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { signalIfAlive } from '#apps/local/process.ts'
import { cancelBatch } from '#shared/db/batches/cancel.ts'
import { retryBatch } from '#shared/db/batches/retry.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { testRedis } from '#shared/testing/redis.ts'
import { batchesOf, jsonl } from './batches.ts'
import {
  type Cluster,
  countedOtherThan,
  markers,
  modelOf,
  PATIENT,
  startCluster,
  until,
  type WorkerProcess,
  within,
} from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
let batches: ReturnType<typeof batchesOf>
/** The worker that runs: tests kill it and start another. */
let worker: WorkerProcess
beforeAll(async () => {
  cluster = await startCluster({ own: ['redis'], env: { WORKER_CONCURRENCY: '20', BATCH_CONCURRENCY: '20' } })
  batches = batchesOf(cluster)
  worker = cluster.workers[0]!
})
afterAll(async () => {
  await batches?.close()
  await cluster?.close()
})

const ended = (id: string) =>
  batches.until(id, 'has ended', ({ status }) => ['completed', 'failed', 'expired', 'cancelled'].includes(status))
const OPENAI = { surface: 'openai', endpoint: '/v1/chat/completions' } as const
const codes = (lines: Awaited<ReturnType<typeof batches.output>>) => {
  const counts: Record<string, number> = {}
  for (const { response, error } of lines) {
    const code = error?.code ?? response?.body.error?.code ?? 'none'
    counts[code] = (counts[code] ?? 0) + 1
  }
  return counts
}

async function killWorker() {
  worker.kill()
  await worker.exited
}

async function replaceWorker() {
  await cluster.presumeDead(worker)
  worker = await cluster.startWorker()
}

// All at once: each has prompts of its own, and most of the time passes between the steps of a batch.
describe.concurrent('batches side by side', () => {
  test('a batch runs each line once and writes the answers in order', async () => {
    const { upstream } = cluster
    const names = markers('whole', 250)
    const id = await batches.create(jsonl(names), OPENAI)
    const view = await ended(id)
    expect(view).toMatchObject({ status: 'completed', total: 250, succeeded: 250, failed: 0, error_file_id: null })
    expect(Number(view.cost_usd)).toBeGreaterThan(0)
    expect(Number(view.bound_usd)).toBeGreaterThan(Number(view.cost_usd))
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    const lines = await batches.output(view.output_file_id)
    expect(lines.map(line => line.custom_id)).toEqual(names)
  })

  test('an input with mistakes runs no line and reports each mistake by line', async () => {
    const text = `${jsonl(markers('mistaken', 3))}\nnot JSON\n`
    const [view, empty] = await Promise.all(
      [text, ''].map(async input => await ended(await batches.create(input, OPENAI))),
    )
    expect(view).toMatchObject({ status: 'failed', total: 0, errors: [{ line: 4, code: 'invalid_json_line' }] })
    expect(await cluster.count(`tasks WHERE batch_id = '${view!.id}'`)).toBe(0)
    expect(empty).toMatchObject({ status: 'failed', errors: [{ code: 'empty_file' }] })
  })

  test('a batch that expires ends with the answers that it has', async () => {
    // Ten lines are answered, the others are still called or queued when the batch expires.
    const held = cluster.upstream.hold({ when: /late-\d\d/ })
    const id = await batches.create(jsonl(markers('late', 100)), OPENAI)
    await batches.until(id, 'has ten answers', view => view.succeeded === 10)
    await cluster.sql('UPDATE batches SET expires_at = now() WHERE id = $1', [id])
    await cluster.sql('UPDATE tasks SET deadline_at = now() WHERE batch_id = $1', [id])
    const view = await ended(id)
    held.release()
    expect(view).toMatchObject({ status: 'expired', cancelled: 0, failed: 0, expired_at: expect.any(Date) })
    expect(view).toMatchObject({ succeeded: 10, expired: 90 })
  })

  test('a batch stops at its cost limit: the remaining lines fail', async () => {
    const model = modelOf('capped')
    const id = await batches.create(jsonl(markers('capped', 100), { model: `anthropic/${model}`, max_tokens: 100 }), {
      ...OPENAI,
      maxCostUsd: '0.001',
    })
    const view = await ended(id)
    expect(view.status).toBe('completed')
    expect(view.succeeded).toBeGreaterThan(0)
    expect(view.failed).toBeGreaterThan(0)
    expect(Number(view.cost_usd)).toBeLessThanOrEqual(0.001)
    expect(codes(await batches.output(view.error_file_id))).toEqual({ budget_exceeded: view.failed })
    expect(await cluster.count(`budgets WHERE scope = 'batch:${id}'`)).toBe(0)
  })

  test('lines at a concurrency limit let a task of the same model pass', async () => {
    const { api, upstream } = cluster
    const model = modelOf('narrow')
    const body = { model, concurrency: 2 }
    expect(await api.call('PUT', '/api/v1/providers/anthropic/limits', { body })).toMatchObject({ status: 200 })
    upstream.rule(/narrow/, { delayMs: 20 })
    // Keeps the batch from ending first.
    const last = upstream.hold({ when: /narrow-99]/ })
    const id = await batches.create(jsonl(markers('narrow', 100), { model: `anthropic/${model}` }), OPENAI)
    await batches.until(id, 'has begun', view => view.succeeded > 0)
    const task = await api.submit('[[passing]]', { options: { model: `anthropic/${model}` } })
    await cluster.ended([task])
    expect((await batches.view(id))!.status).toBe('in_progress')
    last.release()
    expect(await ended(id)).toMatchObject({ status: 'completed', succeeded: 100 })
    // Few lines were refused a permit.
    expect(await cluster.count(`tasks WHERE batch_id = '${id}' AND epoch > 5`)).toBeLessThan(50)
  })

  test('a small batch and a task overtake a large batch', async () => {
    const { api, upstream } = cluster
    upstream.rule(/large/, { delayMs: 500 })
    const large = await batches.create(jsonl(markers('large', 1000)), OPENAI)
    await batches.until(large, 'has begun', view => view.succeeded > 0)
    const small = await batches.create(jsonl(markers('small', 50)), OPENAI)
    const task = await api.submit('[[single]]')
    await cluster.ended([task])
    await ended(small)
    const view = (await batches.view(large))!
    expect(view.status).toBe('in_progress')
    expect(view.succeeded).toBeLessThan(800)
    await cancelBatch(batches.db, large)
    await ended(large)
  })
})

describe('a fault in the middle of a batch', () => {
  beforeEach(() => cluster.begin())

  test('kill -9 of the worker repeats the calls in flight, and no others', async () => {
    const { upstream } = cluster
    const names = markers('killed', 250)
    // One is answered, so late that the others do not count as slow soon, which would let more calls begin.
    upstream.rule(/killed-0]/, { delayMs: 5000 })
    const held = upstream.hold({ when: /killed-(?!0])/ })
    const id = await batches.create(jsonl(names), OPENAI)
    await within('twenty calls are held', held.waiting(20))
    await killWorker()
    const rows = await cluster.sql<{ custom_id: string }>(
      `SELECT custom_id FROM tasks WHERE batch_id = $1 AND status = 'running'`,
      [id],
    )
    const inFlight = rows.map(row => row.custom_id)
    expect(inFlight).toHaveLength(20)
    held.release()
    await replaceWorker()
    const view = await ended(id)
    expect(view).toMatchObject({ status: 'completed', succeeded: 250 })
    expect(countedOtherThan(upstream, inFlight, 2)).toEqual({})
    const others = names.filter(name => !inFlight.includes(name))
    expect(countedOtherThan(upstream, others, 1)).toEqual({})
    expect((await batches.output(view.output_file_id)).map(line => line.custom_id)).toEqual(names)
  })

  test('kill -9 while lines are inserted and while the output is written: another worker does both again', async () => {
    const { upstream } = cluster
    // Long lines: the input takes several statements without having thousands of lines.
    const names = markers('thrice', 200)
    const id = await batches.create(jsonl(names, { max_tokens: 1 }, 'x'.repeat(80_000)), OPENAI)
    await until('lines are inserted', () => cluster.count(`tasks WHERE batch_id = '${id}'`))
    await killWorker()
    await replaceWorker()
    // The output can be started, but not finished.
    const blocker = new pg.Client({ connectionString: cluster.databaseUrl })
    await blocker.connect()
    await blocker.query('BEGIN; LOCK TABLE file_chunks IN EXCLUSIVE MODE')
    await batches.until(id, 'is being written', ({ status }) => status === 'finalizing')
    await until('the output is being written', () =>
      cluster.count(`pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`),
    )
    await killWorker()
    await blocker.query('ROLLBACK')
    await blocker.end()
    await replaceWorker()
    const view = await ended(id)
    expect(view).toMatchObject({ status: 'completed', total: 200, succeeded: 200 })
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    expect((await batches.output(view.output_file_id)).map(line => line.custom_id)).toEqual(names)
    expect(
      await cluster.count(
        `files WHERE status = 'processed' AND purpose = 'batch_output' AND filename LIKE '%${id.replaceAll('-', '')}%'`,
      ),
    ).toBe(1)
  })

  test('FLUSHALL loses no line and repeats no call', async () => {
    const { upstream } = cluster
    const names = markers('flushed', 250)
    const held = upstream.hold()
    const id = await batches.create(jsonl(names), OPENAI)
    await within('twenty calls are held', held.waiting(20))
    await (await testRedis('fast', cluster.redisUrl)).flushall()
    held.release()
    expect(await ended(id)).toMatchObject({ status: 'completed', succeeded: 250 })
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
  })

  test('SIGTERM: a worker finishes its calls and releases its chunks', async () => {
    const { upstream } = cluster
    const names = markers('drained', 250)
    const held = upstream.hold()
    const id = await batches.create(jsonl(names), OPENAI)
    await within('twenty calls are held', held.waiting(20))
    const leaver = worker
    worker = await cluster.startWorker()
    signalIfAlive(leaver.pid, 'SIGTERM')
    held.release()
    expect(await leaver.exited).toEqual({ code: 0, signal: null })
    expect(await cluster.count(`batch_chunks WHERE worker_id = '${leaver.id}'`)).toBe(0)
    expect(await ended(id)).toMatchObject({ status: 'completed', succeeded: 250 })
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    expect(
      await cluster.count(
        `${CALLS} WHERE task_id IN (SELECT id FROM tasks WHERE batch_id = '${id}') AND outcome <> 'succeeded'`,
      ),
    ).toBe(0)
  })

  test('a cancelled batch keeps its answers, and a retry runs the other lines', async () => {
    const { upstream } = cluster
    const names = markers('cancelled', 250)
    const held = upstream.hold()
    const id = await batches.create(jsonl(names), OPENAI)
    await within('twenty calls are held', held.waiting(20))
    expect(await cancelBatch(batches.db, id)).toBe('cancelling')
    await batches.until(id, 'has cancelled most', view => view.cancelled > 0)
    held.release()
    const view = await ended(id)
    expect(view.status).toBe('cancelled')
    expect(view.succeeded).toBeGreaterThanOrEqual(20)
    expect(view.succeeded + view.cancelled).toBe(250)
    const made = Object.keys(upstream.markers())
    expect((await batches.output(view.output_file_id)).map(line => line.custom_id).toSorted()).toEqual(made.toSorted())
    expect(codes(await batches.output(view.error_file_id))).toEqual({ batch_cancelled: view.cancelled })

    expect(await retryBatch(batches.db, id, 600)).toEqual({ kind: 'retried', lines: view.cancelled })
    const again = await ended(id)
    expect(again).toMatchObject({ status: 'completed', succeeded: 250, cancelled: 0, error_file_id: null })
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    expect(await batches.output(again.output_file_id)).toHaveLength(250)
    expect(await batches.output(view.output_file_id), 'the earlier output is gone').toEqual([])
  })
})

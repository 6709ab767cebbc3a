import pg from 'pg'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { cancelBatch, retryBatch } from '#shared/db/batches.ts'
import { createLogger } from '#shared/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { signalIfAlive } from '../process.ts'
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
beforeAll(async () => {
  cluster = await startCluster({ own: ['redis'], env: { WORKER_CONCURRENCY: '20', BATCH_CONCURRENCY: '20' } })
  batches = batchesOf(cluster)
})
afterAll(async () => {
  await batches?.close()
  await cluster?.close()
})
beforeEach(() => cluster.begin())

/** One that works, for tests that have killed the one before. */
let worker: WorkerProcess
beforeEach(async () => {
  worker ??= cluster.workers[0]!
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

test('a batch is read, run and written down, each line once', async () => {
  const { upstream } = cluster
  const names = markers('whole', 700)
  const id = await batches.create(jsonl(names), OPENAI)
  const view = await ended(id)
  expect(view).toMatchObject({ status: 'completed', total: 700, succeeded: 700, failed: 0, error_file_id: null })
  expect(Number(view.cost_usd)).toBeGreaterThan(0)
  expect(Number(view.bound_usd)).toBeGreaterThan(Number(view.cost_usd))
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  const lines = await batches.output(view.output_file_id)
  expect(lines.map(line => line.custom_id)).toEqual(names)
})

test('of an input with mistakes nothing is run, and each mistake has its line', async () => {
  const text = `${jsonl(markers('mistaken', 3))}\nnot JSON\n`
  const view = await ended(await batches.create(text, OPENAI))
  expect(view).toMatchObject({ status: 'failed', total: 0, errors: [{ line: 4, code: 'invalid_json_line' }] })
  expect(await cluster.count(`tasks WHERE batch_id = '${view.id}'`)).toBe(0)
  expect(await ended(await batches.create('', OPENAI))).toMatchObject({
    status: 'failed',
    errors: [{ code: 'empty_file' }],
  })
})

test('kill -9 of a worker in mid-batch repeats the calls in flight, no others', async () => {
  const { upstream } = cluster
  const names = markers('killed', 300)
  // One is answered, after so long that the others are not soon called slow, which would make place for more.
  upstream.rule(/killed-0]/, { delayMs: 5000 })
  const held = upstream.hold({ when: /killed-(?!0])/ })
  const id = await batches.create(jsonl(names), OPENAI)
  await within('twenty calls are held', held.waiting(20))
  worker.kill()
  await worker.exited
  const rows = await cluster.sql<{ custom_id: string }>(
    `SELECT custom_id FROM tasks WHERE batch_id = $1 AND status = 'running'`,
    [id],
  )
  const inFlight = rows.map(row => row.custom_id)
  expect(inFlight).toHaveLength(20)
  held.release()
  await cluster.presumeDead(worker)
  worker = await cluster.startWorker()
  const view = await ended(id)
  expect(view).toMatchObject({ status: 'completed', succeeded: 300 })
  expect(countedOtherThan(upstream, inFlight, 2)).toEqual({})
  expect(
    countedOtherThan(
      upstream,
      names.filter(name => !inFlight.includes(name)),
      1,
    ),
  ).toEqual({})
  expect((await batches.output(view.output_file_id)).map(line => line.custom_id)).toEqual(names)
})

test('kill -9 while the input is read and while the output is written: both are done again', async () => {
  const { upstream } = cluster
  const names = markers('thrice', 5000)
  const id = await batches.create(jsonl(names, { max_tokens: 1 }), OPENAI)
  await until('lines are being written', () => cluster.count(`tasks WHERE batch_id = '${id}'`))
  worker.kill()
  await worker.exited
  await cluster.presumeDead(worker)
  worker = await cluster.startWorker()
  // It comes to that, and no further.
  const blocker = new pg.Client({ connectionString: cluster.databaseUrl })
  await blocker.connect()
  await blocker.query('BEGIN; LOCK TABLE file_chunks IN EXCLUSIVE MODE')
  await batches.until(id, 'is being written', ({ status }) => status === 'finalizing')
  await until('a piece is being written', () =>
    cluster.count(`pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`),
  )
  worker.kill()
  await worker.exited
  await blocker.query('ROLLBACK')
  await blocker.end()
  await cluster.presumeDead(worker)
  worker = await cluster.startWorker()
  const view = await ended(id)
  expect(view).toMatchObject({ status: 'completed', total: 5000, succeeded: 5000 })
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  expect((await batches.output(view.output_file_id)).map(line => line.custom_id)).toEqual(names)
  expect(
    await cluster.count(
      `files WHERE status = 'processed' AND purpose = 'batch_output' AND filename LIKE '%${id.replaceAll('-', '')}%'`,
    ),
  ).toBe(1)
})

test('FLUSHALL in mid-batch: all lines are answered, each call is made once', async () => {
  const { upstream } = cluster
  const names = markers('flushed', 900)
  const held = upstream.hold()
  const id = await batches.create(jsonl(names), OPENAI)
  await within('twenty calls are held', held.waiting(20))
  const redis = connectRedis({
    url: cluster.redisUrl,
    role: 'blocking',
    name: 'test',
    logger: createLogger({ level: 'silent', name: 'test' }),
  })
  await redis.flushall()
  closeRedis(redis)
  held.release()
  expect(await ended(id)).toMatchObject({ status: 'completed', succeeded: 900 })
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
})

test('a worker that is told to stop gives its chunks back, with their calls ended well', async () => {
  const { upstream } = cluster
  const names = markers('drained', 600)
  const held = upstream.hold()
  const id = await batches.create(jsonl(names), OPENAI)
  await within('twenty calls are held', held.waiting(20))
  const leaver = worker
  worker = await cluster.startWorker()
  signalIfAlive(leaver.pid, 'SIGTERM')
  held.release()
  expect(await leaver.exited).toEqual({ code: 0, signal: null })
  expect(await cluster.count(`batch_chunks WHERE worker_id = '${leaver.id}'`)).toBe(0)
  expect(await ended(id)).toMatchObject({ status: 'completed', succeeded: 600 })
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  expect(await cluster.count(`${CALLS} WHERE outcome NOT IN ('succeeded', 'unknown')`)).toBe(0)
})

test('a cancelled batch keeps what it has, and its rest can be run later', async () => {
  const { upstream } = cluster
  const names = markers('cancelled', 500)
  const held = upstream.hold()
  const id = await batches.create(jsonl(names), OPENAI)
  await within('twenty calls are held', held.waiting(20))
  expect(await cancelBatch(batches.db, id)).toBe('cancelling')
  await batches.until(id, 'has cancelled most', view => view.cancelled > 0)
  held.release()
  const view = await ended(id)
  expect(view.status).toBe('cancelled')
  expect(view.succeeded).toBeGreaterThanOrEqual(20)
  expect(view.succeeded + view.cancelled).toBe(500)
  const made = Object.keys(upstream.markers())
  expect((await batches.output(view.output_file_id)).map(line => line.custom_id).toSorted()).toEqual(made.toSorted())
  expect(codes(await batches.output(view.error_file_id))).toEqual({ batch_cancelled: view.cancelled })

  expect(await retryBatch(batches.db, id, 600)).toEqual({ kind: 'retried', lines: view.cancelled })
  const again = await ended(id)
  expect(again).toMatchObject({ status: 'completed', succeeded: 500, cancelled: 0, error_file_id: null })
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  expect(await batches.output(again.output_file_id)).toHaveLength(500)
  expect(await batches.output(view.output_file_id), 'the earlier output is gone').toEqual([])
})

test('a batch that runs out of time ends with what it has', async () => {
  const { upstream } = cluster
  // Twenty at a time: the whole takes 30 s. And there is time enough to begin, for the sweeper alone dispatches it.
  upstream.rule(/late/, { delayMs: 2000 })
  const id = await batches.create(jsonl(markers('late', 300)), { ...OPENAI, windowSeconds: 15 })
  const view = await ended(id)
  expect(view).toMatchObject({ status: 'expired', cancelled: 0, failed: 0, expired_at: expect.any(Date) })
  expect(view.expired).toBeGreaterThan(0)
  expect(view.succeeded).toBeGreaterThan(0)
  expect(view.succeeded + view.expired).toBe(300)
})

test('what a batch may cost at most bounds it: the rest fails', async () => {
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
  expect(await cluster.count(`budgets WHERE scope LIKE 'batch:%'`)).toBe(0)
})

test('a small batch does not stand behind a large one, nor a task behind both', async () => {
  const { api, upstream } = cluster
  upstream.rule(/large/, { delayMs: 500 })
  const large = await batches.create(jsonl(markers('large', 3000)), OPENAI)
  await batches.until(large, 'has begun', view => view.succeeded > 0)
  const small = await batches.create(jsonl(markers('small', 100)), OPENAI)
  const task = await api.submit('[[single]]')
  await cluster.ended([task])
  await ended(small)
  const view = (await batches.view(large))!
  expect(view.status).toBe('in_progress')
  expect(view.succeeded).toBeLessThan(2500)
  await cancelBatch(batches.db, large)
  await ended(large)
})

test('a limit holds for lines, which let others pass', async () => {
  const { api, upstream } = cluster
  const model = modelOf('narrow')
  const body = { model, concurrency: 2 }
  expect(await api.call('PUT', '/api/v1/providers/anthropic/limits', { body })).toMatchObject({ status: 200 })
  upstream.rule(/narrow/, { delayMs: 20 })
  // So that the batch is not over before.
  const last = upstream.hold({ when: /narrow-99]/ })
  const id = await batches.create(jsonl(markers('narrow', 100), { model: `anthropic/${model}` }), OPENAI)
  await batches.until(id, 'has begun', view => view.succeeded > 0)
  const task = await api.submit('[[passing]]', { options: { model: `anthropic/${model}` } })
  await cluster.ended([task])
  expect((await batches.view(id))!.status).toBe('in_progress')
  last.release()
  expect(await ended(id)).toMatchObject({ status: 'completed', succeeded: 100 })
  // Few were asked for in vain.
  expect(await cluster.count(`tasks WHERE batch_id = '${id}' AND epoch > 5`)).toBeLessThan(50)
})

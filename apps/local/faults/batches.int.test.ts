import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { cancelBatch, retryBatch } from '#shared/db/batches.ts'
import { createLogger } from '#shared/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis.ts'
import { batchesOf, jsonl } from './batches.ts'
import { type Cluster, countedOtherThan, markers, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

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

const ended = (id: string) =>
  batches.until(id, 'has ended', ({ status }) => ['completed', 'failed', 'expired', 'cancelled'].includes(status))

test('a batch is read, run and written down, each line once', async () => {
  const { upstream } = cluster
  const names = markers('whole', 700)
  const id = await batches.create(jsonl(names), { surface: 'openai', endpoint: '/v1/chat/completions' })
  const view = await ended(id)
  expect(view).toMatchObject({ status: 'completed', total: 700, succeeded: 700, failed: 0, error_file_id: null })
  expect(Number(view.cost_usd)).toBeGreaterThan(0)
  expect(Number(view.bound_usd)).toBeGreaterThan(Number(view.cost_usd))
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  const lines = await batches.output(view.output_file_id)
  expect(lines.map(line => line.custom_id)).toEqual(names)
})

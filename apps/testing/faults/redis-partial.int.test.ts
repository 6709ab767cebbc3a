import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { signalIfAlive } from '#apps/local/process.ts'
import { connectPatiently, keysLike } from '#shared/testing/redis.ts'
import { batchesOf, jsonl } from './batches.ts'
import { type Cluster, countedOtherThan, markers, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
let batches: ReturnType<typeof batchesOf>
beforeAll(async () => {
  const env = { WORKER_CONCURRENCY: '5', BATCH_CONCURRENCY: '20', BACKOFF_BASE_MS: '3000', BACKOFF_MAX_MS: '3000' }
  cluster = await startCluster({ own: ['redis'], env })
  batches = batchesOf(cluster)
})
afterAll(async () => {
  await batches?.close()
  await cluster?.close()
})
beforeEach(() => cluster.begin())

/** Like an eviction: deletes collections and keeps the hashes of the jobs. @returns how many hashes there are */
async function lose(queue: string, names: string[]): Promise<number> {
  const redis = connectPatiently(cluster.redisUrl)
  await new Promise(resolve => redis.once('ready', resolve))
  const base = `{${cluster.prefix}:${queue}}:${queue}:`
  const hashes = (await keysLike(redis, `${base}*`)).filter(key => /-\d+$/.test(key))
  if (names.length > 0) await redis.del(...names.map(name => base + name))
  redis.disconnect()
  return hashes.length
}

test('waiting tasks finish after Redis lost the lists of jobs and kept their hashes', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold()
  const names = (['interactive', 'normal', 'low'] as const).map(priority => ({ priority, of: markers(priority, 30) }))
  const ids = (await Promise.all(names.map(({ priority, of }) => api.submitAll(of, { options: { priority } })))).flat()
  await within('calls are in flight', held.waiting(5))
  expect(await lose('default', ['wait', 'prioritized', 'active'])).toBeGreaterThan(50)
  held.release()
  await cluster.ended(ids)
  expect(
    countedOtherThan(
      upstream,
      names.flatMap(one => one.of),
      1,
    ),
  ).toEqual({})
  for (const task of await api.tasks(ids)) expect(task.status).toBe('succeeded')
})

test('tasks in backoff run after Redis lost the list of delayed jobs', async () => {
  const { api, upstream } = cluster
  // Fewer failures than open the breaker.
  const names = markers('later', 2)
  upstream.script(...names.map(() => ({ status: 500 })))
  const ids = await api.submitAll(names, { options: { model: modelOf('later') } })
  await until('all back off', async () => (await cluster.count('tasks WHERE run_at > now()')) === names.length)
  await until('the queue has them', async () => (await lose('default', [])) >= names.length)
  await lose('default', ['delayed'])
  await cluster.ended(ids)
  for (const task of await api.tasks(ids)) expect(task.status).toBe('succeeded')
})

test('a batch finishes after Redis lost its chunks', async () => {
  const [worker] = cluster.workers
  // The API dispatches the first chunk, and no worker takes it while this one is frozen.
  signalIfAlive(worker!.pid, 'SIGSTOP')
  const id = await batches.create(jsonl(markers('chunk', 20)), { surface: 'openai', endpoint: '/v1/chat/completions' })
  await until('a chunk is in the queue', async () => (await lose('batch', [])) > 0)
  await lose('batch', ['wait', 'prioritized', 'delayed', 'active'])
  signalIfAlive(worker!.pid, 'SIGCONT')
  expect(await batches.until(id, 'has ended', ({ status }) => status === 'completed')).toMatchObject({ succeeded: 20 })
})

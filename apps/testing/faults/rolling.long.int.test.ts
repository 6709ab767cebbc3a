import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { Child } from '#apps/local/child.ts'
import { signalIfAlive } from '#apps/local/process.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { batchesOf, jsonl } from './batches.ts'
import { type Api, type ClusterOptions, countedOtherThan, markers, PATIENT, startCluster, until } from './cluster.ts'

vi.setConfig(PATIENT)

const GRACEFUL = { code: 0, signal: null }

async function start(options: ClusterOptions) {
  const cluster = await startCluster(options)
  const batches = batchesOf(cluster)
  onTestFinished(async () => {
    await batches.close()
    await cluster.close()
  })
  return { ...cluster, batches }
}

/** Repeats SIGTERM until the process has ended, as impatient process managers do. @returns how it ended */
async function storm(child: Child) {
  const gone = new AbortController()
  const exit = child.exited.finally(() => gone.abort())
  while (!gone.signal.aborted) {
    signalIfAlive(child.pid, 'SIGTERM')
    await delay(20, undefined, { signal: gone.signal }).catch(() => {})
  }
  return await exit
}

/**
 * Clients behind a load balancer: each submits one task after another until the test stops it. A request that a stopping server
 * refuses or does not answer goes to the next server with the same Idempotency-Key.
 */
function load(servers: () => Api[], clients: number) {
  const stopping = new AbortController()
  const accepted = new Map<string, string>()
  async function submit(marker: string): Promise<void> {
    const key = randomUUID()
    for (let tries = 0; ; tries++) {
      const list = servers()
      const api = list[tries % list.length]!
      const answer = await api.post(`[[${marker}]]`, { headers: { 'idempotency-key': key } }).catch(() => null)
      if (answer?.status === 202) return void accepted.set(marker, answer.body.task_id)
      if (answer) expect(answer).toMatchObject({ status: 503 })
      if (tries > 100) throw new Error(`no server accepts ${marker}`)
    }
  }
  const loops = Array.from({ length: clients }, async (_, client) => {
    for (let n = 0; !stopping.signal.aborted; n++) await submit(`client-${client}-${n}`)
  })
  const all = Promise.all(loops)
  return {
    accepted,
    async stop() {
      stopping.abort()
      await all
    },
  }
}

test('a rolling restart of all processes under load fails no task, loses none and repeats no call', async () => {
  const env = { WORKER_CONCURRENCY: '20', BATCH_CONCURRENCY: '10' }
  const { apis, workers, upstream, batches, count, startApi, startWorker, ended, api } = await start({
    apis: 2,
    workers: 2,
    env,
  })
  upstream.default({ text: 'done', delayMs: 50 })
  // So slow that the batch lasts about as long as the restarts.
  upstream.rule(/line-/, { text: 'done', delayMs: 400 })
  const lines = markers('line', 400)
  const batch = await batches.create(jsonl(lines), { surface: 'openai', endpoint: '/v1/chat/completions' })
  await batches.until(batch, 'is in progress', ({ status }) => status === 'in_progress')

  let servers: Api[] = [...apis]
  const clients = load(() => servers, 6)
  onTestFinished(() => clients.stop())
  const another = async (more: number) => {
    const seen = clients.accepted.size
    await until('more is accepted', () => clients.accepted.size >= seen + more)
  }
  await another(20)
  for (const [n, old] of apis.entries()) {
    const [next] = await Promise.all([startApi(), startWorker()])
    servers = [...servers.filter(one => one !== old), next]
    expect(await Promise.all([storm(old), storm(workers[n]!)])).toEqual([GRACEFUL, GRACEFUL])
    await another(20)
  }
  await clients.stop()

  const names = [...clients.accepted.keys()]
  await ended([...clients.accepted.values()])
  const view = await batches.until(
    batch,
    'has ended',
    ({ status }) => status !== 'in_progress' && status !== 'finalizing',
  )
  expect(view).toMatchObject({ status: 'completed', total: 400, succeeded: 400, failed: 0 })
  expect(names.length).toBeGreaterThanOrEqual(60)
  expect(await count(`tasks WHERE status = 'succeeded' AND source = 'ai'`)).toBe(names.length + lines.length)
  expect(await count('tasks')).toBe(names.length + lines.length)
  expect(await count(CALLS)).toBe(names.length + lines.length)
  expect(countedOtherThan(upstream, [...names, ...lines], 1)).toEqual({})
  expect(api.pid).not.toBe(servers[0]!.pid)
})

test('a worker that retires in the middle of a batch leaves every line with one attempt', async () => {
  const { workers, upstream, batches, count } = await start({ workers: 2, env: { BATCH_CONCURRENCY: '10' } })
  upstream.default({ text: 'done', delayMs: 100 })
  const lines = markers('line', 1500)
  // Keeps the batch from ending before the worker has.
  const last = upstream.hold({ when: /line-1499]/ })
  const batch = await batches.create(jsonl(lines), { surface: 'openai', endpoint: '/v1/chat/completions' })
  const [leaver, stayer] = [workers[0]!, workers[1]!]
  const begunBy = (worker: { id: string }) => count(`attempts WHERE worker_id = '${worker.id}'`)
  await until(
    'both are in the middle of the batch',
    async () => (await begunBy(leaver)) > 20 && (await begunBy(stayer)) > 20,
  )
  leaver.send({ type: 'retire' })
  expect(await leaver.exited).toEqual(GRACEFUL)
  expect(await batches.view(batch)).toMatchObject({ status: 'in_progress' })
  last.release()

  const view = await batches.until(
    batch,
    'has ended',
    ({ status }) => status !== 'in_progress' && status !== 'finalizing',
  )
  expect(view).toMatchObject({ status: 'completed', total: 1500, succeeded: 1500, failed: 0 })
  expect(await count(CALLS)).toBe(lines.length)
  expect(countedOtherThan(upstream, lines, 1)).toEqual({})
  const answered = (await batches.output(view.output_file_id)).map(line => line.custom_id)
  expect(answered).toHaveLength(1500)
  expect(new Set(answered).size).toBe(1500)
})

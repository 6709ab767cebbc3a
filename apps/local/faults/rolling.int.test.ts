import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { CALLS } from '#shared/testing/attempts.ts'
import type { Child } from '../child.ts'
import { signalIfAlive } from '../process.ts'
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

/** SIGTERM, and again and again, as process managers do whose patience is short. @returns how it ended */
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
 * Clients behind a load balancer: each submits one task after the other until it is told to stop, with a key that makes a
 * repeated request the same one. What a server does not take, as it is gone or going, the next gets.
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
      if (tries > 100) throw new Error(`nobody takes ${marker}`)
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

test('a rolling restart of all processes under load fails nothing, loses nothing, and costs no attempt', async () => {
  const env = { WORKER_CONCURRENCY: '20', BATCH_CONCURRENCY: '10' }
  const { apis, workers, upstream, batches, count, startApi, startWorker, ended, api } = await start({
    apis: 2,
    workers: 2,
    env,
  })
  upstream.default({ text: 'done', delayMs: 50 })
  const lines = markers('line', 1000)
  const batch = await batches.create(jsonl(lines), { surface: 'openai', endpoint: '/v1/chat/completions' })
  await batches.until(batch, 'is in progress', ({ status }) => status === 'in_progress')

  let servers: Api[] = [...apis]
  const clients = load(() => servers, 6)
  onTestFinished(() => clients.stop())
  const another = async (more: number) => {
    const seen = clients.accepted.size
    await until('more is accepted', () => clients.accepted.size >= seen + more)
  }
  await another(50)
  for (const old of apis) {
    servers = [...servers.filter(one => one !== old), await startApi()]
    expect(await storm(old)).toEqual(GRACEFUL)
    await another(50)
  }
  for (const old of workers) {
    await startWorker()
    expect(await storm(old)).toEqual(GRACEFUL)
    await another(50)
  }
  await clients.stop()

  const names = [...clients.accepted.keys()]
  await ended([...clients.accepted.values()])
  const view = await batches.until(
    batch,
    'has ended',
    ({ status }) => status !== 'in_progress' && status !== 'finalizing',
  )
  expect(view).toMatchObject({ status: 'completed', total: 1000, succeeded: 1000, failed: 0 })
  expect(names.length).toBeGreaterThan(250)
  expect(await count(`tasks WHERE status = 'succeeded' AND source = 'ai'`)).toBe(names.length + lines.length)
  expect(await count('tasks')).toBe(names.length + lines.length)
  expect(await count(CALLS)).toBe(names.length + lines.length)
  expect(countedOtherThan(upstream, [...names, ...lines], 1)).toEqual({})
  expect(api.pid).not.toBe(servers[0]!.pid)
})

test('a fleet that shrinks in the middle of a batch answers every line once, with one attempt', async () => {
  const { workers, upstream, batches, count } = await start({ workers: 2, env: { BATCH_CONCURRENCY: '10' } })
  upstream.default({ text: 'done', delayMs: 300 })
  const lines = markers('line', 1500)
  const batch = await batches.create(jsonl(lines), { surface: 'openai', endpoint: '/v1/chat/completions' })
  const [leaver, stayer] = [workers[0]!, workers[1]!]
  const begunBy = (worker: { id: string }) => count(`attempts WHERE worker_id = '${worker.id}'`)
  await until('both are in the middle of it', async () => (await begunBy(leaver)) > 20 && (await begunBy(stayer)) > 20)
  leaver.send({ type: 'retire' })
  expect(await leaver.exited).toEqual(GRACEFUL)
  expect(await batches.view(batch)).toMatchObject({ status: 'in_progress' })

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

import pg from 'pg'
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { startChild } from '#apps/local/child.ts'
import { commandOf, signalIfAlive } from '#apps/local/process.ts'
import {
  type Cluster,
  countedOtherThan,
  markers,
  PATIENT,
  ROOT,
  startCluster,
  until,
  type WorkerProcess,
  within,
} from './cluster.ts'

vi.setConfig(PATIENT)

const GRACEFUL = { code: 0, signal: null }

let cluster: Cluster
/** The worker that runs: each test stops it and starts another with the setting that the next test needs. */
let worker: WorkerProcess
beforeAll(async () => {
  // A process that waits for an hour would fail its test.
  const env = { WORKER_CONCURRENCY: '10', DRAIN_SECONDS: '3600', MAX_ATTEMPTS: '1' }
  cluster = await startCluster({ apis: 2, openai: true, env })
  worker = cluster.workers[0]!
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

test('SIGTERM: a worker finishes its calls and returns the tasks that it has not started', async () => {
  const { api, upstream } = cluster
  const leaver = worker
  const running = markers('running', 4)
  const held = upstream.hold({ when: /running/ })
  const runningIds = await api.submitAll(running)
  await within('four calls are in flight', held.waiting(4))

  // Jobs that the worker has fetched and cannot start: they are queued while it is frozen, and when it continues, the table that
  // it reads first is locked. Its heartbeats do not need that table, so its calls continue.
  signalIfAlive(leaver.pid, 'SIGSTOP')
  const fetched = markers('fetched', 20)
  const fetchedIds = await api.submitAll(fetched)
  const blocker = new pg.Client({ connectionString: cluster.databaseUrl })
  await blocker.connect()
  await blocker.query('BEGIN; LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE')
  signalIfAlive(leaver.pid, 'SIGCONT')
  await until('it asks for the first', () =>
    cluster.count(
      `pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%dead_ends%' AND datname = current_database()`,
    ),
  )
  signalIfAlive(leaver.pid, 'SIGTERM')
  const health = async () => (await fetch(`http://127.0.0.1:${leaver.port}/health/ready`)).json()
  await until('it drains', async () => ((await health()) as { parts: { state: string } }).parts.state === 'draining')
  await blocker.query('ROLLBACK')
  await blocker.end()

  const heir = await cluster.startWorker({ DRAIN_SECONDS: '1' })
  worker = heir
  await cluster.ended(fetchedIds)
  expect(await cluster.count(`tasks WHERE status = 'running'`)).toBe(4)
  held.release()
  await cluster.ended(runningIds)
  expect(await leaver.exited).toEqual(GRACEFUL)
  expect(commandOf(leaver.pid)).toBeNull()

  for (const id of fetchedIds) {
    expect(await cluster.attempts(id)).toEqual([expect.objectContaining({ worker_id: heir.id, outcome: 'succeeded' })])
  }
  for (const id of runningIds) {
    expect(await cluster.attempts(id)).toEqual([
      expect.objectContaining({ worker_id: leaver.id, outcome: 'succeeded' }),
    ])
  }
  expect(countedOtherThan(upstream, [...running, ...fetched], 1)).toEqual({})
  const { body } = await api.call('GET', '/api/v1/workers')
  expect(body.data.map((worker: { pid: number }) => worker.pid)).toEqual([heir.pid])
  expect(await cluster.count(`workers WHERE pid = ${leaver.pid}`)).toBe(0)
})

test('calls that outlast DRAIN_SECONDS are aborted and do not count as attempts', async () => {
  const { api, upstream } = cluster
  const leaver = worker
  const names = markers('long', 10)
  const held = upstream.hold()
  const ids = await api.submitAll(names, { options: { fallback: 'none' } })
  await within('all are in flight', held.waiting(10))
  signalIfAlive(leaver.pid, 'SIGTERM')
  expect(await leaver.exited).toEqual(GRACEFUL)
  await within('all are aborted', upstream.aborted(10))
  expect(await cluster.count(`workers WHERE pid = ${leaver.pid}`)).toBe(0)
  held.release()
  const heir = await cluster.startWorker()
  worker = heir
  await cluster.ended(ids)
  for (const id of ids) {
    expect(await cluster.attempts(id)).toMatchObject([
      { worker_id: leaver.id, outcome: 'aborted' },
      { worker_id: heir.id, outcome: 'succeeded' },
    ])
    expect(await api.task(id)).toMatchObject({ status: 'succeeded', source: 'ai' })
  }
  expect(countedOtherThan(upstream, names, 2)).toEqual({})
})

test('SIGTERM: an API answers the clients that can ask again, and loses no task', async () => {
  const { apis, upstream } = cluster
  const [other, leaver] = [apis[0]!, apis[1]!]
  const held = upstream.hold({ midway: true })
  const read = await leaver.submit('[[read]]', { options: { stream: true } })
  const stream = await leaver.events(read)
  await stream.until(event => event.event === 'delta')
  const polled = await leaver.submit('[[polled]]')
  const polling = leaver.call('GET', `/api/v1/tasks/${polled}?wait=60`)
  const preferring = leaver.post('[[preferred]]', { headers: { prefer: 'wait=60' } })
  // This request has no task that the client could ask for later.
  const vectors = cluster.openai.hold()
  const embedding = leaver.call('POST', '/v1/embeddings', {
    body: { model: 'text-embedding-3-small', input: '[[vectors]]' },
  })
  await within('all are in flight', Promise.all([held.waiting(3), vectors.waiting(1)]))
  // A round trip later the requests before it have been read as well.
  await leaver.task(polled)

  signalIfAlive(leaver.pid, 'SIGTERM')
  expect(await polling).toMatchObject({ status: 200, body: { task_id: polled, status: 'running' } })
  const accepted = await preferring
  expect(accepted).toMatchObject({ status: 202 })
  const seen = await within('the stream ends', stream.rest())
  expect(seen.some(event => event.event === 'done')).toBe(false)
  expect(commandOf(leaver.pid)).not.toBeNull()
  vectors.release()
  expect(await embedding).toMatchObject({ status: 200, body: { data: [{ object: 'embedding' }] } })
  expect(await within('it is gone', leaver.exited)).toEqual(GRACEFUL)
  expect(await cluster.count(`workers WHERE pid = ${leaver.pid}`)).toBe(0)
  await expect(leaver.task(polled)).rejects.toThrow('fetch failed')

  // The reader continues at the other API.
  const resumed = await other.events(read, seen.at(-1)!.id)
  held.release()
  const ids = [read, polled, accepted.body.task_id]
  await cluster.ended(ids)
  const [whole] = await other.tasks(ids)
  const deltas = [...seen, ...(await resumed.rest())].filter(event => event.event === 'delta')
  expect(deltas.map(event => event.data.text).join('')).toBe(whole.result.text)
  expect(upstream.markers()).toEqual({ read: 1, polled: 1, preferred: 1 })
})

/** A parent that starts one of our processes, and reports the pid of that process in place of a port. */
const PARENT = `
  const { startChild } = await import('./apps/local/child.ts')
  const child = await startChild({ args: [process.argv[1]], cwd: '.', env: process.env, drainMs: 1000 })
  process.send({ type: 'ready', port: child.pid })`

test('processes whose parent was killed drain and exit', async () => {
  const { upstream } = cluster
  await worker.stop()
  const startOrphan = async (entry: string) => {
    const args = ['--input-type=module', '-e', PARENT, entry]
    const parent = await startChild({ args, cwd: ROOT, env: cluster.env, drainMs: 1000 })
    const pid = parent.port
    onTestFinished(() => parent.stop())
    onTestFinished(() => signalIfAlive(pid, 'SIGKILL'))
    return { parent, pid }
  }
  const [orphanApi, orphanWorker] = await Promise.all([startOrphan('apps/api/main.ts'), startOrphan('workers/main.ts')])
  const held = upstream.hold()
  const id = await cluster.api.submit('[[orphan]]')
  await within('the call comes', held.waiting(1))
  for (const { parent } of [orphanApi, orphanWorker]) parent.kill()
  await until('the API is gone', () => commandOf(orphanApi.pid) === null)
  expect(commandOf(orphanWorker.pid)).toContain('workers/main.ts')
  held.release()
  await until('the worker is gone', () => commandOf(orphanWorker.pid) === null)
  expect(await cluster.attempts(id)).toMatchObject([{ outcome: 'succeeded' }])
  expect(await cluster.api.task(id)).toMatchObject({ status: 'succeeded' })
  expect(await cluster.count(`workers WHERE pid IN (${orphanApi.pid}, ${orphanWorker.pid})`)).toBe(0)
})

import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { signalIfAlive } from '#apps/local/process.ts'
import { type Cluster, countedOtherThan, markers, PATIENT, startCluster, until, uuidOf, within } from './cluster.ts'

vi.setConfig(PATIENT)

const CONCURRENCY = { WORKER_CONCURRENCY: '10' }
const outcomes = (task: { attempts: { outcome: string }[] }) => task.attempts.map(attempt => attempt.outcome)

// At production values, beside tests that shorten the times of liveness or declare a worker dead themselves.
test.concurrent('kill -9 of a worker repeats the calls in flight, and no others, ten seconds later', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ env: CONCURRENCY })
  onTestFinished(cluster.close)
  const { api, upstream, workers } = cluster
  const names = markers('worker', 60)
  const held = upstream.hold()
  const ids = await api.submitAll(names)
  await within('ten calls are in flight', held.waiting(10))
  const inFlight = Object.keys(upstream.markers())
  expect(inFlight).toHaveLength(10)

  workers[0]!.kill()
  expect(await workers[0]!.exited).toEqual({ code: null, signal: 'SIGKILL' })
  held.release()
  await cluster.startWorker()
  await cluster.ended(ids)

  expect(countedOtherThan(upstream, inFlight, 2)).toEqual({})
  const others = names.filter(name => !inFlight.includes(name))
  expect(countedOtherThan(upstream, others, 1)).toEqual({})
  for (const [index, task] of (await api.tasks(ids)).entries()) {
    expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
    expect(outcomes(task)).toEqual(inFlight.includes(names[index]!) ? ['unknown', 'succeeded'] : ['succeeded'])
  }
})

test.concurrent('kill -9 of everything at once: new processes finish every accepted task', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ env: { ...CONCURRENCY, LIVENESS_SCALE: '0.3' } })
  onTestFinished(cluster.close)
  const { api, upstream, workers } = cluster
  const names = markers('all', 60)
  const held = upstream.hold()
  const ids = await api.submitAll(names)
  await within('ten calls are in flight', held.waiting(10))
  const inFlight = Object.keys(upstream.markers())

  for (const process of [api, ...workers]) process.kill()
  await Promise.all([api, ...workers].map(process => process.exited))
  held.release()
  const [next] = await Promise.all([cluster.startApi(), cluster.startWorker()])
  await cluster.ended(ids)

  expect(countedOtherThan(upstream, inFlight, 2)).toEqual({})
  const others = names.filter(name => !inFlight.includes(name))
  expect(countedOtherThan(upstream, others, 1)).toEqual({})
  for (const [index, task] of (await next.tasks(ids)).entries()) {
    expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
    expect(outcomes(task)).toEqual(inFlight.includes(names[index]!) ? ['unknown', 'succeeded'] : ['succeeded'])
  }
})

test.concurrent('a process that freezes during a sweep does not keep the others from sweeping', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ workers: 0, env: { LIVENESS_SCALE: '0.3' } })
  onTestFinished(cluster.close)
  const { api } = cluster
  const id = await api.submit('[[frozen]]')
  const blocker = new pg.Client({ connectionString: cluster.databaseUrl })
  await blocker.connect()
  await blocker.query('BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE')
  await until('the API sweeps', () =>
    cluster.count(`pg_locks l JOIN pg_database d ON d.oid = l.database
      WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()`),
  )
  signalIfAlive(api.pid, 'SIGSTOP')
  // The job in the queue now has an older epoch: only a sweep can dispatch the task.
  await blocker.query('UPDATE tasks SET epoch = epoch + 1, dispatched_at = NULL')
  await blocker.query('COMMIT')
  await blocker.end()
  const worker = await cluster.startWorker()
  await cluster.ended([id])
  signalIfAlive(api.pid, 'SIGCONT')
  const task = await api.task(id)
  expect(task.status).toBe('succeeded')
  expect(outcomes(task)).toEqual(['succeeded'])
  expect((await cluster.attempts(id)).at(-1)).toMatchObject({ worker_id: worker.id })
})

describe('in one cluster', () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ apis: 2, workers: 2, own: ['redis'], env: CONCURRENCY })
  })
  afterAll(() => cluster?.close())
  beforeEach(() => cluster.begin())

  test('two workers hold one task: only the worker with the claim finishes it', async () => {
    const { api, upstream, workers } = cluster
    for (const wakes of ['while the other calls', 'when it is over']) {
      upstream.reset()
      upstream.script({ text: 'the first answer' }, { text: 'the second answer' })
      const first = upstream.hold()
      const id = await api.submit('[[twice]]')
      await within('the first call comes', first.waiting(1))
      const [attempt] = await cluster.attempts(id)
      const sleeper = workers.find(worker => worker.id === attempt!.worker_id)!

      // Like a machine that was suspended: it does not know that it lost the claim, and finds its answer waiting.
      signalIfAlive(sleeper.pid, 'SIGSTOP')
      first.release()
      const wakeUp = async () => {
        signalIfAlive(sleeper.pid, 'SIGCONT')
        await until('the late call is settled', async () => (await cluster.attempts(id))[0]!.outcome !== 'unknown')
      }
      await cluster.attempts(id)
      const second = upstream.hold()
      await cluster.presumeDead(sleeper)
      await within('the second call comes', second.waiting(1))
      expect((await cluster.attempts(id)).map(one => one.outcome)).toEqual(['unknown', 'started'])
      if (wakes === 'while the other calls') {
        await wakeUp()
        expect(await api.task(id)).toMatchObject({ status: 'running', result: null })
      }
      second.release()
      await cluster.ended([id])
      const before = await api.task(id)
      if (wakes === 'when it is over') await wakeUp()
      const after = await api.task(id)
      // The late answer changes only the ledger.
      for (const task of [before, after]) {
        expect(task).toMatchObject({ status: 'succeeded', result: { text: 'the second answer' } })
        expect(task.finished_at).toBe(before.finished_at)
        expect(outcomes(task)[1]).toBe('succeeded')
      }
      expect(['succeeded', 'aborted']).toContain(outcomes(after)[0])
      expect(upstream.markers()).toEqual({ twice: 2 })
    }
  })

  test('kill -9 of an API between the commit and the queue: another process dispatches its tasks', async () => {
    const { upstream } = cluster
    const redis = await startDeafening(Number(new URL(cluster.redisUrl).port))
    const url = new URL(cluster.redisUrl)
    url.port = String(redis.port)
    const victim = await cluster.startApi({ REDIS_URL: url.href })
    const names = markers('between', 20)
    // Proves that the proxy forwards jobs before.
    const heard = await victim.submit('[[heard]]')
    await cluster.ended([heard])
    // Not earlier: the API sends no job to a Redis that does not answer the other commands of a submit.
    const deafened = redis.deafenAt(JOB_ID)
    const ids = await victim.submitAll(names)
    // A task may be accepted before its job is on its way.
    await within('a job is on its way to the queue', deafened)
    victim.kill()
    await victim.exited
    redis.close()
    expect(ids.some(id => redis.swallowed().includes(uuidOf(id)))).toBe(true)
    await cluster.ended(ids)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    for (const task of await cluster.api.tasks(ids)) {
      expect(task.status).toBe('succeeded')
      expect(outcomes(task)).toEqual(['succeeded'])
    }
  })

  test('kill -9 of an API loses no accepted task, and a repeated request creates no second one', async () => {
    const { apis, upstream } = cluster
    const [other, victim] = [apis[0]!, apis[1]!]
    const accepted = new Map<string, string>()
    const post = (api: typeof victim, name: string) => api.post(`[[${name}]]`, { headers: { 'idempotency-key': name } })
    const submitUntilItDies = async (client: number): Promise<string> => {
      for (let n = 0; ; n++) {
        const name = `api-${client}-${n}`
        const answer = await post(victim, name).catch(() => null)
        if (answer === null) return name
        expect(answer).toMatchObject({ status: 202 })
        accepted.set(name, answer.body.task_id)
      }
    }
    const clients = Array.from({ length: 4 }, (_, client) => submitUntilItDies(client))
    await until('a hundred are accepted', () => accepted.size >= 100)
    victim.kill()
    await victim.exited

    // A request without an answer may have been committed or not: the client repeats it at another API.
    for (const name of await Promise.all(clients)) {
      const answer = await until('it is accepted', async () => {
        const again = await post(other, name)
        expect([202, 409]).toContain(again.status)
        return again.status === 202 && again
      })
      accepted.set(name, answer.body.task_id)
    }
    const ids = [...accepted.values()]
    await cluster.ended(ids)
    expect(await cluster.count(`tasks WHERE input->>'prompt' LIKE '[[api-%'`)).toBe(ids.length)
    expect(countedOtherThan(upstream, [...accepted.keys()], 1)).toEqual({})
    for (const task of await other.tasks(ids)) {
      expect(task.status).toBe('succeeded')
      expect(outcomes(task)).toEqual(['succeeded'])
    }
  })

  test('a task that kills five workers fails', async () => {
    const { api, upstream } = cluster
    const more = await Promise.all([1, 2, 3].map(() => cluster.startWorker()))
    const living = new Map([...cluster.workers, ...more].map(worker => [worker.id, worker]))
    const held = upstream.hold({ when: /\[\[killer]]/ })
    const id = await api.submit('[[killer]]', { options: { fallback: 'none' } })
    for (let calls = 1; calls <= 5; calls++) {
      await within(`call ${calls} comes`, upstream.arrived(calls, /\[\[killer]]/))
      const victim = living.get((await cluster.attempts(id)).at(-1)!.worker_id)!
      living.delete(victim.id)
      victim.kill()
      await victim.exited
      await cluster.presumeDead(victim)
    }
    await cluster.ended([id])
    held.release()
    const task = await api.task(id)
    expect(task).toMatchObject({ status: 'failed', result: null, error: { code: 'worker_lost' } })
    expect(outcomes(task)).toEqual(['unknown', 'unknown', 'unknown', 'unknown', 'unknown'])
    expect(upstream.markers()).toEqual({ killer: 5 })
  })
})

/** The job id of the first run of a task. */
const JOB_ID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-0/

/** A TCP proxy that forwards nothing to the server after a client has sent a match for `deafenAt`. */
async function startDeafening(port: number) {
  let cause: RegExp | null = null
  let deaf = false
  const { promise: deafened, resolve: deafen } = Promise.withResolvers<void>()
  // By connection, because a command may come in several chunks.
  const lost: Buffer[][] = []
  const sockets = new Set<Socket>()
  const proxy = createServer(client => {
    const server = connect(port, '127.0.0.1')
    for (const socket of [client, server]) sockets.add(socket.on('error', () => {}))
    const unheard: Buffer[] = []
    lost.push(unheard)
    client.on('data', (data: Buffer) => {
      if (cause?.test(data.toString('latin1'))) {
        deaf = true
        deafen()
      }
      if (deaf) unheard.push(data)
      else server.write(data)
    })
    server.pipe(client)
    client.on('close', () => server.destroy())
  })
  await new Promise<void>(resolve => void proxy.listen(0, '127.0.0.1', resolve))
  return {
    port: (proxy.address() as AddressInfo).port,
    deafenAt: (pattern: RegExp) => {
      cause = pattern
      return deafened
    },
    swallowed: () => lost.map(pieces => Buffer.concat(pieces).toString('latin1')).join('\n'),
    close: () => {
      proxy.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

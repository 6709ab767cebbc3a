import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import pg from 'pg'
import { expect, test, vi } from 'vitest'
import { signalIfAlive } from '../process.ts'
import { countedOtherThan, markers, PATIENT, startCluster, until, uuidOf, within } from './cluster.ts'

vi.setConfig(PATIENT)

const CONCURRENCY = { WORKER_CONCURRENCY: '10' }
const outcomes = (task: { attempts: { outcome: string }[] }) => task.attempts.map(attempt => attempt.outcome)

// Side by side: each waits ten seconds for the dead to be declared dead.

test.concurrent('kill -9 of a worker repeats the calls in flight, no others, and every task finishes', async ({
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

test.concurrent('kill -9 of an API loses nothing that it accepted, and a repeated request makes nothing twice', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ apis: 2, env: CONCURRENCY })
  onTestFinished(cluster.close)
  const { apis, upstream } = cluster
  const [victim, other] = [apis[0]!, apis[1]!]
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

  // What nobody answered may have been committed or not: the client asks again, elsewhere.
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
  expect(await cluster.count('tasks')).toBe(ids.length)
  expect(countedOtherThan(upstream, [...accepted.keys()], 1)).toEqual({})
  for (const task of await other.tasks(ids)) {
    expect(task.status).toBe('succeeded')
    expect(outcomes(task)).toEqual(['succeeded'])
  }
})

test.concurrent('kill -9 of an API between the commit and the queue: others bring its tasks there', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ own: ['redis'] })
  onTestFinished(cluster.close)
  const { upstream } = cluster
  const redis = await startDeafening(Number(new URL(cluster.redisUrl).port))
  const url = new URL(cluster.redisUrl)
  url.port = String(redis.port)
  const victim = await cluster.startApi({ REDIS_URL: url.href })
  const names = markers('between', 20)
  // What has got through before shows that it does get through.
  const heard = await victim.submit('[[heard]]')
  await cluster.ended([heard])
  redis.deafen()
  const ids = await victim.submitAll(names)
  victim.kill()
  await victim.exited
  redis.close()
  // It had begun to tell the queue of them, and nobody heard.
  expect(ids.some(id => redis.swallowed().includes(uuidOf(id)))).toBe(true)
  await cluster.ended(ids)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  for (const task of await cluster.api.tasks(ids)) {
    expect(task.status).toBe('succeeded')
    expect(outcomes(task)).toEqual(['succeeded'])
  }
})

/** A way to a server that, once `deafen` is called, takes everything and passes nothing on. */
async function startDeafening(port: number) {
  let deaf = false
  const lost: Buffer[] = []
  const sockets = new Set<Socket>()
  const proxy = createServer(client => {
    const server = connect(port, '127.0.0.1')
    for (const socket of [client, server]) sockets.add(socket.on('error', () => {}))
    client.on('data', data => void (deaf ? lost.push(data) : server.write(data)))
    server.pipe(client)
    client.on('close', () => server.destroy())
  })
  await new Promise<void>(resolve => void proxy.listen(0, '127.0.0.1', resolve))
  return {
    port: (proxy.address() as AddressInfo).port,
    deafen: () => {
      deaf = true
    },
    swallowed: () => Buffer.concat(lost).toString('latin1'),
    close: () => {
      proxy.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

test.concurrent('kill -9 of everything at once: new processes finish every accepted task', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ env: CONCURRENCY })
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

test.concurrent('a task that takes five workers down with it fails', async ({ onTestFinished }) => {
  const cluster = await startCluster({ workers: 5 })
  onTestFinished(cluster.close)
  const { api, upstream } = cluster
  const living = new Map(cluster.workers.map(worker => [worker.id, worker]))
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

test.concurrent('of two workers that hold the same task, only the one that has the claim finishes it', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ workers: 2 })
  onTestFinished(cluster.close)
  const { api, upstream, workers } = cluster
  for (const wakes of ['while the other calls', 'when it is over']) {
    upstream.reset()
    upstream.script({ text: 'the first answer' }, { text: 'the second answer' })
    const first = upstream.hold()
    const id = await api.submit('[[twice]]')
    await within('the first call comes', first.waiting(1))
    const [attempt] = await cluster.attempts(id)
    const sleeper = workers.find(worker => worker.id === attempt!.worker_id)!

    // As a machine does that was suspended: it knows nothing of having been given up, and finds its answer waiting.
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
    // Only the ledger has changed.
    for (const task of [before, after]) {
      expect(task).toMatchObject({ status: 'succeeded', result: { text: 'the second answer' } })
      expect(task.finished_at).toBe(before.finished_at)
      expect(outcomes(task)[1]).toBe('succeeded')
    }
    expect(['succeeded', 'aborted']).toContain(outcomes(after)[0])
    expect(upstream.markers()).toEqual({ twice: 2 })
  }
})

test.concurrent('a process that freezes in the middle of a sweep does not keep the others from sweeping', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster({ workers: 0 })
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
  // The queue's job is of an older epoch now: only a sweeper can bring the task to a worker.
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

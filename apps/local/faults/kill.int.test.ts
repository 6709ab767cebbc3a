import { expect, test, vi } from 'vitest'
import { signalIfAlive } from '../process.ts'
import { countedOtherThan, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

const CONCURRENCY = { WORKER_CONCURRENCY: '10' }
const outcomes = (task: { attempts: { outcome: string }[] }) => task.attempts.map(attempt => attempt.outcome)

// Side by side: each waits ten seconds for the dead to be declared dead.

test.concurrent('kill -9 of a worker repeats the calls in flight, no others, and every task finishes', async () => {
  await using cluster = await startCluster({ env: CONCURRENCY })
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

test.concurrent('kill -9 of an API loses nothing that it accepted', async () => {
  await using cluster = await startCluster({ apis: 2, env: CONCURRENCY })
  const { apis, upstream } = cluster
  const [victim, other] = [apis[0]!, apis[1]!]
  const accepted = new Map<string, string>()
  const submitUntilItDies = async (client: number) => {
    for (let n = 0; ; n++) {
      const name = `api-${client}-${n}`
      const answer = await victim.post(`[[${name}]]`).catch(() => null)
      if (answer === null) return
      expect(answer).toMatchObject({ status: 202 })
      accepted.set(name, answer.body.task_id)
    }
  }
  const clients = Array.from({ length: 4 }, (_, client) => submitUntilItDies(client))
  await until('a hundred are accepted', () => accepted.size >= 100)
  victim.kill()
  await victim.exited
  await Promise.all(clients)

  const ids = [...accepted.values()]
  await cluster.ended(ids)
  // What was committed and never answered for is a task as well.
  await until('no task is left', async () => (await cluster.count(`tasks WHERE status <> 'succeeded'`)) === 0)
  expect(countedOtherThan(upstream, [...accepted.keys()], 1)).toEqual({})
  for (const task of await other.tasks(ids)) expect(outcomes(task)).toEqual(['succeeded'])
})

test.concurrent('kill -9 of everything at once: new processes finish every accepted task', async () => {
  await using cluster = await startCluster({ env: CONCURRENCY })
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

test.concurrent('a task that takes five workers down with it fails', async () => {
  await using cluster = await startCluster({ workers: 5 })
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

test.concurrent('of two workers that hold the same task, one finishes it', async () => {
  await using cluster = await startCluster({ workers: 2 })
  const { api, upstream, workers } = cluster
  upstream.script({ text: 'the first answer' }, { text: 'the second answer' })
  const held = upstream.hold()
  const id = await api.submit('[[twice]]')
  await within('the first call comes', held.waiting(1))
  const [attempt] = await cluster.attempts(id)
  const sleeper = workers.find(worker => worker.id === attempt!.worker_id)!

  // As a machine does that was suspended: it knows nothing of having been given up.
  signalIfAlive(sleeper.pid, 'SIGSTOP')
  await cluster.presumeDead(sleeper)
  await within('the second call comes', held.waiting(2))
  held.release()
  await cluster.ended([id])
  const before = await api.task(id)
  expect(before).toMatchObject({ status: 'succeeded', result: { text: 'the second answer' } })
  expect(outcomes(before)).toEqual(['unknown', 'succeeded'])

  signalIfAlive(sleeper.pid, 'SIGCONT')
  await until('the late call is settled', async () => (await cluster.attempts(id))[0]!.outcome !== 'unknown')
  const after = await api.task(id)
  // Only the ledger has changed.
  expect(after).toEqual({
    ...before,
    attempts: [
      expect.objectContaining({ outcome: expect.stringMatching(/^(succeeded|aborted)$/) }),
      before.attempts[1],
    ],
    usage: expect.anything(),
    cost_usd: after.cost_usd,
  })
  expect(upstream.markers()).toEqual({ twice: 2 })
})

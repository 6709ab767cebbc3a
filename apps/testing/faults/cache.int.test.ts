import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { type Cluster, countedOtherThan, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

const SAME = 50

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2, workers: 2 })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

const optionsOf = (name: string) => ({ model: modelOf(name), cache: 'use', fallback: 'none' })

/** Submits `count` identical tasks at once, through both APIs in turn. */
const submitSame = (name: string, count = SAME): Promise<string[]> =>
  Promise.all(
    Array.from({ length: count }, (_, n) => cluster.apis[n % 2]!.submit(`[[${name}]]`, { options: optionsOf(name) })),
  )

/** Resolves to the leader, once all other tasks follow it. */
const leaderOf = async (ids: string[]): Promise<string> => {
  await until('all but one follow', async () => {
    const following = await cluster.count(`tasks WHERE leader_id IS NOT NULL AND status = 'queued'`)
    return following === ids.length - 1
  })
  const tasks = await cluster.api.tasks(ids)
  return tasks.find(task => task.status === 'running')!.task_id
}

const bySource = async (ids: string[]) => {
  const tasks = await cluster.api.tasks(ids)
  for (const task of tasks) {
    expect(task).toMatchObject({ status: 'succeeded', quality: 'high', result: tasks[0].result, error: null })
    if (task.source === 'cache') expect(task).toMatchObject({ attempts: [], cost_usd: 0 })
  }
  return Object.entries(Object.groupBy(tasks, task => task.source))
    .map(([source, of]) => [source, of!.length])
    .sort()
}

test('identical concurrent tasks share one call, and later ones are answered from the cache at once', async () => {
  const { apis, api, upstream } = cluster
  const held = upstream.hold()
  const ids = await submitSame('shared')
  await within('one calls', held.waiting(1))
  await leaderOf(ids)
  held.release()
  await cluster.ended(ids)
  expect(await bySource(ids)).toEqual([
    ['ai', 1],
    ['cache', SAME - 1],
  ])
  expect(upstream.markers()).toEqual({ shared: 1 })

  for (const one of apis) {
    const answer = await one.post('[[shared]]', { options: optionsOf('shared') })
    expect(answer).toMatchObject({ status: 200, body: { status: 'succeeded', source: 'cache', cost_usd: 0 } })
    expect(await api.task(answer.body.task_id)).toEqual(answer.body)
  }
  expect(upstream.markers()).toEqual({ shared: 1 })

  const key = await api.makeKey({ name: 'another' })
  const [apart, anothers] = await Promise.all([
    api.submit('[[shared]]', { options: { ...optionsOf('shared'), cache: 'off' } }),
    api.submit('[[shared]]', { options: optionsOf('shared'), key }),
  ])
  await cluster.ended([apart, anothers])
  expect(await bySource([apart, anothers])).toEqual([['ai', 2]])
  expect(upstream.markers()).toEqual({ shared: 3 })
})

test('when the leader is cancelled, one follower replaces it', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold()
  const ids = await submitSame('cancelled', 10)
  await within('one calls', held.waiting(1))
  const leader = await leaderOf(ids)
  expect(await api.cancel(leader)).toMatchObject({ status: 200 })
  await within('another calls', held.waiting(2))
  held.release()
  await cluster.ended(ids)
  expect(await api.task(leader)).toMatchObject({ status: 'cancelled', result: null })
  expect(await bySource(ids.filter(id => id !== leader))).toEqual([
    ['ai', 1],
    ['cache', 8],
  ])
  expect(countedOtherThan(upstream, ['cancelled'], 2)).toEqual({})
})

test('kill -9 of the worker that runs the leader causes one more call for the whole group', async () => {
  const { api, upstream, workers } = cluster
  const held = upstream.hold()
  const ids = await submitSame('killed')
  await within('one calls', held.waiting(1))
  const leader = await leaderOf(ids)
  const { worker_id: id } = (await cluster.attempts(leader)).at(-1)!
  const victim = workers.find(worker => worker.id === id)!
  victim.kill()
  await victim.exited
  await cluster.presumeDead(victim)
  await within('another calls', held.waiting(2))
  held.release()
  await cluster.ended(ids)
  expect(await bySource(ids)).toEqual([
    ['ai', 1],
    ['cache', SAME - 1],
  ])
  expect((await api.task(leader)).attempts).toMatchObject([{ outcome: 'unknown' }, { outcome: 'succeeded' }])
  expect(countedOtherThan(upstream, ['killed'], 2)).toEqual({})
})

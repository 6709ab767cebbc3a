import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { type Child, startChild } from './child.ts'
import { countedOtherThan, type Env, markers, PATIENT, ROOT, startCluster, until, within } from './faults/cluster.ts'
import { createFleet } from './fleet.ts'
import { signalIfAlive } from './process.ts'

vi.setConfig(PATIENT)

/** An API, and the workers of `npm start`, all real. `argsOf`: what Node gets before the n-th worker. */
async function startFleet(env: Env, argsOf: (n: number) => string[] = () => []) {
  const cluster = await startCluster({ workers: 0, env: { BATCH_PROCESSES: '0', ...env } })
  const lines: string[] = []
  const started: Child[] = []
  let replaced = {}
  const fleet = createFleet({
    config: parseConfig(cluster.env),
    databaseUrl: cluster.databaseUrl,
    holdSeconds: 2,
    startWorker: async ({ args, env, ...more }) => {
      const command = [...argsOf(started.length), `${ROOT}/workers/main.ts`, ...args]
      const child = await startChild({
        args: command,
        cwd: ROOT,
        env: { ...cluster.env, ...env },
        drainMs: 5000,
        ...more,
      })
      started.push(child)
      return child
    },
    report: message => {
      replaced = message.replaced
    },
    log: line => lines.push(line),
    now: () => performance.now(),
    wait: (ms, signal) => delay(ms, undefined, { signal }).catch(() => {}),
  })
  onTestFinished(async () => {
    await fleet.stop()
    await cluster.close()
  })
  await fleet.open((_, start) => start())
  fleet.follow()
  type Seen = { pid: number; concurrency: number }
  const workers = async (): Promise<Seen[]> => (await cluster.api.call('GET', '/api/v1/workers')).body.data
  return { ...cluster, fleet, lines, started, workers, replaced: () => replaced }
}

test('a burst of 20,000 tasks grows the fleet, which shrinks again, and none is lost', async () => {
  const TASKS = 20_000
  const AT_ONCE = 50
  const { api, upstream, workers, count, lines } = await startFleet({
    WORKERS_MIN: '1',
    WORKERS_MAX: '3',
    WORKER_CONCURRENCY: '10',
    WORKER_CONCURRENCY_MAX: '100',
  })
  // One process answers 170 a second at most, and any machine accepts more.
  upstream.default({ text: 'done', delayMs: 600 })
  expect(await workers()).toMatchObject([{ concurrency: 10 }])

  const names = markers('burst', TASKS)
  for (let n = 0; n < TASKS; n += AT_ONCE) await api.submitAll(names.slice(n, n + AT_ONCE))
  const grown = await until('there are as many as there may be', async () => {
    const seen = await workers()
    return seen.length === 3 && seen.every(one => one.concurrency > 10) && seen
  })
  expect(new Set(grown.map(one => one.pid)).size).toBe(3)
  await until('all have ended', async () => (await count(`tasks WHERE status IN ('queued', 'running')`)) === 0)
  await until('one is left, as small as at first', async () => {
    const seen = await workers()
    return seen.length === 1 && seen[0]!.concurrency === 10
  })

  expect(await count(`tasks WHERE status = 'succeeded' AND source = 'ai'`)).toBe(TASKS)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  expect(await count(CALLS)).toBe(TASKS)
  expect(lines[0]).toMatch(/^worker: 1 -> [23] processes$/)
  expect(lines.at(-1)).toMatch(/^worker: [23] -> 1 processes$/)
})

test('a worker that is frozen is killed, another takes its place, and others make its calls', async () => {
  const { api, upstream, workers, started, ended, lines, replaced } = await startFleet({ WORKERS_MIN: '2' })
  const held = upstream.hold()
  const names = markers('frozen', 20)
  const ids = await api.submitAll(names)
  await within('all are in flight', held.waiting(20))
  const [frozen, other] = [started[0]!, started[1]!]
  signalIfAlive(frozen.pid, 'SIGSTOP')
  await frozen.exited
  expect(lines).toContainEqual(expect.stringMatching(/^worker [12] has been silent for 15 s: killing it$/))
  held.release()
  await ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
  const pids = await until('there are two again', async () => {
    const seen = (await workers()).map(one => one.pid)
    return seen.length === 2 && !seen.includes(frozen.pid) && seen
  })
  expect(pids).toContain(other.pid)
  expect(replaced()).toMatchObject({ frozen: 1, not_consuming: 0 })
})

test('a worker that lives and takes no jobs is replaced, and the jobs are done', async () => {
  const starving = ['--import', `${ROOT}/apps/local/testing/starving.ts`]
  const fleet = await startFleet({ WORKERS_MAX: '1', CALL_TIMEOUT_SECONDS: '5' }, n => (n === 0 ? starving : []))
  const { api, upstream, workers, started, ended, lines, replaced } = fleet
  const names = markers('starved', 20)
  const ids = await api.submitAll(names)
  await ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded', attempts: [{}] })
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  await started[0]!.exited
  await until('only its successor is there', async () => {
    const seen = await workers()
    return seen.length === 1 && seen[0]!.pid === started[1]!.pid
  })
  expect(lines).toContain('worker 1 takes no jobs, though there are some; replacing it')
  expect(replaced()).toMatchObject({ not_consuming: 1, exited: 0 })
})

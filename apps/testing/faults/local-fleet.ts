import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { type Child, startChild } from '#apps/local/child.ts'
import { createFleet } from '#apps/local/fleet.ts'
import { parseConfig } from '#shared/config.ts'
import type { Reason } from '#shared/process/parent-ipc.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { countedOtherThan, type Env, markers, ROOT, startCluster, until } from './cluster.ts'

/** Pauses between the probes of a worker, and before it is started again, last this part of the real ones. */
const PAUSE_SCALE = 0.1

type Options = {
  env: Env
  /** Arguments of Node for the n-th worker. */
  argsOf?: (n: number) => string[]
  onTestFinished: (close: () => Promise<void>) => void
}

/** An API, and the worker processes as `npm start` runs them. */
export async function startFleet({ env, argsOf = () => [], onTestFinished }: Options) {
  const cluster = await startCluster({ workers: 0, env: { BATCH_PROCESSES: '0', ...env } })
  const lines: string[] = []
  const started: Child[] = []
  const replaced: Reason[] = []
  const fleet = createFleet({
    config: parseConfig(cluster.env),
    databaseUrl: cluster.databaseUrl,
    holdSeconds: 2,
    startWorker: async ({ args, env, signal }) => {
      const command = [...argsOf(started.length), `${ROOT}/workers/main.ts`, ...args]
      const child = await startChild({
        args: command,
        cwd: ROOT,
        env: { ...cluster.env, ...env },
        drainMs: 5000,
        signal,
      })
      started.push(child)
      return child
    },
    onReplaced: reason => replaced.push(reason),
    log: line => lines.push(line),
    now: () => performance.now(),
    wait: (ms, signal) => delay(ms * PAUSE_SCALE, undefined, { signal }).catch(() => {}),
  })
  onTestFinished(async () => {
    await fleet.stop()
    await cluster.close()
  })
  await fleet.open((_, start) => start(new AbortController().signal))
  fleet.follow()
  type Seen = { pid: number; concurrency: number }
  const workers = async (): Promise<Seen[]> => (await cluster.api.call('GET', '/api/v1/workers')).body.data
  return { ...cluster, fleet, lines, started, workers, replaced }
}

/** Submits a burst of `tasks` and expects that the fleet grows to three processes, answers every task once and shrinks again. */
export async function growAndShrink(
  { api, upstream, workers, count, lines }: Awaited<ReturnType<typeof startFleet>>,
  tasks: number,
): Promise<void> {
  const AT_ONCE = 50
  expect(await workers()).toHaveLength(1)
  const names = markers('burst', tasks)
  for (let n = 0; n < tasks; n += AT_ONCE) await api.submitAll(names.slice(n, n + AT_ONCE))
  const grown = await until('the fleet has three processes', async () => {
    const seen = await workers()
    return seen.length === 3 && seen
  })
  expect(new Set(grown.map(one => one.pid)).size).toBe(3)
  await until('all tasks have ended', async () => (await count(`tasks WHERE status IN ('queued', 'running')`)) === 0)
  await until('one process is left', async () => (await workers()).length === 1)

  expect(await count(`tasks WHERE status = 'succeeded' AND source = 'ai'`)).toBe(tasks)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  expect(await count(CALLS)).toBe(tasks)
  expect(lines[0]).toMatch(/^worker: 1 -> [23] processes$/)
  expect(lines.at(-1)).toMatch(/^worker: [23] -> 1 processes$/)
}

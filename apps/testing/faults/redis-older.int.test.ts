import { expect, test, vi } from 'vitest'
import { signalIfAlive } from '#apps/local/process.ts'
import { startRedis } from '#apps/local/redis.ts'
import { startTcpProxy } from '#shared/testing/tcp-proxy.ts'
import { directoryAndClosers, onServer, promote, startPair } from '../setup/failover.ts'
import type { Closers } from '../setup/servers.ts'
import { type Cluster, countedOtherThan, markers, PATIENT, startCluster, until } from './cluster.ts'

vi.setConfig(PATIENT)

const LIMIT = 10

async function start(url: string, closers: Closers): Promise<Cluster> {
  const env = { REDIS_URL: url, WORKER_CONCURRENCY: '40', ANTHROPIC_RPM: `${LIMIT}` }
  const cluster = await startCluster({ env, workers: 2 })
  closers.push(cluster.close)
  return cluster
}

/** Resolves when `waiting` tasks wait for a slot of the window, or more calls were made than the limit of a minute. */
const decided = ({ count, upstream }: Cluster, waiting: number) =>
  until(
    'the gate has decided',
    async () =>
      upstream.count() > LIMIT || (await count(`tasks WHERE status = 'queued' AND run_at > now()`)) >= waiting,
  )

const SHORT = { options: { fallback: 'none' } }

test.concurrent('a server restarts with an older snapshot: the limit counts the calls since then', async ({
  onTestFinished,
}) => {
  const { dir, closers } = directoryAndClosers(onTestFinished)
  const settings = ['appendonly no']
  const server = { dir, role: 'queue', password: 'older', settings } as const
  const before = await startRedis(server)
  closers.push(() => before.stop())
  const cluster = await start(before.url, closers)
  const { api, upstream } = cluster
  const first = markers('saved', 3)
  await cluster.ended(await api.submitAll(first, SHORT))
  await onServer(before, redis => redis.save())
  const rest = markers('not-saved', LIMIT - first.length)
  await cluster.ended(await api.submitAll(rest, SHORT))
  expect(upstream.count()).toBe(LIMIT)
  signalIfAlive(before.pid, 'SIGKILL')
  await before.exited
  const after = await startRedis({ ...server, port: before.port })
  closers.push(() => after.stop())
  const late = markers('late', LIMIT)
  await api.submitAll(late, SHORT)
  await decided(cluster, late.length)
  expect(upstream.count()).toBe(LIMIT)
})

test.concurrent('a replica that lags becomes the primary: the limit counts the calls that only the old primary admitted', async ({
  onTestFinished,
}) => {
  const { dir, closers } = directoryAndClosers(onTestFinished)
  const [old, lagging] = await startPair(dir, closers)
  const proxy = await startTcpProxy(old.port)
  closers.push(proxy.close)
  const cluster = await start(old.url.replace(`:${old.port}`, `:${proxy.port}`), closers)
  const { api, upstream } = cluster
  await cluster.ended(await api.submitAll(markers('in-both', 2), SHORT))
  await promote(lagging)
  const lost = markers('in-one', LIMIT - 2)
  await cluster.ended(await api.submitAll(lost, SHORT))
  expect(upstream.count()).toBe(LIMIT)
  await proxy.close()
  proxy.redirect(lagging.port)
  await proxy.open()
  const late = markers('late', LIMIT)
  await api.submitAll(late, SHORT)
  await decided(cluster, late.length)
  expect(upstream.count()).toBe(LIMIT)
  expect(countedOtherThan(upstream, lost, 1)).toEqual({})
})

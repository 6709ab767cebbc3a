import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { connectPatiently } from '#shared/testing/redis.ts'
import { startTcpProxy } from '#shared/testing/tcp-proxy.ts'
import { directoryAndClosers, follow, infoOf, onServer, promote, startPair, startSentinel } from '../setup/failover.ts'
import type { Closers } from '../setup/servers.ts'
import { type Cluster, countedOtherThan, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

async function start(url: string, closers: Closers): Promise<Cluster> {
  const cluster = await startCluster({ env: { REDIS_URL: url, WORKER_CONCURRENCY: '5' } })
  closers.push(cluster.close)
  return cluster
}
const redisOf = async ({ api }: Cluster) => (await api.call('GET', '/health/ready')).body.parts.redis

async function allEnd(cluster: Cluster, names: string[], ids: string[]) {
  await cluster.ended(ids)
  expect(countedOtherThan(cluster.upstream, names, 1)).toEqual({})
  for (const task of await cluster.api.tasks(ids)) expect(task.status).toBe('succeeded')
}

test.concurrent('a primary that becomes a replica and keeps its connections is detected and reported, and clients leave it', async ({
  onTestFinished,
}) => {
  const { dir, closers } = directoryAndClosers(onTestFinished)
  const [old, next] = await startPair(dir, closers)
  const proxy = await startTcpProxy(old.port)
  closers.push(proxy.close)
  const cluster = await start(old.url.replace(`:${old.port}`, `:${proxy.port}`), closers)
  const { api, upstream } = cluster
  await until('all is well', async () => (await redisOf(cluster)) === 'ok')

  const before = markers('before', 20)
  const held = upstream.hold()
  const ids = await api.submitAll(before)
  await within('calls are in flight', held.waiting(5))
  await promote(next)
  await follow(old, next)
  await until('the health reports it', async () => (await redisOf(cluster)) === 'readonly')
  await expect.poll(() => api.call('GET', '/health/ready')).toMatchObject({ status: 200, body: { status: 'degraded' } })
  await expect.poll(() => api.call('GET', '/health/ready?strict=1')).toMatchObject({ status: 503 })
  const metrics = async (port: number) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  for (const { port } of [api, cluster.workers[0]!])
    await until('it is counted', async () => /^sluice_redis_writable\{.*queue.*\} 0/m.test(await metrics(port)))
  const worker = async () => (await fetch(`http://127.0.0.1:${cluster.workers[0]!.port}/health/ready`)).json()
  await expect.poll(worker).toMatchObject({ parts: { redis: 'readonly' } })

  const meanwhile = markers('meanwhile', 20)
  ids.push(...(await api.submitAll(meanwhile)))
  held.release()
  proxy.redirect(next.port)
  await allEnd(cluster, [...before, ...meanwhile], ids)
  await until('all is well', async () => (await redisOf(cluster)) === 'ok')
  const after = markers('after', 5)
  await allEnd(cluster, after, await api.submitAll(after))
  // Subscriptions, too: only the connection of this query is left.
  const left = () => onServer(old, async redis => String(await redis.client('LIST')).match(/name=sluice\S*/g) ?? [])
  await expect.poll(left).toEqual([])
})

test.concurrent('two failovers by Sentinel, there and back, lose no task and repeat no call', async ({
  onTestFinished,
}) => {
  const { dir, closers } = directoryAndClosers(onTestFinished)
  const [old, next] = await startPair(dir, closers)
  const sentinel = await startSentinel(join(dir, 'queue'), old, closers)
  const cluster = await start(sentinel.url, closers)
  const asked = connectPatiently(`redis://127.0.0.1:${sentinel.port}`)
  closers.push(() => asked.disconnect())
  const primaryIs = (port: number) =>
    until('the Sentinel reports it', async () => {
      const at = (await asked.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'main')) as string[]
      return at[1] === `${port}`
    })
  const failOver = () =>
    until('the Sentinel agrees', () =>
      asked.call('SENTINEL', 'FAILOVER', 'main').then(
        () => true,
        () => false,
      ),
    )
  const held = cluster.upstream.hold()
  const names = markers('sentinel', 20)
  const ids = await cluster.api.submitAll(names)
  await within('calls are in flight', held.waiting(5))
  await failOver()
  await primaryIs(next.port)
  held.release()
  await allEnd(cluster, names, ids)
  await until('the old one follows', async () => (await infoOf(old, 'master_link_status')) === 'up')
  await failOver()
  await primaryIs(old.port)
  const again = markers('again', 20)
  await allEnd(cluster, again, await cluster.api.submitAll(again))
  await until('all is well', async () => (await redisOf(cluster)) === 'ok')
})

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { expect, onTestFinished, test, vi } from 'vitest'
import { freePort, type Server } from '#apps/local/process.ts'
import { startRedis } from '#apps/local/redis.ts'
import { startRedisCluster } from '#apps/testing/setup/redis-cluster.ts'
import { createLogger } from '#shared/process/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis/connect.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { stopAfterTest, temporaryDirectory } from '../setup/temporary.ts'
import { batchesOf, jsonl } from './batches.ts'
import { textOf } from './client.ts'
import { ADMIN_KEY, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

/** Tests with a Redis like a cloud provider's: TLS, a certificate of a private authority, and a user without admin rights. */

const USER = 'sluice'
const PASSWORD = 'p@ss:w/rd'

/** A Redis, or a cluster of three masters, with a TLS port, and a plain port for the test itself. */
async function managed(kind: 'server' | 'cluster') {
  const dir = temporaryDirectory()
  const prefix = testPrefix()
  const files = await certificate(dir)
  const acl = [`~{${prefix}*`, `~${prefix}:*`, '&*', '+@all', '-@admin', '-@dangerous', '+info', '+client|list']
  const settings = (tlsPort: number) => [
    `tls-port ${tlsPort}`,
    `tls-ca-cert-file ${files.ca}`,
    `tls-cert-file ${files.cert}`,
    `tls-key-file ${files.key}`,
    'tls-auth-clients no',
    'acllog-max-len 1000',
    `user ${USER} on >${PASSWORD} ${acl.join(' ')}`,
  ]
  const ports = [await freePort(), await freePort(), await freePort()]
  const account = `${USER}:${encodeURIComponent(PASSWORD)}`
  const { url, nodes } = await (async () => {
    if (kind === 'server') {
      const server = stopAfterTest(await startRedis({ dir, role: 'queue', settings: settings(ports[0]!) }))
      return { url: `rediss://${account}@localhost:${ports[0]}`, nodes: [server] }
    }
    const cluster = await startRedisCluster({ dir, settings: node => [...settings(ports[node]!), 'tls-cluster yes'] })
    onTestFinished(cluster.stop)
    // Clients find the other nodes through one node.
    return { url: `rediss+cluster://${account}@localhost:${ports[0]}`, nodes: cluster.nodes }
  })()
  return { url, prefix, nodes, ca: files.ca }
}

async function certificate(dir: string) {
  const options = { keyType: 'ec', algorithm: 'sha256' } as const
  const authority = await generate([{ name: 'commonName', value: 'tests of Sluice' }], {
    ...options,
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, critical: true },
    ],
  })
  const server = await generate([{ name: 'commonName', value: 'redis' }], {
    ...options,
    ca: { key: authority.private, cert: authority.cert },
    extensions: [
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  })
  const write = (name: string, text: string) => {
    const file = join(dir, name)
    writeFileSync(file, text)
    return file
  }
  return {
    ca: write('ca.pem', authority.cert),
    cert: write('redis.pem', server.cert),
    key: write('redis.key', server.private),
  }
}

/** Runs `work` on a node as the admin. */
async function asOwner<T>(node: Server, work: (redis: ReturnType<typeof connectRedis>) => Promise<T>): Promise<T> {
  const logger = createLogger({ level: 'silent', name: 'test' })
  const redis = connectRedis({ url: node.url, role: 'blocking', name: 'owner', logger })
  try {
    return await work(redis)
  } finally {
    closeRedis(redis)
  }
}

/** The log of a connection in this process, which does not know the private authority, during its first attempts. */
async function said(url: string): Promise<{ level: number; msg: string; err: { message: string } }[]> {
  const lines: string[] = []
  const logger = createLogger({ level: 'info', name: 'test' }, { write: line => void lines.push(line) })
  const redis = connectRedis({ url, role: 'blocking', name: 'queue', logger })
  onTestFinished(() => closeRedis(redis))
  let tries = 0
  redis.on('reconnecting', () => tries++)
  await until('it has tried three times and logged the reason', () => tries >= 3 && lines.length > 0)
  return lines.map(line => JSON.parse(line))
}

const KINDS = ['server', 'cluster'] as const

test('everything works with TLS and a restricted user, on a server and on a cluster', async () => {
  await Promise.all(KINDS.map(async kind => everythingWorks(await managed(kind))))
})

async function everythingWorks(redis: Awaited<ReturnType<typeof managed>>) {
  const env = { REDIS_URL: redis.url, REDIS_PREFIX: redis.prefix, NODE_EXTRA_CA_CERTS: redis.ca }
  const cluster = await startCluster({ env })
  onTestFinished(cluster.close)
  const batches = batchesOf(cluster)
  onTestFinished(batches.close)
  const { api, upstream } = cluster
  upstream.default({ text: 'done' })

  const ids = await api.submitAll(markers('managed', 20))
  await cluster.ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
  const cached = { options: { cache: 'use' } }
  const first = await api.task(await api.submit('[[cached]]', cached), 30)
  expect(await api.post('[[cached]]', cached)).toMatchObject({
    status: 200,
    body: { source: 'cache', result: first.result },
  })
  // The stream needs pub/sub.
  const held = upstream.hold({ when: /streamed/ })
  const streamed = await api.submit('[[streamed]]', { options: { stream: true } })
  const stream = await api.events(streamed)
  held.release()
  expect(textOf(await stream.rest())).toBe('done')
  // So does the cancellation.
  const never = upstream.hold({ when: /cancelled/ })
  const cancelled = await api.submit('[[cancelled]]')
  await within('it is called', never.waiting(1))
  expect(await api.cancel(cancelled)).toMatchObject({ status: 200, body: { status: 'cancelled' } })
  await within('the call is aborted', upstream.aborted(1))
  // A second attempt is a delayed job.
  upstream.script({ status: 529, when: /again/ })
  expect(await api.task(await api.submit('[[again]]', { options: { fallback: 'none' } }), 30)).toMatchObject({
    status: 'succeeded',
    attempts: [{ outcome: 'overloaded' }, { outcome: 'succeeded' }],
  })

  const batch = await batches.create(jsonl(markers('line', 20)), {
    surface: 'openai',
    endpoint: '/v1/chat/completions',
  })
  expect(await batches.until(batch, 'has ended', ({ status }) => status === 'completed')).toMatchObject({
    succeeded: 20,
  })

  await expect
    .poll(() => api.call('GET', '/health/ready?strict=1'))
    .toMatchObject({
      status: 200,
      body: { parts: { redis: 'ok' } },
    })
  const basic = { key: null, headers: { authorization: `Basic ${btoa(`:${ADMIN_KEY}`)}` } }
  const board = await api.call('GET', '/queues/api/queues?activeQueue=default&status=completed', basic)
  expect(board).toMatchObject({ status: 200 })
  const metrics = async () => (await fetch(`http://127.0.0.1:${api.port}/metrics`)).text()
  await expect.poll(metrics).toMatch(/^sluice_redis_memory_bytes\S* [1-9]/m)

  let clients = 0
  for (const node of redis.nodes)
    await asOwner(node, async owner => {
      expect(await owner.call('ACL', 'LOG')).toEqual([])
      const all = String(await owner.call('CLIENT', 'LIST'))
        .trimEnd()
        .split('\n')
      const ours = all.filter(line => line.includes(`user=${USER}`))
      clients += ours.length
      // Connections on the plain port are those of this test and between masters.
      expect(all.filter(line => line.includes(`laddr=127.0.0.1:${node.port}`) && ours.includes(line))).toEqual([])
    })
  expect(clients).toBeGreaterThan(3)
}

test('a server or cluster that refuses the connection is logged once with the reason, over many attempts', async () => {
  await Promise.all(
    KINDS.map(async kind => {
      const redis = await managed(kind)
      const refused = { level: 'warn', msg: 'redis is unavailable', connection: 'queue' }
      // This process does not know the private authority.
      const untrusted = await said(redis.url)
      expect(untrusted).toMatchObject([
        { ...refused, err: { message: expect.stringContaining('self-signed certificate') } },
      ])
      const scheme = kind === 'server' ? 'redis' : 'redis+cluster'
      const wrong = await said(`${scheme}://${USER}:planted@127.0.0.1:${redis.nodes[0]!.port}`)
      expect(wrong).toMatchObject([{ ...refused, err: { message: expect.stringContaining('WRONGPASS') } }])
      expect(JSON.stringify(wrong)).not.toContain('planted')
    }),
  )
})

test('an API with a wrong Redis password accepts tasks, which run once a process has the right one', async () => {
  const redis = await managed('server')
  const right = { REDIS_URL: redis.url, REDIS_PREFIX: redis.prefix, NODE_EXTRA_CA_CERTS: redis.ca }
  const wrong = { ...right, REDIS_URL: redis.url.replace(encodeURIComponent(PASSWORD), 'wrong') }
  const cluster = await startCluster({ env: wrong, workers: 0 })
  onTestFinished(cluster.close)
  const ids = await cluster.api.submitAll(markers('locked-out', 5))
  await expect
    .poll(() => cluster.api.call('GET', '/health/ready'))
    .toMatchObject({
      status: 200,
      body: { status: 'degraded', parts: { redis: 'unavailable' } },
    })
  await cluster.startApi(right)
  await cluster.startWorker(right)
  await cluster.ended(ids)
  for (const task of await cluster.api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded' })
})

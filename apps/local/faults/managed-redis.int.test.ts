import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createLogger } from '#shared/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { freePort, type Server } from '../process.ts'
import { startRedis } from '../redis.ts'
import { startRedisCluster } from '../redis-cluster.ts'
import { stopAfterTest, temporaryDirectory } from '../testing/temporary.ts'
import { batchesOf, jsonl } from './batches.ts'
import { textOf } from './client.ts'
import { ADMIN_KEY, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

/** Redis as it is rented: over TLS, with a certificate of an authority of its own, for a user who may do nothing else. */

const USER = 'sluice'
const PASSWORD = 'p@ss:w/rd'

/** A Redis, or three masters, with TLS beside the plain port, which the test looks through. */
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
    // One of its nodes tells of the others.
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

/** Speaks to a node as the one who may do everything. */
async function asOwner<T>(node: Server, work: (redis: ReturnType<typeof connectRedis>) => Promise<T>): Promise<T> {
  const logger = createLogger({ level: 'silent', name: 'test' })
  const redis = connectRedis({ url: node.url, role: 'blocking', name: 'owner', logger })
  try {
    return await work(redis)
  } finally {
    closeRedis(redis)
  }
}

/** What a connection in this process, which knows no private authority, says within its first retries. */
async function said(url: string): Promise<{ level: number; msg: string; err: { message: string } }[]> {
  const lines: string[] = []
  const logger = createLogger({ level: 'info', name: 'test' }, { write: line => void lines.push(line) })
  const redis = connectRedis({ url, role: 'blocking', name: 'queue', logger })
  onTestFinished(() => closeRedis(redis))
  let tries = 0
  redis.on('reconnecting', () => tries++)
  await until('it has tried thrice, and said why', () => tries >= 3 && lines.length > 0)
  return lines.map(line => JSON.parse(line))
}

test.each(['server', 'cluster'] as const)('everything works with TLS and a user of its own on a %s', async kind => {
  const redis = await managed(kind)
  const env = { REDIS_URL: redis.url, REDIS_PREFIX: redis.prefix, NODE_EXTRA_CA_CERTS: redis.ca }
  const cluster = await startCluster({ env })
  onTestFinished(cluster.close)
  const batches = batchesOf(cluster)
  onTestFinished(batches.close)
  const { api, upstream } = cluster
  upstream.default({ text: 'done' })

  const ids = await api.submitAll(markers('managed', 50))
  await cluster.ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
  const cached = { options: { cache: 'use' } }
  const first = await api.task(await api.submit('[[cached]]', cached), 30)
  expect(await api.post('[[cached]]', cached)).toMatchObject({
    status: 200,
    body: { source: 'cache', result: first.result },
  })
  // Waits for what is said through pub/sub.
  const held = upstream.hold({ when: /streamed/ })
  const streamed = await api.submit('[[streamed]]', { options: { stream: true } })
  const stream = await api.events(streamed)
  held.release()
  expect(textOf(await stream.rest())).toBe('done')
  // The worker hears of it through pub/sub.
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

  const batch = await batches.create(jsonl(markers('line', 100)), {
    surface: 'openai',
    endpoint: '/v1/chat/completions',
  })
  expect(await batches.until(batch, 'has ended', ({ status }) => status === 'completed')).toMatchObject({
    succeeded: 100,
  })

  expect(await api.call('GET', '/health/ready?strict=1')).toMatchObject({
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
      // Whoever came through the plain port is the test's, or one master that talks to another.
      expect(all.filter(line => line.includes(`laddr=127.0.0.1:${node.port}`) && ours.includes(line))).toEqual([])
    })
  expect(clients).toBeGreaterThan(3)
})

test.each(['server', 'cluster'] as const)(
  'why a %s lets nobody in is one line of the log, however often it is tried',
  async kind => {
    const redis = await managed(kind)
    const refused = { level: 'warn', msg: 'redis is away', connection: 'queue' }
    // This process knows no private authority.
    const untrusted = await said(redis.url)
    expect(untrusted).toMatchObject([
      { ...refused, err: { message: expect.stringContaining('self-signed certificate') } },
    ])
    const scheme = kind === 'server' ? 'redis' : 'redis+cluster'
    const wrong = await said(`${scheme}://${USER}:planted@127.0.0.1:${redis.nodes[0]!.port}`)
    expect(wrong).toMatchObject([{ ...refused, err: { message: expect.stringContaining('WRONGPASS') } }])
    expect(JSON.stringify(wrong)).not.toContain('planted')
  },
)

test('with a wrong password tasks are accepted, and are worked off once the right one is set', async () => {
  const redis = await managed('server')
  const right = { REDIS_URL: redis.url, REDIS_PREFIX: redis.prefix, NODE_EXTRA_CA_CERTS: redis.ca }
  const wrong = { ...right, REDIS_URL: redis.url.replace(encodeURIComponent(PASSWORD), 'wrong') }
  const cluster = await startCluster({ env: wrong, workers: 0 })
  onTestFinished(cluster.close)
  const ids = await cluster.api.submitAll(markers('locked-out', 5))
  expect(await cluster.api.call('GET', '/health/ready')).toMatchObject({
    status: 200,
    body: { status: 'degraded', parts: { redis: 'unavailable' } },
  })
  await cluster.startApi(right)
  await cluster.startWorker(right)
  await cluster.ended(ids)
  for (const task of await cluster.api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded' })
})

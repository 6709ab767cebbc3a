import { once } from 'node:events'
import { connect } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { toWire } from '#shared/ids.ts'
import { batchesOf } from './batches.ts'
import { type Cluster, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
let batches: ReturnType<typeof batchesOf>
beforeAll(async () => {
  // No worker runs the batches: the tests change them.
  cluster = await startCluster({
    workers: 0,
    env: { EVENT_STREAMS_PER_KEY: '60', EVENT_STREAMS_MAX: '65', DB_POOL: '10' },
  })
  batches = batchesOf(cluster)
})
afterAll(async () => {
  await batches?.close()
  await cluster?.close()
})

const request = (path: string, key: string | null, signal?: AbortSignal) =>
  fetch(`http://127.0.0.1:${cluster.api.port}${path}`, {
    ...(key && { headers: { authorization: `Bearer ${key}` } }),
    ...(signal && { signal }),
  })

type Stream = { has(text: string): Promise<void>; leave(): void }

async function openStream(path: string, key: string): Promise<Stream> {
  const cancel = new AbortController()
  const response = await request(path, key, cancel.signal)
  expect(response.status).toBe(200)
  const reader = response.body!.getReader()
  let text = ''
  return {
    async has(wanted) {
      while (!text.includes(wanted)) {
        const { value, done } = await reader.read()
        if (done) throw new Error(`the stream ended before: ${text}`)
        text += new TextDecoder().decode(value)
      }
    },
    leave: () => cancel.abort(),
  }
}

/** Locks the table against reads while `work` runs. @param work receives a function that counts the statements waiting for the table */
async function withTableLocked(table: string, work: (waiting: () => Promise<number>) => Promise<void>): Promise<void> {
  const locker = new pg.Client({ connectionString: cluster.databaseUrl })
  await locker.connect()
  try {
    await locker.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`)
    await work(() =>
      cluster.count(
        `pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%${table}%'`,
      ),
    )
  } finally {
    await locker.end()
  }
}

test('50 streams of one batch get its progress through a few queries', async () => {
  const key = await cluster.api.makeKey({ name: 'many streams', scopes: ['admin'] })
  const id = await batches.create('{}', { surface: 'openai', endpoint: '/v1/chat/completions' })
  const path = `/api/v1/batches/${toWire('batch', id)}/events`
  const streams = await Promise.all(Array.from({ length: 50 }, () => openStream(path, key)))
  await Promise.all(streams.map(stream => stream.has('"status":"validating"')))
  const scans = async () => {
    const [row] = await cluster.sql<{ n: number }>(
      `SELECT idx_scan::int AS n FROM pg_stat_user_indexes WHERE indexrelname = 'batches_pkey'`,
    )
    return row!.n
  }
  // The statistics of Postgres are delayed.
  await until('their first queries are counted', async () => (await scans()) >= 50)
  const before = await scans()
  for (const total of [7, 8, 9]) {
    await cluster.sql('UPDATE batches SET total = $2 WHERE id = $1', [id, total])
    await within('all streams hear of it', Promise.all(streams.map(stream => stream.has(`"total":${total}`))))
  }
  // Each change takes one query, or a few on a slow machine; one query per stream would be 150.
  expect((await scans()) - before).toBeLessThan(75)
  for (const stream of streams) stream.leave()
})

test('a stream beyond the limit of its key or of all keys is refused with Retry-After', async () => {
  const [one, other] = (await Promise.all(
    ['one', 'other'].map(name => cluster.api.makeKey({ name, scopes: ['admin'] })),
  )) as [string, string]
  const batch = toWire('batch', await batches.create('{}', { surface: 'openai', endpoint: '/v1/chat/completions' }))
  const task = await cluster.api.submit('[[streamed]]')
  const paths = [`/api/v1/batches/${batch}/events`, `/api/v1/tasks/${task}/events`] as const
  await until('the streams of earlier tests have ended', async () => {
    const probe = await request(paths[0], other)
    await probe.body?.cancel()
    return probe.status === 200
  })
  const streams = await Promise.all(Array.from({ length: 60 }, (_, n) => openStream(paths[n % 2]!, one)))
  for (const path of paths) {
    const refused = await request(path, one)
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('5')
    expect(await refused.json()).toMatchObject({
      code: 'too_many_streams',
      detail: expect.stringContaining('EVENT_STREAMS_PER_KEY'),
      context: { limit: 60 },
    })
  }
  const others = await Promise.all(Array.from({ length: 5 }, (_, n) => openStream(paths[n % 2]!, other)))
  const busy = await request(paths[0], other)
  expect(busy.status).toBe(503)
  expect(await busy.json()).toMatchObject({ code: 'server_busy' })
  streams.pop()!.leave()
  await until('there is room for one more', async () => {
    const again = await request(paths[1], one)
    if (again.status === 200) others.push({ has: async () => {}, leave: () => void again.body?.cancel() })
    return again.status === 200
  })
  for (const stream of [...streams, ...others]) stream.leave()
})

test('a client that disconnects before its key is verified has no stream open', async () => {
  const key = await cluster.api.makeKey({ name: 'gone early', scopes: ['admin'] })
  const batch = toWire('batch', await batches.create('{}', { surface: 'openai', endpoint: '/v1/chat/completions' }))
  const task = await cluster.api.submit('[[gone]]')
  const paths = [`/api/v1/batches/${batch}/events`, `/api/v1/tasks/${task}/events`]
  await withTableLocked('api_keys', async waiting => {
    const sockets = Array.from({ length: 60 }, (_, n) => {
      const socket = connect(cluster.api.port, '127.0.0.1')
      socket.write(`GET ${paths[n % 2]} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${key}\r\n\r\n`)
      return socket
    })
    await Promise.all(sockets.map(socket => once(socket, 'connect')))
    await until('the key is looked up', async () => (await waiting()) > 0)
    for (const socket of sockets) socket.resetAndDestroy()
    // Answered after the requests before them.
    for (let n = 0; n < 3; n++) await request('/health/live', null)
  })
  await until('the key may open all its streams', async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => request(paths[n % 2]!, key)))
    await Promise.all(answers.map(answer => answer.body?.cancel()))
    return answers.every(answer => answer.status === 200)
  })
})

test.each([
  // One statement, in addition to those of the sweeper and of the heartbeat.
  ['/metrics', 'webhook_deliveries', 2, 200],
  ['/health/ready', 'workers', 4, 200],
])(
  '%s is computed once for concurrent requests, also while Postgres does not answer',
  async (path, table, most, status) => {
    await withTableLocked(table, async waiting => {
      for (let round = 0; round < 3; round++) {
        const answers = await Promise.all(Array.from({ length: 50 }, () => request(path, null)))
        expect(answers.map(answer => answer.status)).toEqual(answers.map(() => status))
        await Promise.all(answers.map(answer => answer.text()))
        expect(await waiting()).toBeLessThanOrEqual(most)
      }
      expect(await cluster.api.call('GET', '/api/v1/tasks')).toMatchObject({ status: 200 })
    })
  },
)

import pg from 'pg'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { type Cluster, countedOtherThan, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ own: ['postgres'], env: { WORKER_CONCURRENCY: '10' } })
})
afterAll(() => cluster?.close())
beforeEach(async () => {
  // A test that failed may have left it dead.
  await cluster.postgres!.start()
  await cluster.begin()
})

const ready = () => until('it is ready', async () => (await cluster.api.call('GET', '/health/ready')).status === 200)

test('kill -9 of Postgres under load: nothing is lost or repeated, and live claims survive', async () => {
  const { api, upstream, postgres } = cluster
  const inOutage = markers('answered-in-the-outage', 5)
  const after = markers('answered-after-it', 5)
  const held = [upstream.hold({ when: /in-the-outage/ }), upstream.hold({ when: /after-it/ })] as const
  const accepted = new Map<string, string>()
  const submit = async (name: string) => {
    const answer = await api.post(`[[${name}]]`)
    if (answer.status === 202) return void accepted.set(name, answer.body.task_id)
    expect(answer).toMatchObject({ status: 503, body: { code: 'unavailable' } })
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  }
  await Promise.all([...inOutage, ...after].map(submit))
  await within('ten calls are in flight', Promise.all(held.map(gate => gate.waiting(5))))
  // The worker is full: these stay queued.
  await Promise.all(markers('queued', 50).map(submit))
  expect(accepted.size).toBe(60)

  // Submits go on before, during and after the outage; refused ones are not counted.
  let over = false
  const submitting = (async () => {
    for (let n = 0; !over || n < 50; n++) await submit(`meanwhile-${n}`)
  })()
  await until('more are accepted', () => accepted.size > 60)
  await postgres!.kill()
  held[0].release()
  await postgres!.start()
  over = true
  await submitting
  held[1].release()
  const ids = [...accepted.values()]
  await cluster.ended(ids)

  expect(countedOtherThan(upstream, [...accepted.keys()], 1)).toEqual({})
  for (const task of await api.tasks(ids)) {
    expect(task.status).toBe('succeeded')
    expect(task.attempts).toMatchObject([{ outcome: 'succeeded' }])
  }
})

test('while Postgres is down, requests are refused with 503, and afterwards everything recovers', async () => {
  const { api, upstream, postgres } = cluster
  await ready()
  const before = await cluster.count('tasks')
  await postgres!.kill()
  const read = `/api/v1/tasks/task_${'0'.repeat(32)}`
  const refused = [
    ...(await Promise.all(markers('refused', 20).map(name => api.post(`[[${name}]]`)))),
    await api.post('[[refused]]', { headers: { prefer: 'wait=10' } }),
    await api.post('[[refused]]', { headers: { 'idempotency-key': 'refused' } }),
    // A key that this process has not seen: without Postgres it must not answer 401.
    await api.post('[[refused]]', { key: 'sk-sluice-unknown' }),
    await api.call('GET', read),
    await api.cancel(read.split('/').at(-1)!),
  ]
  for (const answer of refused) {
    expect(answer).toMatchObject({ status: 503, body: { code: 'unavailable', retryable: true } })
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  }
  await expect
    .poll(() => api.call('GET', '/health/ready'))
    .toMatchObject({
      status: 503,
      body: { status: 'unavailable', parts: { postgres: 'unavailable' } },
    })
  expect(await api.call('GET', '/health/live')).toMatchObject({ status: 200 })

  await postgres!.start()
  await ready()
  expect(await cluster.count('tasks')).toBe(before)
  const id = await api.submit('[[after]]')
  await cluster.ended([id])
  expect(await api.task(id)).toMatchObject({ status: 'succeeded', source: 'ai' })
  // A submit of the previous test may have been committed although its answer was lost; its task may still be running.
  const names = Object.entries(upstream.markers()).filter(([name]) => !name.startsWith('meanwhile-'))
  expect(Object.fromEntries(names)).toEqual({ after: 1 })
})

test('processes survive kill -9 of Postgres during a sweep', async () => {
  const { api, workers, upstream, postgres } = cluster
  await ready()
  const holdUp = new pg.Client({ connectionString: cluster.databaseUrl })
  holdUp.on('error', () => {})
  await holdUp.connect()
  await holdUp.query('BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE')
  await until('a process sweeps', () => cluster.count(`pg_locks WHERE locktype = 'advisory' AND granted`))
  await postgres!.kill()
  await postgres!.start()
  await ready()
  const id = await api.submit('[[swept]]')
  await cluster.ended([id])
  // The worker and the API are the processes from before.
  expect((await cluster.attempts(id))[0]).toMatchObject({ worker_id: workers[0]!.id, outcome: 'succeeded' })
  expect(upstream.markers()).toEqual({ swept: 1 })
})

test('a waiting client gets its answer across a short outage', async () => {
  const { api, upstream, postgres } = cluster
  await ready()
  const held = upstream.hold()
  const waiting = api.post('[[patient]]', { headers: { prefer: 'wait=60' } })
  await within('the call comes', held.waiting(1))
  await postgres!.kill()
  await postgres!.start()
  held.release()
  expect(await waiting).toMatchObject({
    status: 200,
    body: { status: 'succeeded', attempts: [{ outcome: 'succeeded' }] },
  })
})

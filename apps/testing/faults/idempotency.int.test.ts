import pg from 'pg'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { ADMIN_KEY, type Cluster, countedOtherThan, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2 })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

const withKey = (key: string, more: Record<string, string> = {}) => ({ headers: { 'idempotency-key': key, ...more } })

test('same key, same body: every API returns the same task with its current state', async () => {
  const { apis, api, upstream } = cluster
  const held = upstream.hold()
  const id = await api.submit('[[same]]', withKey('same'))
  await within('the call comes', held.waiting(1))
  for (const process of apis) {
    const again = await process.post('[[same]]', withKey('same'))
    expect(again).toMatchObject({ status: 202, body: { task_id: id, status: 'running' } })
    expect(again.headers.get('location')).toBe(`/api/v1/tasks/${id}`)
  }
  const waiting = apis.map(process => process.post('[[same]]', withKey('same', { prefer: 'wait=60' })))
  held.release()
  for (const answer of await Promise.all(waiting)) {
    expect(answer).toMatchObject({ status: 200, body: { task_id: id, status: 'succeeded', result: expect.anything() } })
  }
  const late = await apis[1]!.post('[[same]]', withKey('same'))
  expect(late).toMatchObject({ status: 202, body: { task_id: id, status: 'succeeded' } })
  // The order of fields does not matter.
  const body = { options: { cache: 'off' }, input: { prompt: '[[same]]' } }
  expect(await api.call('POST', '/api/v1/tasks/generate', { body, ...withKey('same') })).toMatchObject({
    status: 202,
    body: { task_id: id },
  })
  expect(countedOtherThan(upstream, ['same'], 1)).toEqual({})
})

test('same key, different body: 422, and nothing is stored', async () => {
  const { apis, api } = cluster
  const id = await api.submit('[[first]]', withKey('other'))
  const before = await cluster.count('tasks')
  for (const process of apis) {
    for (const options of [{ max_tokens: 5 }, {}]) {
      const prompt = options.max_tokens ? '[[first]]' : '[[second]]'
      expect(await process.post(prompt, { options, ...withKey('other') })).toMatchObject({
        status: 422,
        body: { code: 'idempotency_mismatch', context: { field: 'Idempotency-Key' } },
      })
    }
  }
  expect(await cluster.count('tasks')).toBe(before)
  expect(await api.post('[[first]]', withKey('other'))).toMatchObject({ status: 202, body: { task_id: id } })
  await cluster.ended([id])
})

test('while the first INSERT is not committed, every API refuses the same key with 409', async () => {
  const { apis, api, upstream } = cluster
  const before = await cluster.count('tasks')
  // A row of ours with the same key, not committed either, makes the first INSERT wait.
  const blocker = new pg.Client({ connectionString: cluster.databaseUrl })
  await blocker.connect()
  await blocker.query('BEGIN')
  await blocker.query(
    `INSERT INTO idempotency_keys (api_key_id, key, task_id, request_hash, expires_at)
      SELECT id, 'in-flight', gen_random_uuid(), '', now() FROM api_keys WHERE secret_hash = sha256($1::text::bytea)`,
    [ADMIN_KEY],
  )
  const first = api.post('[[in-flight]]', withKey('in-flight'))
  await until('it waits', () =>
    cluster.count(`pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`),
  )
  for (const process of apis) {
    const second = await process.post('[[in-flight]]', withKey('in-flight'))
    expect(second).toMatchObject({ status: 409, body: { code: 'idempotency_in_flight', retryable: true } })
    expect(Number(second.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  }
  expect(await cluster.count('tasks')).toBe(before)
  await blocker.query('ROLLBACK')
  await blocker.end()
  const accepted = await first
  expect(accepted).toMatchObject({ status: 202 })
  for (const process of apis) {
    const retried = await process.post('[[in-flight]]', withKey('in-flight'))
    expect(retried).toMatchObject({ status: 202, body: { task_id: accepted.body.task_id } })
  }
  expect(await cluster.count('tasks')).toBe(before + 1)
  await cluster.ended([accepted.body.task_id])
  expect(countedOtherThan(upstream, ['in-flight'], 1)).toEqual({})
})

test('two APIs get the same keys at the same time: each key creates one task', async () => {
  const { apis, upstream } = cluster
  const before = await cluster.count('tasks')
  const names = markers('race', 40)
  const ids = await Promise.all(
    names.map(async name => {
      const answers = await Promise.all([0, 1, 0, 1].map(n => apis[n]!.post(`[[${name}]]`, withKey(name))))
      for (const { status } of answers) expect([202, 409]).toContain(status)
      const accepted = answers.filter(answer => answer.status === 202).map(answer => answer.body.task_id as string)
      expect(new Set(accepted).size).toBe(1)
      return accepted[0]!
    }),
  )
  expect(await cluster.count('tasks')).toBe(before + names.length)
  await cluster.ended(ids)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
})

test('an Idempotency-Key belongs to its API key', async () => {
  const { api } = cluster
  const [one, other] = await Promise.all([api.makeKey({ name: 'one' }), api.makeKey({ name: 'other' })])
  const first = await api.submit('[[one]]', { key: one, ...withKey('shared') })
  const second = await api.submit('[[other]]', { key: other, ...withKey('shared') })
  expect(second).not.toBe(first)
  expect(await api.submit('[[one]]', { key: one, ...withKey('shared') })).toBe(first)
})

import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Cluster, PATIENT, startCluster, until } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ env: { WORKER_CONCURRENCY: '20' } })
})
afterAll(() => cluster?.close())

/** A key with `tasks` in its backlog, as after a burst. */
async function busyKey(name: string, weight: number, tasks: number): Promise<string> {
  await cluster.api.makeKey({ name, weight })
  const [key] = await cluster.sql<{ id: string }>('SELECT id FROM api_keys WHERE name = $1', [name])
  await cluster.sql(
    `INSERT INTO tasks (id, kind, queue, priority, api_key_id, input, options, run_at, deadline_at, created_at)
      SELECT uuidv7(), 'generate', 'default', 'normal', $1, '{"prompt": "Hi"}', '{}', now(), now() + interval '1 hour', now()
      FROM generate_series(1, $2)`,
    [key!.id, tasks],
  )
  return key!.id
}
const ended = async (key: string) =>
  Number(
    (
      await cluster.sql<{ n: string }>(
        "SELECT count(*) AS n FROM tasks WHERE api_key_id = $1 AND status = 'succeeded'",
        [key],
      )
    )[0]!.n,
  )

test('the first task of a key does not wait behind the thousands of another key', async () => {
  const busy = await busyKey('busy', 1, 4000)
  await until('the burst is under way', async () => (await ended(busy)) > 300)
  const secret = await cluster.api.makeKey({ name: 'newcomer', scopes: ['submit', 'read'] })
  const answer = await cluster.api.call('POST', '/api/v1/tasks/generate', {
    key: secret,
    body: { input: { prompt: 'Me too' } },
    headers: { prefer: 'wait=60' },
  })
  expect(answer).toMatchObject({ status: 200, body: { status: 'succeeded', source: 'ai' } })
  const [between] = await cluster.sql<{ n: string; left: string }>(
    `SELECT count(*) FILTER (WHERE t.finished_at BETWEEN n.created_at AND n.finished_at) AS n,
      count(*) FILTER (WHERE t.finished_at > n.finished_at OR t.finished_at IS NULL) AS left
      FROM tasks t, (SELECT t.* FROM tasks t JOIN api_keys k ON k.id = t.api_key_id WHERE k.name = 'newcomer') n
      WHERE t.api_key_id = $1`,
    [busy],
  )
  // The queue holds work for less than a second, and some calls were in flight.
  expect(Number(between!.n)).toBeLessThan(1500)
  expect(Number(between!.left)).toBeGreaterThan(1500)
  await cluster.sql("UPDATE tasks SET status = 'cancelled' WHERE api_key_id = $1 AND status = 'queued'", [busy])
})

test('keys with backlogs advance in proportion to their weights', async () => {
  const [heavy, light] = await Promise.all([busyKey('heavy', 3, 2500), busyKey('light', 1, 2500)])
  await until('1,600 tasks have ended', async () => (await ended(heavy)) + (await ended(light)) > 1600)
  const ratio = (await ended(heavy)) / (await ended(light))
  expect(ratio).toBeGreaterThan(2)
  expect(ratio).toBeLessThan(4.5)
  await cluster.sql("UPDATE tasks SET status = 'cancelled' WHERE status = 'queued'")
})

import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { type Cluster, PATIENT, startCluster, uuidOf, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2, env: { WORKER_CONCURRENCY: '3' } })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

const ALONE = { options: { fallback: 'none' } }

test('a client that disconnects while it waits or reads does not stop its task, and the cost is recorded', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold({ midway: true })
  const gone = new AbortController()
  const [polled, streamed] = [
    await api.submit('[[polled]]'),
    await api.submit('[[read]]', { options: { stream: true } }),
  ]
  const waiting = [
    api.post('[[preferred]]', { signal: gone.signal, headers: { prefer: 'wait=60' } }),
    api.call('GET', `/api/v1/tasks/${polled}?wait=60`, { signal: gone.signal }),
  ]
  const stream = await api.events(streamed)
  await stream.until(event => event.event === 'delta')
  await within('all three are called', held.waiting(3))
  // A round trip later the request before it has been read as well.
  await api.task(polled)
  gone.abort()
  stream.leave()
  for (const one of waiting) await expect(one).rejects.toThrow('aborted')
  await api.task(polled)
  held.release()

  const prompts = ['[[polled]]', '[[read]]', '[[preferred]]']
  const all = await cluster.sql<{ id: string }>(`SELECT id FROM tasks WHERE input->>'prompt' = ANY($1)`, [prompts])
  const ids = all.map(({ id }) => `task_${id.replaceAll('-', '')}`)
  expect(ids).toEqual(expect.arrayContaining([polled, streamed]))
  expect(ids).toHaveLength(3)
  await cluster.ended(ids)
  for (const task of await api.tasks(ids)) {
    expect(task).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
    expect(task.cost_usd).toBeGreaterThan(0)
    expect(task.usage.output_tokens).toBeGreaterThan(0)
  }
  expect(upstream.markers()).toEqual({ polled: 1, preferred: 1, read: 1 })
})

test('a queued task that is cancelled through any API never runs', async () => {
  const { apis, upstream } = cluster
  const held = upstream.hold()
  const running = await apis[0]!.submitAll(['busy-0', 'busy-1', 'busy-2'])
  await within('the worker is full', held.waiting(3))
  const id = await apis[0]!.submit('[[queued]]')
  const waiting = apis[0]!.task(id, 60)
  const cancelled = await apis[1]!.cancel(id)
  expect(cancelled).toMatchObject({
    status: 200,
    body: { status: 'cancelled', attempts: [], error: { code: 'cancelled' } },
  })
  expect(await waiting).toMatchObject({ status: 'cancelled' })
  for (const process of apis) {
    expect(await process.cancel(id)).toMatchObject({
      status: 409,
      body: { code: 'already_finished', context: { status: 'cancelled' } },
    })
  }
  held.release()
  // Queued behind it: once this task has run, the turn of the cancelled task is over.
  const behind = await apis[0]!.submit('[[behind]]')
  await cluster.ended([...running, behind])
  expect(await apis[0]!.task(id)).toEqual(cancelled.body)
  expect(upstream.markers()).toEqual({ 'busy-0': 1, 'busy-1': 1, 'busy-2': 1, behind: 1 })
})

test('cancelling a running task through any API aborts its call', async () => {
  const { apis, upstream } = cluster
  const held = upstream.hold()
  const id = await apis[0]!.submit('[[running]]', ALONE)
  await within('the call comes', held.waiting(1))
  expect(await apis[1]!.cancel(id)).toMatchObject({ status: 200, body: { status: 'cancelled' } })
  await within('the call is aborted', upstream.aborted(1))
  expect(await apis[0]!.cancel(id)).toMatchObject({ status: 409, body: { code: 'already_finished' } })
  await cluster.settled(id, 1)
  held.release()
  expect(await apis[0]!.task(id)).toMatchObject({
    status: 'cancelled',
    result: null,
    error: { code: 'cancelled' },
    attempts: [{ outcome: 'aborted' }],
  })
  expect(upstream.markers()).toEqual({ running: 1 })
})

test('concurrent cancels of one task: one succeeds', async () => {
  const { apis, upstream } = cluster
  const held = upstream.hold()
  const id = await apis[0]!.submit('[[many]]')
  await within('the call comes', held.waiting(1))
  const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => apis[n % 2]!.cancel(id)))
  expect(answers.map(answer => answer.status).sort()).toEqual([200, ...Array(9).fill(409)])
  await within('the call is aborted', upstream.aborted(1))
  held.release()
})

test('a task whose deadline passes in the queue expires and never runs', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold()
  const running = await api.submitAll(['full-0', 'full-1', 'full-2'])
  await within('the worker is full', held.waiting(3))
  const id = await api.submit('[[late]]', { options: { deadline_seconds: 1 } })
  const task = await api.task(id, 60)
  expect(task).toMatchObject({
    status: 'expired',
    error: { code: 'deadline_exceeded' },
    attempts: [],
    started_at: null,
  })
  held.release()
  const behind = await api.submit('[[behind]]')
  await cluster.ended([...running, behind])
  expect(upstream.markers()).toEqual({ 'full-0': 1, 'full-1': 1, 'full-2': 1, behind: 1 })
  expect(await api.task(id)).toEqual(task)
})

test('a task whose deadline passes during its call expires, and the call is aborted', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold()
  const id = await api.submit('[[slow]]', { options: { deadline_seconds: 600 } })
  await within('the call comes', held.waiting(1))
  // Changes the deadline of the row: the timer of the worker is ten minutes away, like that of a worker with a wrong clock.
  await cluster.sql('UPDATE tasks SET deadline_at = now() WHERE id = $1', [uuidOf(id)])
  await within('the call is aborted', upstream.aborted(1))
  await cluster.settled(id, 1)
  held.release()
  expect(await api.task(id)).toMatchObject({
    status: 'expired',
    error: { code: 'deadline_exceeded' },
    attempts: [{ outcome: 'aborted' }],
  })
  expect(upstream.markers()).toEqual({ slow: 1 })
})

test('a call that hangs is aborted just before the deadline of its task', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold()
  const id = await api.submit('[[on-time]]', { options: { deadline_seconds: 5, fallback: 'none' } })
  await cluster.ended([id])
  await within('the call is aborted', upstream.aborted(1))
  await cluster.settled(id, 1)
  held.release()
  const task = await api.task(id)
  expect(['failed provider_failed', 'expired deadline_exceeded']).toContain(`${task.status} ${task.error.code}`)
  // The call times out just before the deadline; on a slow machine the deadline may come first.
  expect(['timeout', 'aborted']).toContain(task.attempts[0].outcome)
  expect(upstream.markers()).toEqual({ 'on-time': 1 })
})

import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { testRedis } from '#shared/testing/redis.ts'
import { textOf } from './client.ts'
import { type Cluster, countedOtherThan, markers, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2, own: ['redis'], env: { WORKER_CONCURRENCY: '20' } })
})
afterAll(() => cluster?.close())
beforeEach(async () => {
  // A test that failed may have left it dead.
  await cluster.redis!.start()
  await cluster.begin()
})

const flush = async () => (await testRedis('fast', cluster.redisUrl)).flushall()

const STREAM = { options: { stream: true } }

test('FLUSHALL with queued tasks: all finish, and each call is made once', async () => {
  const { api, upstream } = cluster
  const names = markers('flush', 100)
  const held = upstream.hold()
  const ids = await api.submitAll(names)
  await within('twenty calls are in flight', held.waiting(20))
  await flush()
  held.release()
  await cluster.ended(ids)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  for (const task of await api.tasks(ids)) {
    expect(task.status).toBe('succeeded')
    expect(task.attempts).toMatchObject([{ outcome: 'succeeded' }])
  }
})

test('while Redis is down, tasks are accepted, calls in flight succeed, and a cancel aborts its call', async () => {
  const { apis, api, upstream, redis } = cluster
  const running = ['running-0', 'running-1', 'cancelled']
  const held = upstream.hold()
  const runningIds = await api.submitAll(running)
  await within('three calls are in flight', held.waiting(3))
  await redis!.kill()

  const waiting = markers('while-down', 20)
  const halves = await Promise.all([apis[0]!.submitAll(waiting.slice(0, 10)), apis[1]!.submitAll(waiting.slice(10))])
  await expect
    .poll(() => api.call('GET', '/health/ready'))
    .toMatchObject({
      status: 200,
      body: { status: 'degraded', parts: { redis: 'unavailable', postgres: 'ok' } },
    })
  await expect
    .poll(() => api.call('GET', '/health/ready?strict=1'))
    .toMatchObject({ status: 503, body: { status: 'degraded' } })

  expect(await apis[1]!.cancel(runningIds[2]!)).toMatchObject({ status: 200, body: { status: 'cancelled' } })
  await within('the cancelled call is aborted', upstream.aborted(1))
  held.release()
  await cluster.ended(runningIds)
  expect(upstream.count()).toBe(3)

  await redis!.start()
  const ids = halves.flat()
  await cluster.ended(ids)
  expect(countedOtherThan(upstream, [...waiting, ...running], 1)).toEqual({})
  for (const task of await api.tasks([...ids, ...runningIds.slice(0, 2)])) {
    expect(task.status).toBe('succeeded')
    expect(task.attempts).toMatchObject([{ outcome: 'succeeded' }])
  }
  await until('everything is ready again', async () => (await api.call('GET', '/health/ready?strict=1')).status === 200)
})

test('while Redis is down, every API enforces the limit of a key by itself', async () => {
  const { apis, api, redis } = cluster
  const key = await api.makeKey({ name: 'limited', scopes: ['read'], requests_per_minute: 5 })
  await redis!.kill()
  for (const process of apis) {
    const statuses: number[] = []
    for (let n = 0; n < 8; n++) statuses.push((await process.call('GET', '/api/v1/tasks', { key })).status)
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429, 429, 429])
  }
  const refused = await api.call('GET', '/api/v1/tasks', { key })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  await redis!.start()
  await until('everything is ready again', async () => (await api.call('GET', '/health/ready?strict=1')).status === 200)
})

test('a task that was committed and not dispatched is dispatched by another process', async () => {
  const { upstream } = cluster
  // Like an API that was killed before the dispatch: it never reaches the queue.
  const lonely = await cluster.startApi({ REDIS_URL: 'redis://127.0.0.1:1' })
  const names = markers('undispatched', 20)
  const ids = await lonely.submitAll(names)
  lonely.kill()
  await lonely.exited
  await cluster.ended(ids)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  for (const task of await cluster.api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded' })
})

test('FLUSHALL during a stream: the reader gets a restart and the whole text', async () => {
  const { apis, api, upstream } = cluster
  const text = 'A text that is long enough to come in many pieces.'
  upstream.script({ text, chunks: 10 })
  const held = upstream.hold({ midway: true })
  const id = await api.submit('[[flushed-stream]]', STREAM)
  await within('half of the answer is out', held.waiting(1))
  const stream = await apis[1]!.events(id)
  await stream.until(event => event.event === 'delta')
  await flush()
  held.release()
  const events = await stream.rest()
  expect(events.map(one => one.event)).toContain('restart')
  expect(events.at(-1)).toMatchObject({ event: 'done', data: { status: 'succeeded', result: { text } } })
  expect(textOf(events)).toBe(text)
})

test('after FLUSHALL a stream continues while its text is written', async () => {
  const { apis, api, upstream } = cluster
  const text = 'This is written, and then it goes on with dots.'
  upstream.script({ text, chunks: 10, fault: 'dribble' })
  const held = upstream.hold({ midway: true })
  const id = await api.submit('[[dribbling-stream]]', STREAM)
  await within('half of the answer is out', held.waiting(1))
  const stream = await apis[1]!.events(id)
  await stream.until(event => event.event === 'delta')
  await flush()
  held.release()
  await stream.until(event => event.event === 'restart')
  await stream.until(event => event.event === 'delta' && event.data.text.includes('.'))
  expect(textOf(stream.events)).toMatch(/^This is written[^.]*\.+$/)
  expect(await api.cancel(id)).toMatchObject({ status: 200 })
  expect((await stream.rest()).at(-1)).toMatchObject({ event: 'done', data: { status: 'cancelled' } })
})

test('a subscriber gets the text from Postgres after Redis lost the stream', async () => {
  const { api, upstream } = cluster
  const text = 'It outlives the stream.'
  upstream.script({ text, chunks: 5 })
  const id = await api.submit('[[late]]', STREAM)
  const live = await (await api.events(id)).rest()
  expect(textOf(live)).toBe(text)
  await flush()
  const late = await (await api.events(id)).rest()
  expect(textOf(late)).toBe(text)
  expect(late.at(-1)).toEqual(live.at(-1))
  // A subscriber in the middle of the text must discard it and take all of it.
  const middle = live.findLast(event => event.event === 'delta')!
  const resumed = await (await api.events(id, middle.id)).rest()
  expect(resumed.map(event => event.event)).toEqual(['restart', 'delta', 'done'])
  expect(textOf(resumed)).toBe(text)
})

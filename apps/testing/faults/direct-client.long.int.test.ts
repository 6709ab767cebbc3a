import type OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { type Cluster, PATIENT, startCluster, until, within } from './cluster.ts'
import { ask, clientOf, endedTask as findEnded } from './direct.ts'

vi.setConfig(PATIENT)

/** Requests whose client waits, with the official SDK and real processes. */

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2, own: ['redis', 'postgres'] })
})
afterAll(() => cluster?.close())
beforeEach(async () => {
  // A test that failed may have left them dead.
  await Promise.all([cluster.redis!.start(), cluster.postgres!.start()])
  await cluster.begin()
})

const ready = () =>
  until('everything is ready', async () => (await cluster.api.call('GET', '/health/ready?strict=1')).status === 200)

const endedTask = (marker: string) => findEnded(cluster, marker)

test('a client that leaves in the middle of a stream stops the call, which is settled and charged', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold({ midway: true })
  const stream = await clientOf(api).chat.completions.create({ ...ask('leaves'), stream: true })
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
  await within('the call is aborted', upstream.aborted(1))
  held.release()
  const { id, status } = await endedTask('leaves')
  expect(status).toBe('cancelled')
  await cluster.settled(id, 1)
  const task = await api.task(id)
  expect(task.attempts).toMatchObject([{ outcome: 'aborted' }])
  expect(task.cost_usd).toBeGreaterThan(0)
})

test('with X-Sluice-On-Disconnect: finish the call continues without its client', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold({ midway: true })
  const headers = { 'x-sluice-on-disconnect': 'finish' }
  const stream = await clientOf(api).chat.completions.create({ ...ask('finishes'), stream: true }, { headers })
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
  held.release()
  const { id, status } = await endedTask('finishes')
  expect(status).toBe('succeeded')
  expect((await api.task(id)).attempts).toMatchObject([{ outcome: 'succeeded' }])
})

test('a retry of the SDK after its timeout joins the call', async () => {
  const { api, upstream } = cluster
  const held = upstream.hold()
  const { promise: repeated, resolve } = Promise.withResolvers<void>()
  let requests = 0
  const counting: typeof fetch = (input, init) => {
    if (++requests === 2) resolve()
    return fetch(input, init)
  }
  const client = clientOf(api, { maxRetries: 5, timeout: 1000, fetch: counting })
  const answer = client.chat.completions.create(ask('timeout'))
  await within('the SDK repeats the request', repeated)
  held.release()
  expect((await answer).choices[0]?.message.content).toBe('Hello from upstream.')
  expect(upstream.markers()).toEqual({ timeout: 1 })
})

test('a retry of the SDK after a lost answer gets that answer', async () => {
  const { api, upstream } = cluster
  let requests = 0
  // The connection breaks when the answer has been made.
  const losing: typeof fetch = async (input, init) => {
    const response = await fetch(input, init)
    if (++requests > 1) return response
    await response.text()
    throw new TypeError('fetch failed')
  }
  const answer = await clientOf(api, { maxRetries: 2, fetch: losing }).chat.completions.create(ask('lost'))
  expect(answer.choices[0]?.message.content).toBe('Hello from upstream.')
  expect(requests).toBe(2)
  expect(upstream.markers()).toEqual({ lost: 1 })
})

test('a request that waits for a limit gets 429 only when the timeout of its client nears', async () => {
  const { api, upstream } = cluster
  const model = 'test-limited'
  const limits = { concurrency: 1 }
  expect((await api.call('PUT', '/api/v1/providers/anthropic/limits', { body: limits })).status).toBe(200)
  const held = upstream.hold()
  const client = clientOf(api)
  const first = client.chat.completions.create({ ...ask('first'), model })
  await within('the first call comes', held.waiting(1))
  const second = client.chat.completions.create({ ...ask('second'), model }, { timeout: 2000 })
  await expect(second).rejects.toMatchObject({ status: 429, code: 'rate_limit_exceeded' })
  const third = client.chat.completions.create({ ...ask('third'), model })
  await until('the third is queued', () => cluster.count(`tasks WHERE input::text LIKE '%[[third]]%'`))
  held.release()
  const texts = (await Promise.all([first, third])).map(one => one.choices[0]?.message.content)
  expect(texts).toEqual(['Hello from upstream.', 'Hello from upstream.'])
  expect(upstream.markers()).toEqual({ first: 1, third: 1 })
})

test('while Redis is down, requests are answered whole and streamed', async () => {
  const { api, upstream, redis } = cluster
  await ready()
  await redis!.kill()
  const client = clientOf(api)
  const whole = await client.chat.completions.create(ask('no-redis'))
  expect(whole.choices[0]?.message.content).toBe('Hello from upstream.')
  const stream = client.chat.completions.stream(ask('no-redis-stream'))
  expect(await stream.finalContent()).toBe('Hello from upstream.')
  expect(upstream.markers()).toEqual({ 'no-redis': 1, 'no-redis-stream': 1 })
  await redis!.start()
  await ready()
})

test('while Postgres is down, requests are refused with 503 before any call', async () => {
  const { api, upstream, postgres } = cluster
  const client = clientOf(api)
  // The process knows the key.
  await client.models.list()
  await postgres!.kill()
  const refused: unknown = await client.chat.completions.create(ask('no-postgres')).catch(error => error)
  expect(refused).toMatchObject({ status: 503, code: 'unavailable', requestID: expect.any(String) })
  expect(Number((refused as InstanceType<typeof OpenAI.APIError>).headers?.get('retry-after'))).toBeGreaterThanOrEqual(
    1,
  )
  expect(upstream.count()).toBe(0)
  await postgres!.start()
  await ready()
})

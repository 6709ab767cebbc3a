import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Cluster, countedOtherThan, markers, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

const ANSWERED = { status: 'succeeded', source: 'ai' }

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ openai: true, workers: 2, env: { MAX_ATTEMPTS: '3', WORKER_CONCURRENCY: '20' } })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

const onlyAnthropic = (model: string) => ({ provider: 'anthropic', model, fallback: 'none' })

const stateOf = async (model: string) => {
  const { body } = await cluster.api.call('GET', '/api/v1/providers/anthropic/health')
  return body.models.find((one: { model: string }) => one.model === model)
}

describe('the circuit breaker', () => {
  const opens = (model: string) => until('the breaker opens', async () => (await stateOf(model))?.breaker === 'open')

  test('opens after three failures in a row: further tasks go to the other provider, without a call to the first', async () => {
    const { api, upstream, openai } = cluster
    const model = modelOf('failing')
    upstream.default({ status: 500 })
    const first = await api.submit('[[first]]', { options: onlyAnthropic(model) })
    await cluster.ended([first])
    expect((await api.task(first)).attempts).toMatchObject(Array(3).fill({ outcome: 'server_error' }))
    await opens(model)

    const names = markers('next', 20)
    const ids = await api.submitAll(names, { options: { model } })
    // No other provider may answer it, and the breaker stays open beyond its deadline: it fails without waiting.
    const alone = await api.submit('[[alone]]', { options: { ...onlyAnthropic(model), deadline_seconds: 10 } })
    await cluster.ended([...ids, alone])
    for (const task of await api.tasks(ids)) {
      expect(task).toMatchObject(ANSWERED)
      expect(task.attempts).toMatchObject([{ provider: 'openai', outcome: 'succeeded' }])
    }
    expect(await api.task(alone)).toMatchObject({ status: 'failed', error: { code: 'provider_failed' }, attempts: [] })
    expect(upstream.markers()).toEqual({ first: 3 })
    expect(countedOtherThan(openai, names, 1)).toEqual({})
  })

  test('stays closed after rate limit refusals, and belongs to one model', async () => {
    const { api, upstream } = cluster
    const [refusing, failing, healthy] = [modelOf('refusing'), modelOf('ill'), modelOf('healthy')]
    upstream.rule('refused', { status: 429, headers: { 'retry-after': '0' } })
    upstream.rule('failed', { status: 500 })
    const submit = (name: string, model: string) => api.submit(`[[${name}]]`, { options: onlyAnthropic(model) })
    const ids = await Promise.all([submit('refused', refusing), submit('failed', failing)])
    await cluster.ended(ids)
    await opens(failing)
    const [refused] = await api.tasks(ids)
    expect(refused.attempts).toMatchObject(Array(3).fill({ outcome: 'rate_limited' }))
    expect(await stateOf(refusing)).toMatchObject({ breaker: 'closed' })
    const after = await Promise.all([submit('after-refusals', refusing), submit('other-model', healthy)])
    await cluster.ended(after)
    for (const task of await api.tasks(after)) expect(task).toMatchObject(ANSWERED)
  })

  test('opens while calls still hang: further tasks avoid the provider, and no task hangs there twice', async () => {
    const { api, upstream, openai } = cluster
    const model = modelOf('hanging')
    const options = { model, fallback: 'none' }
    // A call is slow compared with the usual duration, so there must be one.
    const usual = await api.submit('[[usual]]', { options: onlyAnthropic(model) })
    await cluster.ended([usual])
    await until('the usual duration of a call is known', async () => (await stateOf(model))?.p95_ms)

    const held = upstream.hold({ when: /hangs/ })
    upstream.rule('hangs', { fault: 'cut' })
    const hanging = ['hangs-0', 'hangs-1']
    const ids = await api.submitAll(hanging, { options })
    const alone = await api.submit('[[hangs-alone]]', { options: { ...onlyAnthropic(model), deadline_seconds: 25 } })
    await within('all hang', held.waiting(3))
    await opens(model)
    for (const task of await api.tasks([...ids, alone])) {
      expect(task).toMatchObject({ status: 'running' })
      expect(task.attempts).toMatchObject([{ provider: 'anthropic', outcome: 'started' }])
    }

    const names = markers('next', 20)
    const next = await api.submitAll(names, { options })
    await cluster.ended(next)
    for (const task of await api.tasks(next)) {
      expect(task).toMatchObject(ANSWERED)
      expect(task.attempts).toMatchObject([{ provider: 'openai', outcome: 'succeeded' }])
    }
    expect(countedOtherThan(openai, names, 1)).toEqual({})

    held.release()
    await cluster.ended([...ids, alone])
    for (const task of await api.tasks(ids)) {
      expect(task).toMatchObject(ANSWERED)
      expect(task.attempts).toMatchObject([
        { provider: 'anthropic', outcome: 'connection' },
        { provider: 'openai', outcome: 'succeeded' },
      ])
    }
    const left = await api.task(alone)
    expect(left).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
    expect(left.attempts).toMatchObject([{ outcome: 'connection' }])
    expect(upstream.markers()).toEqual({ usual: 1, 'hangs-0': 1, 'hangs-1': 1, 'hangs-alone': 1 })
  })
})

describe('a limit', () => {
  /** A model whose gate was called before, so that new limits reach the gate at once. */
  async function limited(name: string, limits: object) {
    const { api, upstream } = cluster
    const claude = onlyAnthropic(modelOf(name))
    await cluster.ended([await api.submit('[[first]]', { options: claude })])
    upstream.reset()
    const limit = async (limits: object) => {
      const body = { model: claude.model, ...limits }
      const answer = await api.call('PUT', '/api/v1/providers/anthropic/limits', { body })
      expect(answer).toMatchObject({ status: 200, body: { limits } })
    }
    await limit(limits)
    return { claude, limit, state: () => stateOf(claude.model) }
  }

  test('of concurrent calls is never exceeded, and all tasks end', async () => {
    const { api, upstream } = cluster
    const { claude } = await limited('at-once', { concurrency: 2 })
    upstream.limit({ concurrency: 2 })
    upstream.default({ delayMs: 20 })
    const names = markers('at-once', 60)
    const ids = await api.submitAll(names, { options: claude })
    await cluster.ended(ids)
    for (const task of await api.tasks(ids)) expect(task).toMatchObject(ANSWERED)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    expect(upstream.traffic()).toMatchObject({ concurrency: 2, overruns: 0 })
  })

  test('of concurrent calls that is raised wakes the waiting tasks', async () => {
    const { api, upstream } = cluster
    const { claude, limit, state } = await limited('raised', { concurrency: 1 })
    const held = upstream.hold()
    const names = markers('raised', 6)
    const ids = await api.submitAll(names, { options: claude })
    await within('one calls', held.waiting(1))
    await until('the others wait', async () => (await state()).waiting.for_concurrency === 5)
    expect(upstream.count()).toBe(1)
    await limit({ concurrency: 6 })
    await within('all call', held.waiting(6))
    held.release()
    await cluster.ended(ids)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
  })

  // A ticket left behind would block the free slot until it is overdue, two seconds later.
  test('of concurrent calls has no ticket of a task that another provider answered', async () => {
    const { api, upstream } = cluster
    const { claude, state } = await limited('passed-by', { concurrency: 1 })
    const options = { model: claude.model, fallback: 'none' }
    const held = upstream.hold()
    const ids = [await api.submit('[[calls]]', { options })]
    await within('the only slot is taken', held.waiting(1))
    ids.push(await api.submit('[[passes-by]]', { options }))
    await cluster.ended(ids.slice(1))
    expect((await api.task(ids[1]!)).provider).toBe('openai')
    expect((await state()).waiting.for_concurrency).toBe(0)
    held.release()
    await cluster.ended(ids)
  })

  test('of calls per minute lets no more through, and fails a task whose turn comes after its deadline', async () => {
    const { api, upstream } = cluster
    const { claude, state } = await limited('rate', { rpm: 6 })
    const ids = await api.submitAll(markers('rate', 11), { options: claude })
    // The first task used one of the six calls.
    await within('five are called', upstream.arrived(5))
    await until('the others have a slot', async () => (await state()).waiting.for_rate === 6)
    const late = await api.submit('[[late]]', { options: { ...claude, deadline_seconds: 10 } })
    await cluster.ended([late])
    expect(await api.task(late)).toMatchObject({ status: 'failed', error: { code: 'provider_failed' }, attempts: [] })
    expect(upstream.count()).toBe(5)
    await Promise.all(ids.map(id => api.cancel(id)))
  })

  test('of 0 lets nothing through', async () => {
    const { api, upstream } = cluster
    const { claude } = await limited('nothing', { rpm: 0 })
    const ids = await Promise.all([
      api.submit('[[none]]', { options: claude }),
      api.submit('[[rules]]', { options: { ...claude, fallback: 'rules' } }),
    ])
    await cluster.ended(ids)
    for (const task of await api.tasks(ids))
      expect(task).toMatchObject({ status: 'failed', error: { code: 'provider_failed' }, attempts: [] })
    expect(upstream.count()).toBe(0)
  })
})

import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  type Cluster,
  type ClusterOptions,
  countedOtherThan,
  markers,
  modelOf,
  PATIENT,
  startCluster,
  until,
  within,
} from './cluster.ts'

vi.setConfig(PATIENT)

const ANSWERED = { status: 'succeeded', source: 'ai' }

describe('the breaker', () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ openai: true, workers: 2, env: { MAX_ATTEMPTS: '3' } })
  })
  afterAll(() => cluster?.close())
  beforeEach(() => cluster.begin())

  const healthOf = async (model: string) => {
    const { body } = await cluster.api.call('GET', '/api/v1/providers/anthropic/health')
    return body.models.find((one: { model: string }) => one.model === model)
  }
  const opened = (model: string) =>
    until('its breaker is open', async () => (await healthOf(model))?.breaker === 'open')

  test('three failures in a row: the next tasks are the other provider’s, without a call to the first', async () => {
    const { api, upstream, openai } = cluster
    const model = modelOf('failing')
    const claude = { provider: 'anthropic', model, fallback: 'none' }
    upstream.default({ status: 500 })
    const first = await api.submit('[[first]]', { options: claude })
    await cluster.ended([first])
    expect((await api.task(first)).attempts).toMatchObject(Array(3).fill({ outcome: 'server_error' }))
    await opened(model)

    const names = markers('next', 20)
    const ids = await api.submitAll(names, { options: { model } })
    // With nobody else to ask, and a breaker that stays open for longer than its deadline, it need not wait to know.
    const alone = await api.submit('[[alone]]', { options: { ...claude, deadline_seconds: 10 } })
    await cluster.ended([...ids, alone])
    for (const task of await api.tasks(ids)) {
      expect(task).toMatchObject(ANSWERED)
      expect(task.attempts).toMatchObject([{ provider: 'openai', outcome: 'succeeded' }])
    }
    expect(await api.task(alone)).toMatchObject({ status: 'failed', error: { code: 'provider_failed' }, attempts: [] })
    expect(upstream.markers()).toEqual({ first: 3 })
    expect(countedOtherThan(openai, names, 1)).toEqual({})
  })

  test('a refusal for the rate does not open it, and failures of one model do not open that of another', async () => {
    const { api, upstream } = cluster
    const [refusing, failing, well] = [modelOf('refusing'), modelOf('ill'), modelOf('well')]
    upstream.rule('refused', { status: 429, headers: { 'retry-after': '0' } })
    upstream.rule('failed', { status: 500 })
    const submit = (name: string, model: string) =>
      api.submit(`[[${name}]]`, { options: { provider: 'anthropic', model, fallback: 'none' } })
    const ids = await Promise.all([submit('refused', refusing), submit('failed', failing)])
    await cluster.ended(ids)
    await opened(failing)
    const [refused] = await api.tasks(ids)
    expect(refused.attempts).toMatchObject(Array(3).fill({ outcome: 'rate_limited' }))
    expect(await healthOf(refusing)).toMatchObject({ breaker: 'closed' })
    const after = await Promise.all([submit('after-refusals', refusing), submit('other-model', well)])
    await cluster.ended(after)
    for (const task of await api.tasks(after)) expect(task).toMatchObject(ANSWERED)
  })

  test('a provider that hangs is left while its calls still hang, and no task is made to hang there twice', async () => {
    const { api, upstream, openai } = cluster
    const model = modelOf('hanging')
    const options = { model, fallback: 'none' }
    // What is slow is measured by what is usual.
    const usual = await api.submit('[[usual]]', { options: { ...options, provider: 'anthropic' } })
    await cluster.ended([usual])
    await until('it is known how long a call takes', async () => (await healthOf(model))?.p95_ms)

    const held = upstream.hold({ when: /hangs/ })
    upstream.rule('hangs', { fault: 'cut' })
    const hanging = ['hangs-0', 'hangs-1']
    const ids = await api.submitAll(hanging, { options })
    const alone = await api.submit('[[hangs-alone]]', {
      options: { ...options, provider: 'anthropic', deadline_seconds: 25 },
    })
    await within('all hang', held.waiting(3))
    await opened(model)
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

// Side by side: some of them wait for a breaker to try again, or for a minute to pass.
describe.concurrent('side by side', () => {
  type Closing = (close: () => Promise<void>) => void

  const start = async (onTestFinished: Closing, options: ClusterOptions = {}) => {
    const cluster = await startCluster({ workers: 2, ...options, env: { WORKER_CONCURRENCY: '20', MAX_ATTEMPTS: '3' } })
    onTestFinished(cluster.close)
    const { api } = cluster
    const claude = { model: modelOf('only'), provider: 'anthropic', fallback: 'none' }
    const state = async () => (await api.call('GET', '/api/v1/providers/anthropic/health')).body.models[0]
    return { ...cluster, claude, state }
  }

  /** With a gate that has been called, so that limits reach it at once. */
  const startLimited = async (onTestFinished: Closing, limits: object, options: ClusterOptions = {}) => {
    const cluster = await start(onTestFinished, options)
    const { api, upstream, claude } = cluster
    const first = await api.submit('[[first]]', { options: claude })
    await cluster.ended([first])
    upstream.reset()
    const limit = async (to: object) => {
      const body = { model: claude.model, ...to }
      const answer = await api.call('PUT', '/api/v1/providers/anthropic/limits', { body })
      expect(answer).toMatchObject({ status: 200, body: { limits: to } })
    }
    await limit(limits)
    return { ...cluster, limit }
  }

  test('an open breaker lets one call at a time try, and closes when two went well', async ({ onTestFinished }) => {
    const { api, upstream, claude, state, ended } = await start(onTestFinished)
    upstream.default({ status: 500 })
    const first = await api.submit('[[first]]', { options: claude })
    await ended([first])
    await until('it is open', async () => (await state())?.breaker === 'open')
    upstream.default(null)

    const held = upstream.hold()
    const names = markers('waits', 10)
    const ids = await api.submitAll(names, { options: claude })
    await within('one of them tries', held.waiting(1))
    expect(await state()).toMatchObject({ breaker: 'half_open' })
    const impatient = await api.submit('[[impatient]]', { options: { ...claude, deadline_seconds: 1 } })
    await ended([impatient])
    expect(await api.task(impatient)).toMatchObject({ result: null, attempts: [] })
    expect(upstream.count()).toBe(4)

    held.release()
    await ended(ids)
    for (const task of await api.tasks(ids)) expect(task).toMatchObject(ANSWERED)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    await until('it is closed', async () => (await state()).breaker === 'closed')
  })

  test('calls at once are never more than they may be, and all tasks end', async ({ onTestFinished }) => {
    const { api, upstream, claude, ended } = await startLimited(onTestFinished, { concurrency: 2 })
    upstream.limit({ concurrency: 2 })
    upstream.default({ delayMs: 20 })
    const names = markers('at-once', 60)
    const ids = await api.submitAll(names, { options: claude })
    await ended(ids)
    for (const task of await api.tasks(ids)) expect(task).toMatchObject(ANSWERED)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    expect(upstream.traffic()).toMatchObject({ concurrency: 2, overruns: 0 })
  })

  test('when more may run, those who wait come at once', async ({ onTestFinished }) => {
    const { api, upstream, limit, claude, state, ended } = await startLimited(onTestFinished, { concurrency: 1 })
    const held = upstream.hold()
    const names = markers('raised', 6)
    const ids = await api.submitAll(names, { options: claude })
    await within('one calls', held.waiting(1))
    await until('the others wait', async () => (await state()).waiting.for_concurrency === 5)
    expect(upstream.count()).toBe(1)
    await limit({ concurrency: 6 })
    await within('all call', held.waiting(6))
    held.release()
    await ended(ids)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
  })

  // Its ticket stays in the line until it is overdue, two seconds later, and keeps the free slot from everybody else.
  test('a task that another provider answered does not stand in line any more', async ({ onTestFinished }) => {
    const started = await startLimited(onTestFinished, { concurrency: 1 }, { openai: true })
    const { api, upstream, claude, state, ended } = started
    const options = { model: claude.model, fallback: 'none' }
    const held = upstream.hold()
    const ids = [await api.submit('[[calls]]', { options })]
    await within('the only slot is taken', held.waiting(1))
    ids.push(await api.submit('[[passes-by]]', { options }))
    await ended(ids.slice(1))
    expect((await api.task(ids[1]!)).provider).toBe('openai')
    expect((await state()).waiting.for_concurrency).toBe(0)
    held.release()
    await ended(ids)
  })

  test('no minute has more calls than it may, and those beyond wait for the next', async ({ onTestFinished }) => {
    const { api, upstream, claude, state, ended } = await startLimited(onTestFinished, { rpm: 6 })
    // The first of all was made in this minute, too, before the upstream began to count.
    upstream.limit({ requestsPerMinute: 6 })
    const names = markers('rate', 11)
    const ids = await api.submitAll(names, { options: claude })
    await within('five are let in', upstream.arrived(5))
    await until('the others have a place', async () => (await state()).waiting.for_rate === 6)
    expect(upstream.count()).toBe(5)
    // A place after the deadline is none.
    const late = await api.submit('[[late]]', { options: { ...claude, deadline_seconds: 10 } })
    await ended([late])
    expect(await api.task(late)).toMatchObject({ status: 'failed', error: { code: 'provider_failed' }, attempts: [] })

    await ended(ids)
    for (const task of await api.tasks(ids)) expect(task).toMatchObject(ANSWERED)
    expect(countedOtherThan(upstream, names, 1)).toEqual({})
    const { requestsPerMinute, overruns } = upstream.traffic()
    expect(overruns).toBe(0)
    expect(requestsPerMinute).toBeLessThanOrEqual(6)
  })

  test('0 lets nothing pass', async ({ onTestFinished }) => {
    const { api, upstream, claude, ended } = await startLimited(onTestFinished, { rpm: 0 })
    const [none, rules] = await Promise.all([
      api.submit('[[none]]', { options: claude }),
      api.submit('[[rules]]', { options: { ...claude, fallback: 'rules' } }),
    ])
    await ended([none, rules])
    expect(await api.task(none)).toMatchObject({ status: 'failed', error: { code: 'provider_failed' }, attempts: [] })
    expect(await api.task(rules)).toMatchObject({ status: 'succeeded', source: 'rules', attempts: [] })
    expect(upstream.count()).toBe(0)
  })
})

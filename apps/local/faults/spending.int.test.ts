import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { picodollars } from '#shared/models/picodollars.ts'
import { type Cluster, markers, modelOf, PATIENT, startCluster, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
let living: Map<string, Cluster['workers'][number]>
beforeAll(async () => {
  cluster = await startCluster({ openai: true })
  living = new Map(cluster.workers.map(worker => [worker.id, worker]))
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

/** At a dollar per million tokens: what a call costs, and what one of `OPTIONS` may cost at most, which is a little more. */
const USAGE = { inputTokens: 250, outputTokens: 100 }
const COST = picodollars('0.00035')
const MODEL = modelOf('spending')
const OPTIONS = { provider: 'anthropic', model: MODEL, max_tokens: 100, on_budget: 'fail', fallback: 'rules' }
const EXCEEDED = { status: 'failed', result: null, source: null, error: { code: 'budget_exceeded' } }

/** A key with a budget of its own, so that nobody else spends of it. */
async function spender(name: string, limitUsd: string) {
  const { api } = cluster
  const { body: key } = await api.call('POST', '/api/v1/keys', { body: { name } })
  const scope = `key:${key.id}`
  const limit = async (usd: string | number) => {
    const body = { scope, window: 'total', limit_usd: usd }
    expect(await api.call('PUT', '/api/v1/budgets', { body })).toMatchObject({ status: 200 })
  }
  await limit(limitUsd)
  return {
    limit,
    submit: (marker: string, options = {}) =>
      api.submit(`[[${marker}]]`, { key: key.key, options: { ...OPTIONS, ...options } }),
    async budget() {
      const { body } = await api.call('GET', '/api/v1/budgets')
      const found = body.data.find((one: { scope: string }) => one.scope === scope)
      return {
        limit: picodollars(found.limit_usd),
        reserved: picodollars(found.reserved_usd),
        spent: picodollars(found.spent_usd),
      }
    },
  }
}

test('a budget is spent and not exceeded; who comes later fails or makes do, as he asked', async () => {
  const { api, upstream } = cluster
  const { submit, budget } = await spender('of two calls', '0.001')
  upstream.default({ usage: USAGE })
  const [fail, fallback] = await Promise.all(
    ['fail', 'fallback'].map(on_budget =>
      Promise.all(markers(on_budget, 20).map(marker => submit(marker, { on_budget }))),
    ),
  )
  await cluster.ended([...fail!, ...fallback!])
  const all = [await api.tasks(fail!), await api.tasks(fallback!)]
  const [failed, madeDo] = all.map(tasks => tasks.filter(task => task.source !== 'ai'))
  expect(failed!.length + madeDo!.length).toBe(38)
  for (const task of failed!) expect(task).toMatchObject({ ...EXCEEDED, attempts: [] })
  for (const task of madeDo!) {
    expect(task).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low', attempts: [], cost_usd: 0 })
  }
  expect(upstream.count()).toBe(2)
  expect(await budget()).toEqual({ limit: picodollars('0.001'), reserved: 0n, spent: 2n * COST })
})

test('a limit of 0 stops at once, and a higher one lets go on', async () => {
  const { api, upstream } = cluster
  const { limit, submit, budget } = await spender('stopped', '1')
  upstream.default({ usage: USAGE })
  const run = async (marker: string, options = {}) => {
    const id = await submit(marker, options)
    await cluster.ended([id])
    return api.task(id)
  }
  expect(await run('before')).toMatchObject({ status: 'succeeded', source: 'ai' })
  await limit(0)
  expect(await run('stopped')).toMatchObject({ ...EXCEEDED, attempts: [] })
  expect(await run('stopped', { on_budget: 'fallback' })).toMatchObject({ source: 'rules', attempts: [] })
  expect(await budget()).toEqual({ limit: 0n, reserved: 0n, spent: COST })
  await limit(1)
  expect(await run('after')).toMatchObject({ status: 'succeeded', source: 'ai' })
  expect(upstream.markers()).toEqual({ before: 1, after: 1 })
})

test('what one provider may not spend another answers, and no permit is lost over it', async () => {
  const { api, upstream, openai } = cluster
  const options = { model: modelOf('refused'), fallback: 'none' }
  const run = async (marker: string, more = {}) => {
    const id = await api.submit(`[[${marker}]]`, { options: { ...options, ...more } })
    await cluster.ended([id])
    return api.task(id)
  }
  await run('first', { provider: 'anthropic' })
  const limits = { model: options.model, concurrency: 1 }
  expect(await api.call('PUT', '/api/v1/providers/anthropic/limits', { body: limits })).toMatchObject({ status: 200 })
  const budget = { scope: 'provider:anthropic', window: 'total', limit_usd: 0 }
  const { body: made } = await api.call('PUT', '/api/v1/budgets', { body: budget })
  try {
    for (const name of markers('elsewhere', 3)) expect(await run(name)).toMatchObject({ provider: 'openai' })
    expect(upstream.markers()).toEqual({ first: 1 })
    expect(openai.count()).toBe(3)
  } finally {
    expect(await api.call('DELETE', `/api/v1/budgets/${made.id}`)).toMatchObject({ status: 200 })
  }
  // The only permit, which would take 15 s to lapse: longer than this may wait.
  const back = await run('back', { provider: 'anthropic', deadline_seconds: 10 })
  expect(back).toMatchObject({ status: 'succeeded', source: 'ai', provider: 'anthropic' })
})

test('a call whose worker was killed -9 is charged at its reservation, and so shown', async () => {
  const { api, upstream } = cluster
  const { submit, budget } = await spender('bereaved', '1')
  upstream.default({ usage: USAGE })
  const held = upstream.hold()
  const id = await submit('killed')
  await within('the call comes', held.waiting(1))
  const { reserved } = await budget()
  expect(reserved).toBeGreaterThan(COST)
  const usd = Number(reserved) / 1e12

  await killWorkerOf(id)
  await within('it is called again', held.waiting(2))
  expect((await api.task(id)).attempts).toMatchObject([
    { outcome: 'unknown', estimated: true, cost_usd: usd },
    { outcome: 'started', estimated: false, cost_usd: null },
  ])
  expect(await budget()).toMatchObject({ reserved, spent: reserved })
  held.release()
  await cluster.ended([id])
  const task = await api.task(id)
  expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
  expect(task.attempts).toMatchObject([
    { outcome: 'unknown', estimated: true, cost_usd: usd },
    { outcome: 'succeeded', estimated: false, cost_usd: Number(COST) / 1e12 },
  ])
  expect(await budget()).toMatchObject({ reserved: 0n, spent: reserved + COST })
})

test('what nobody knows of a killed call leaves no room for another beyond the limit', async () => {
  const { api, upstream } = cluster
  // One of them fits, two do not.
  const { submit, budget } = await spender('bereaved of all', '0.0006')
  const held = upstream.hold()
  const id = await submit('killed')
  await within('the call comes', held.waiting(1))
  const { reserved, limit } = await budget()
  await killWorkerOf(id)
  await cluster.ended([id])
  held.release()
  const task = await api.task(id)
  expect(task).toMatchObject(EXCEEDED)
  expect(task.attempts).toMatchObject([{ outcome: 'unknown', estimated: true }])
  expect(await budget()).toEqual({ limit, reserved: 0n, spent: reserved })
  expect(upstream.markers()).toEqual({ killed: 1 })
})

/** In mid-call; another takes its place, and its claims are given away. */
async function killWorkerOf(task: string): Promise<void> {
  const { worker_id: id } = (await cluster.attempts(task)).at(-1)!
  const victim = living.get(id)!
  living.delete(id)
  victim.kill()
  await victim.exited
  const heir = await cluster.startWorker()
  living.set(heir.id, heir)
  await cluster.presumeDead(victim)
}

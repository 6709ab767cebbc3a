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

/** The cost of a call at a dollar per million tokens. The reservation of a call with `OPTIONS` is a little higher. */
const USAGE = { inputTokens: 250, outputTokens: 100 }
const COST = picodollars('0.00035')
const MODEL = modelOf('spending')
const OPTIONS = { provider: 'anthropic', model: MODEL, max_tokens: 100, on_budget: 'fail', fallback: 'rules' }
const EXCEEDED = { status: 'failed', result: null, source: null, error: { code: 'budget_exceeded' } }

/** The answer that tasks fall back to. */
const precompute = () =>
  cluster.api.call('PUT', '/api/v1/precomputed/generate', { body: { result: { text: 'precomputed' } } })

/** A key with a budget of its own, which no other test spends. */
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

test('a budget is spent and never exceeded; later tasks fail or fall back, as requested', async () => {
  const { api, upstream } = cluster
  const { submit, budget } = await spender('of two calls', '0.001')
  await precompute()
  upstream.default({ usage: USAGE })
  const [fail, fallback] = await Promise.all(
    ['fail', 'fallback'].map(on_budget =>
      Promise.all(markers(on_budget, 20).map(marker => submit(marker, { on_budget }))),
    ),
  )
  await cluster.ended([...fail!, ...fallback!])
  const all = [await api.tasks(fail!), await api.tasks(fallback!)]
  const [failed, fellBack] = all.map(tasks => tasks.filter(task => task.source !== 'ai'))
  expect(failed!.length + fellBack!.length).toBe(38)
  for (const task of failed!) expect(task).toMatchObject({ ...EXCEEDED, attempts: [] })
  for (const task of fellBack!) {
    expect(task).toMatchObject({ status: 'succeeded', source: 'precomputed', attempts: [], cost_usd: 0 })
  }
  expect(upstream.count()).toBe(2)
  expect(await budget()).toEqual({ limit: picodollars('0.001'), reserved: 0n, spent: 2n * COST })
})

test('a limit of 0 stops calls at once, and a higher limit resumes them', async () => {
  const { api, upstream } = cluster
  const { limit, submit, budget } = await spender('stopped', '1')
  await precompute()
  upstream.default({ usage: USAGE })
  const run = async (marker: string, options = {}) => {
    const id = await submit(marker, options)
    await cluster.ended([id])
    return api.task(id)
  }
  expect(await run('before')).toMatchObject({ status: 'succeeded', source: 'ai' })
  await limit(0)
  expect(await run('stopped')).toMatchObject({ ...EXCEEDED, attempts: [] })
  expect(await run('stopped', { on_budget: 'fallback' })).toMatchObject({ source: 'precomputed', attempts: [] })
  expect(await budget()).toEqual({ limit: 0n, reserved: 0n, spent: COST })
  await limit(1)
  expect(await run('after')).toMatchObject({ status: 'succeeded', source: 'ai' })
  expect(upstream.markers()).toEqual({ before: 1, after: 1 })
})

test('a task over the budget of one provider goes to another, and no permit is lost', async () => {
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
  // A lost permit would block the only slot for 15 s, beyond the deadline of this task.
  const back = await run('back', { provider: 'anthropic', deadline_seconds: 10 })
  expect(back).toMatchObject({ status: 'succeeded', source: 'ai', provider: 'anthropic' })
})

test('kill -9 of a worker charges its call at the reservation, marked as estimated', async () => {
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

test('a call with an unknown result uses up its reservation, so that the limit holds', async () => {
  const { api, upstream } = cluster
  // One call fits, two do not.
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

/** Kills the worker during its call. Another worker replaces it, and its claims are taken over. */
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

import Fastify from 'fastify'
import { beforeEach, expect, it, onTestFinished } from 'vitest'
import { readLimits } from '#shared/db/provider-limits.ts'
import { createLimitsReader } from '#shared/gate/limits.ts'
import type { Target } from '#shared/gate/target.ts'
import { type GateLimits, GateUnavailable } from '#shared/gate/types.ts'
import { createLogger } from '#shared/process/logger.ts'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import type { ApiDeps } from '../deps.ts'
import { limits as routes } from './limits.ts'

const database = fileDatabase()
const logger = createLogger({ level: 'silent', name: 'test' })
const TARGETS: Target[] = [
  { provider: 'openai', model: 'a' },
  { provider: 'openai', model: 'b' },
  { provider: 'google', model: 'a' },
]

beforeEach(async () => {
  await ask(database.dbs[0], 'TRUNCATE provider_limits')
})

/** Only the routes, with a gate that records its calls. */
async function setUp({ away = false, targets = TARGETS } = {}) {
  const updates: [name: string, limits: GateLimits][] = []
  const woken: string[] = []
  const [db] = database.dbs
  const limits = createLimitsReader({ db, logger })
  await limits.refresh()
  const gate = {
    targets: async () => (away ? Promise.reject(new GateUnavailable('away')) : targets),
    setLimits: async (target: Target, to: GateLimits) => {
      updates.push([`${target.provider}/${target.model}`, to])
      return [`default ${target.model}`]
    },
  }
  const producer = { wake: async (jobs: string[]) => void woken.push(...jobs) }
  const app = Fastify()
  await app.register(routes, {
    db,
    gate,
    limits,
    providerStatus: { invalidate: () => undefined },
    producer,
    logger,
  } as unknown as ApiDeps)
  onTestFinished(async () => {
    await app.close()
    await limits.stop()
  })
  const put = (body: object, provider = 'openai') =>
    app.inject({ method: 'PUT', url: `/api/v1/providers/${provider}/limits`, body })
  const remove = () => app.inject({ method: 'DELETE', url: '/api/v1/providers/openai/limits' })
  return { put, remove, updates, woken }
}

it('a provider limit is set in the gates of all its models and wakes the tasks that may start', async () => {
  const { put, updates, woken } = await setUp()
  expect((await put({ rpm: 5 })).statusCode).toBe(200)
  expect(updates).toEqual([
    ['openai/a', expect.objectContaining({ rpm: 5, version: expect.any(Number) })],
    ['openai/b', expect.objectContaining({ rpm: 5 })],
  ])
  expect(woken).toEqual(['default a', 'default b'])
})

it('a model limit replaces the provider limit in the gate of that model', async () => {
  const { put, remove, updates } = await setUp()
  await put({ model: 'b', rpm: 7 })
  expect(updates).toEqual([['openai/b', expect.objectContaining({ rpm: 7 })]])
  await put({ rpm: 5 })
  await remove()
  expect(updates.slice(1).map(([name, { rpm }]) => [name, rpm])).toEqual([
    ['openai/a', 5],
    ['openai/b', 7],
    ['openai/a', null],
    ['openai/b', 7],
  ])
})

it('a model limit applies to all names of the model', async () => {
  const { put, updates } = await setUp({ targets: [{ provider: 'openai', model: 'gpt-5.4' }] })
  const answer = await put({ model: 'gpt-5.4-2026-03-05', rpm: 7 })
  expect(answer.json()).toMatchObject({ model: 'gpt-5.4', limits: { rpm: 7 } })
  expect(updates).toEqual([['openai/gpt-5.4', expect.objectContaining({ rpm: 7 })]])
  await put({ model: 'gpt-5.4', rpm: 8 })
  expect(await readLimits(database.dbs[0])).toMatchObject([{ model: 'gpt-5.4', limits: { rpm: 8 } }])
})

it.each(['*', '*:latest'])(
  'the model name %s is refused, because it is reserved for limits from settings',
  async model => {
    const { put } = await setUp()
    expect((await put({ model, rpm: 5 }, 'ollama')).json().message).toContain('must be the name of a model')
    expect(await readLimits(database.dbs[0])).toEqual([])
  },
)

it('limits are stored while the gate is unavailable', async () => {
  const { put } = await setUp({ away: true })
  const answer = await put({ concurrency: 3 })
  expect([answer.statusCode, answer.json().limits.concurrency]).toEqual([200, 3])
  expect(await readLimits(database.dbs[0])).toMatchObject([{ provider: 'openai', limits: { concurrency: 3 } }])
})

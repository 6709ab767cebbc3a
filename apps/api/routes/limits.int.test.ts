import Fastify from 'fastify'
import { beforeEach, expect, it, onTestFinished } from 'vitest'
import { readLimits } from '#shared/db/provider-limits.ts'
import { createLimits } from '#shared/gate/limits.ts'
import { type GateLimits, GateUnavailable, type Target } from '#shared/gate/types.ts'
import { createLogger } from '#shared/logger.ts'
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

/** The routes alone, with a gate that writes down what it is told. */
async function setUp({ away = false, targets = TARGETS } = {}) {
  const told: [name: string, limits: GateLimits][] = []
  const woken: string[] = []
  const [db] = database.dbs
  const limits = createLimits({ db, logger })
  await limits.refresh()
  const gate = {
    targets: async () => (away ? Promise.reject(new GateUnavailable('away')) : targets),
    setLimits: async (target: Target, to: GateLimits) => {
      told.push([`${target.provider}/${target.model}`, to])
      return [`default ${target.model}`]
    },
  }
  const producer = { wake: async (jobs: string[]) => void woken.push(...jobs) }
  const app = Fastify()
  await app.register(routes, {
    db,
    gate,
    limits,
    fleet: { forget: () => undefined },
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
  return { put, remove, told, woken }
}

it('limits of a provider are told to the gates of all its models, and whoever may go on is woken', async () => {
  const { put, told, woken } = await setUp()
  expect((await put({ rpm: 5 })).statusCode).toBe(200)
  expect(told).toEqual([
    ['openai/a', expect.objectContaining({ rpm: 5, version: expect.any(Number) })],
    ['openai/b', expect.objectContaining({ rpm: 5 })],
  ])
  expect(woken).toEqual(['default a', 'default b'])
})

it('limits of a model are told to its gate; those of the provider do not reach it any more', async () => {
  const { put, remove, told } = await setUp()
  await put({ model: 'b', rpm: 7 })
  expect(told).toEqual([['openai/b', expect.objectContaining({ rpm: 7 })]])
  await put({ rpm: 5 })
  await remove()
  expect(told.slice(1).map(([name, { rpm }]) => [name, rpm])).toEqual([
    ['openai/a', 5],
    ['openai/b', 7],
    ['openai/a', null],
    ['openai/b', 7],
  ])
})

it('limits of a model are those of all its names', async () => {
  const { put, told } = await setUp({ targets: [{ provider: 'openai', model: 'gpt-5.4' }] })
  const answer = await put({ model: 'gpt-5.4-2026-03-05', rpm: 7 })
  expect(answer.json()).toMatchObject({ model: 'gpt-5.4', limits: { rpm: 7 } })
  expect(told).toEqual([['openai/gpt-5.4', expect.objectContaining({ rpm: 7 })]])
  await put({ model: 'gpt-5.4', rpm: 8 })
  expect(await readLimits(database.dbs[0])).toMatchObject([{ model: 'gpt-5.4', limits: { rpm: 8 } }])
})

it.each(['*', '*:latest'])('%s is no model: the limits of the settings have that name', async model => {
  const { put } = await setUp()
  expect((await put({ model, rpm: 5 }, 'ollama')).json().message).toContain('not the name of a model')
  expect(await readLimits(database.dbs[0])).toEqual([])
})

it('limits are kept though the gate is away', async () => {
  const { put } = await setUp({ away: true })
  const answer = await put({ concurrency: 3 })
  expect([answer.statusCode, answer.json().limits.concurrency]).toEqual([200, 3])
  expect(await readLimits(database.dbs[0])).toMatchObject([{ provider: 'openai', limits: { concurrency: 3 } }])
})

import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { beat } from '#shared/db/workers.ts'
import { createGate } from '#shared/gate/gate.ts'
import { GateUnavailable } from '#shared/gate/types.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { fileDatabase, newBeat } from '#shared/testing/postgres.ts'
import { awayRedis, testRedis } from '#shared/testing/redis.ts'
import { createFleet } from './fleet.ts'

const database = fileDatabase()
const db = () => database.dbs[0]
const NONE = { version: 1, rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }
const target = { provider: 'openai', model: 'm' }

const openGate = async (redis = testRedis()) =>
  createGate({
    redis: await redis,
    prefix: testPrefix(),
    limitsOf: () => NONE,
    seed: async () => ({ firstEver: true, calls: [], open: [] }),
  })

describe('a look at the fleet', () => {
  it('shows what was called, and what the workers say', async () => {
    const gate = await openGate()
    for (let n = 0; n < 3; n++) {
      const id = randomUUID()
      const got = await gate.acquire({
        ...target,
        id,
        inputTokens: 1,
        outputTokens: 1,
        maxWaitMs: 0,
        lane: 'normal',
        wake: id,
      })
      if (got.kind !== 'go') throw new Error(got.kind)
      const none = { inputTokens: null, outputTokens: null, retryAfterMs: null }
      await gate.report(got.permit, { result: 'failure', latencyMs: 40, ...none })
    }
    await beat(db(), newBeat({ providers: { openai: 'failing', ollama: 'unreachable' } }), [])
    await beat(db(), newBeat({ providers: { openai: 'ok' } }), [])
    const state = await createFleet({ gate, db: db() }).look()
    expect(state.targets).toMatchObject([{ target, breaker: 'open' }])
    expect(Object.fromEntries(state.workers)).toEqual({ openai: ['failing', 'ok'], ollama: ['unreachable'] })
  })

  it('is shared for a second by all who ask', async () => {
    const gate = await openGate()
    let looks = 0
    let now = 0
    const targets = () => {
      looks++
      return gate.targets()
    }
    const fleet = createFleet({ gate: { ...gate, targets }, db: db(), now: () => now })
    await Promise.all([fleet.look(), fleet.look()])
    now = 999
    await fleet.look()
    expect(looks).toBe(1)
    now = 1000
    await fleet.look()
    expect(looks).toBe(2)
    fleet.forget()
    await fleet.look()
    expect(looks).toBe(3)
  })

  it('that failed is not what the next one gets', async () => {
    const gate = await openGate()
    let away = true
    const targets = () => (away ? Promise.reject(new GateUnavailable('away')) : gate.targets())
    const fleet = createFleet({ gate: { ...gate, targets }, db: db(), now: () => 0 })
    await expect(fleet.look()).rejects.toThrow(GateUnavailable)
    away = false
    expect(await fleet.look()).toEqual({ targets: [], workers: new Map() })
  })

  it('says that Redis is away', async () => {
    const gate = await openGate(Promise.resolve(awayRedis()))
    await expect(createFleet({ gate, db: db() }).look()).rejects.toThrow(GateUnavailable)
  })
})

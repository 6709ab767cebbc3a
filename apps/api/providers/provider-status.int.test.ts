import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { writeHeartbeat } from '#shared/db/workers.ts'
import { createGate } from '#shared/gate/gate.ts'
import { GateUnavailable } from '#shared/gate/types.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { fileDatabase, newBeat } from '#shared/testing/postgres.ts'
import { testRedis, unreachableRedis } from '#shared/testing/redis.ts'
import { createProviderStatusReader } from './provider-status.ts'

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

describe('provider status', () => {
  it('shows the targets that were called and the state that workers report', async () => {
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
    await writeHeartbeat(db(), newBeat({ providers: { openai: 'failing', ollama: 'unreachable' } }), [])
    await writeHeartbeat(db(), newBeat({ providers: { openai: 'ok' } }), [])
    const state = await createProviderStatusReader({ gate, db: db() }).read()
    expect(state.targets).toMatchObject([{ target, breaker: 'open' }])
    expect(Object.fromEntries(state.workers)).toEqual({ openai: ['failing', 'ok'], ollama: ['unreachable'] })
  })

  it('is cached for one second', async () => {
    const gate = await openGate()
    let reads = 0
    let now = 0
    const targets = () => {
      reads++
      return gate.targets()
    }
    const providerStatus = createProviderStatusReader({ gate: { ...gate, targets }, db: db(), now: () => now })
    await Promise.all([providerStatus.read(), providerStatus.read()])
    now = 999
    await providerStatus.read()
    expect(reads).toBe(1)
    now = 1000
    await providerStatus.read()
    expect(reads).toBe(2)
    providerStatus.invalidate()
    await providerStatus.read()
    expect(reads).toBe(3)
  })

  it('does not cache a failure', async () => {
    const gate = await openGate()
    let away = true
    const targets = () => (away ? Promise.reject(new GateUnavailable('away')) : gate.targets())
    const providerStatus = createProviderStatusReader({ gate: { ...gate, targets }, db: db(), now: () => 0 })
    await expect(providerStatus.read()).rejects.toThrow(GateUnavailable)
    away = false
    expect(await providerStatus.read()).toEqual({ targets: [], workers: new Map() })
  })

  it('fails with GateUnavailable when Redis is unreachable', async () => {
    const gate = await openGate(Promise.resolve(unreachableRedis()))
    await expect(createProviderStatusReader({ gate, db: db() }).read()).rejects.toThrow(GateUnavailable)
  })
})

import { expect, it } from 'vitest'
import { mastersOf, type Redis } from '#shared/redis/connect.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { keysLike, testRedis } from '#shared/testing/redis.ts'
import { createGate, type Gate } from './gate.ts'
import { keysOf } from './script.ts'
import type { Decision, GateLimits, SeedData } from './types.ts'

const TARGET = { provider: 'anthropic', model: 'claude' }
const LIMITS: GateLimits = { version: 1, rpm: 3, tpm: null, itpm: null, otpm: null, concurrency: null }

/** Gates over one Redis in virtual time. Every permit becomes a call in the ledger. */
async function open(limits = LIMITS) {
  const world = { now: 1_700_000_000_000, history: 'first', seeds: 0, open: [] as { id: string }[] }
  const redis = await testRedis()
  const prefix = testPrefix()
  const calls: number[] = []
  const create = (history: (() => string) | null = () => world.history) =>
    createGate({
      ...{ redis, prefix, limitsOf: () => limits, now: () => world.now },
      ...(history && { history }),
      sleep: async ms => {
        world.now += ms
      },
      seed: async (): Promise<SeedData> => {
        world.seeds++
        const recent = calls.map(at => ({ ageMs: world.now - at, inputTokens: 1, outputTokens: 1 }))
        return { firstEver: calls.length === 0, calls: recent.filter(one => one.ageMs < 65_000), open: world.open }
      },
    })
  let ids = 0
  const ask = async (gate: Gate, maxWaitMs = 0): Promise<Decision['kind']> => {
    world.now += 7
    const id = `${++ids}`
    const { kind } = await gate.acquire({
      ...TARGET,
      id,
      inputTokens: 1,
      outputTokens: 1,
      maxWaitMs,
      lane: 'normal',
      wake: '',
    })
    if (kind === 'go') calls.push(world.now)
    return kind
  }
  return { world, redis, prefix, create, ask }
}

/** Saves the current keys. @returns a function that restores them */
async function copy(redis: Redis, prefix: string): Promise<() => Promise<void>> {
  const keys = keysOf(prefix, TARGET)
  const kept = await Promise.all(keys.map(async key => [key, await redis.dumpBuffer(key)] as const))
  return async () => {
    for (const [key, value] of kept) await (value ? redis.restore(key, 0, value, 'REPLACE') : redis.del(key))
  }
}

it('a state of another history is seeded again, so that limits count the calls made since', async () => {
  const { world, redis, prefix, create, ask } = await open()
  const [gate, other] = [create(), create()]
  expect(await ask(gate)).toBe('go')
  const putBack = await copy(redis, prefix)
  expect([await ask(gate), await ask(gate), await ask(gate)]).toEqual(['go', 'go', 'closed'])
  await putBack()
  world.history = 'second'
  const before = world.now
  // A new process: only the history can show the difference.
  expect(await ask(other)).toBe('closed')
  expect(world.now - before).toBeGreaterThan(1000)
  expect(await ask(gate)).toBe('closed')
  expect(world.seeds).toBe(1 + 2)
})

it('an older copy in the same history is detected by a process that has seen a newer one', async () => {
  const { redis, prefix, create, ask } = await open()
  const gate = create()
  expect(await ask(gate)).toBe('go')
  const putBack = await copy(redis, prefix)
  expect([await ask(gate), await ask(gate), await ask(gate)]).toEqual(['go', 'go', 'closed'])
  await putBack()
  expect(await ask(gate)).toBe('closed')
})

it('a mark of another history does not tell when the state was lost', async () => {
  const { world, redis, prefix, create, ask } = await open()
  const gate = create()
  expect(await ask(gate)).toBe('go')
  for (const key of await keysLike(redis, `{${prefix}:*`)) await redis.del(key)
  const [state] = keysOf(prefix, TARGET) as [string]
  await redis.hset(state, { mark: 'old', markAt: world.now - 600_000, history: 'another' })
  const before = world.now
  expect(await ask(gate)).toBe('go')
  expect(world.now - before).toBeGreaterThan(1000)
})

it('a state written by an older version is seeded again once', async () => {
  const { world, redis, prefix, create, ask } = await open()
  const gate = create()
  expect(await ask(gate)).toBe('go')
  await redis.hdel(keysOf(prefix, TARGET)[0]!, 'history')
  expect([await ask(gate), await ask(gate), await ask(gate)]).toEqual(['go', 'go', 'closed'])
  expect(world.seeds).toBe(1 + 2)
})

it('the history is the server’s, read in the same step', async () => {
  const { world, redis, prefix, create, ask } = await open()
  const gate = create(null)
  expect([await ask(gate), await ask(gate), await ask(gate), await ask(gate)]).toEqual(['go', 'go', 'go', 'closed'])
  expect(world.seeds).toBe(1)
  const written = await redis.hget(keysOf(prefix, TARGET)[0]!, 'history')
  const infos = await Promise.all(mastersOf(redis).map(node => node.info('replication')))
  expect(infos.map(info => /master_replid:(\w+)/.exec(info)?.[1])).toContain(written)
})

it('describe finds no state of another history', async () => {
  const { world, create, ask } = await open()
  const gate = create()
  await ask(gate)
  world.history = 'second'
  expect(await gate.describe([TARGET])).toMatchObject([{ seeded: false, rpm: { used: 0 } }])
  expect(await ask(gate)).toBe('go')
  expect(await gate.describe([TARGET])).toMatchObject([{ seeded: true, rpm: { used: 2 } }])
})

it.each(['leases', 'line', 'sweep'])('a state whose %s are lost is seeded again', async part => {
  const { world, redis, prefix, create, ask } = await open({ ...LIMITS, concurrency: 1 })
  const gate = create()
  expect(await ask(gate)).toBe('go')
  expect(await ask(gate, 60_000)).toBe('wait')
  expect(world.seeds).toBe(1)
  await redis.del(keysOf(prefix, TARGET).find(key => key.endsWith(`:${part}`))!)
  // According to the ledger, its call still runs.
  world.open = [{ id: '1' }]
  expect(await ask(gate, 60_000)).toBe('wait')
  expect(world.seeds).toBe(1 + 2)
})

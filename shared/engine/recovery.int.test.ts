import { expect, it } from 'vitest'
import { createGate } from '#shared/gate/gate.ts'
import { BREAKER } from '#shared/gate/outcomes.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { testRedis } from '#shared/testing/redis.ts'
import { createRecovery } from './recovery.ts'

const TARGET = { provider: 'anthropic', model: 'claude-x' }

/** A gate whose breaker is open, and a provider that answers pings as `provider.up` says. */
async function outage() {
  const redis = await testRedis()
  const prefix = testPrefix()
  const gate = createGate({
    redis,
    prefix,
    limitsOf: () => null,
    seed: async () => ({ firstEver: true, calls: [], open: [] }),
  })
  let ids = 0
  async function call(result: 'success' | 'failure') {
    const request = { ...TARGET, id: `task-${++ids}`, inputTokens: 1, outputTokens: 1, maxWaitMs: 0, wake: '' }
    const decision = await gate.acquire({ ...request, lane: 'normal' })
    if (decision.kind !== 'go') return decision
    const outcome = { result, latencyMs: 1, inputTokens: null, outputTokens: null, retryAfterMs: null }
    await gate.report(decision.permit, outcome)
    return decision
  }
  const provider = { up: false, pings: 0 }
  const woken: string[] = []
  const lines: string[] = []
  const log = (level: string) => (target: typeof TARGET, text: string) =>
    void lines.push(`${level} ${target.provider}/${target.model}: ${text}`)
  const create = () =>
    createRecovery({
      redis,
      prefix,
      providers: new Map([
        [
          'anthropic',
          {
            async ping() {
              provider.pings++
              if (!provider.up) throw new Error('down')
            },
          },
        ],
      ]),
      halfOpen: gate.halfOpen,
      wake: async jobs => void woken.push(...jobs),
      logger: { info: log('info'), warn: log('warn') } as never,
    })
  const recovery = create()
  const states = () => gate.describe([TARGET])
  const observe = async (by = recovery) => by.observe(await states())
  const breaker = async () => (await states())[0]!.breaker
  const ping = `${prefix}:gate:ping:anthropic/claude-x`
  const nextInterval = () => redis.del(ping)
  const parked = () => redis.llen(`${prefix}:gate:parked:anthropic/claude-x`)
  const pauseMs = async () => Math.round((await redis.pttl(ping)) / 1000) * 1000
  for (let n = 0; n < BREAKER.FAILURES_IN_A_ROW; n++) await call('failure')
  return { provider, woken, lines, recovery, create, call, observe, breaker, nextInterval, pauseMs, parked }
}

it('a breaker becomes half-open when a ping is answered, and not before', async () => {
  const { provider, lines, observe, breaker, nextInterval, call } = await outage()
  await observe()
  expect([provider.pings, await breaker()]).toEqual([1, 'open'])
  provider.up = true
  await nextInterval()
  await observe()
  expect([provider.pings, await breaker()]).toEqual([2, 'half_open'])
  for (let n = 0; n < BREAKER.PROBE_SUCCESSES; n++) expect(await call('success')).toMatchObject({ kind: 'go' })
  expect(await breaker()).toBe('closed')
  await observe()
  expect(lines).toEqual([
    'warn anthropic/claude-x: calls keep failing: the circuit breaker is open',
    'info anthropic/claude-x: the circuit breaker is closed again',
  ])
})

it('all workers together send one ping per interval', async () => {
  const { provider, create, observe } = await outage()
  await Promise.all([observe(create()), observe(create()), observe(create())])
  expect(provider.pings).toBe(1)
})

it('a breaker is opened early less and less often while calls fail although pings are answered', async () => {
  const { provider, call, observe, breaker, nextInterval, pauseMs } = await outage()
  provider.up = true
  const pauses: number[] = []
  for (let n = 0; n < 5; n++) {
    await nextInterval()
    await observe()
    pauses.push(await pauseMs())
    await call('failure')
    expect(await breaker()).toBe('open')
    await observe()
    expect([provider.pings, await breaker()]).toEqual([n + 1, 'open'])
  }
  expect(pauses).toEqual([4000, 8000, 10_000, 10_000, 10_000])
  await nextInterval()
  await observe()
  for (let n = 0; n < BREAKER.PROBE_SUCCESSES; n++) await call('success')
  await observe()
  for (let n = 0; n < BREAKER.FAILURES_IN_A_ROW; n++) await call('failure')
  await nextInterval()
  await observe()
  expect(await pauseMs()).toBe(4000)
})

it('two parked jobs wake for the probes, and the rest when the breaker has closed', async () => {
  const { provider, woken, recovery, call, observe, parked } = await outage()
  for (const job of ['a', 'b', 'c', 'd', 'e']) recovery.park(TARGET, `default ${job}`)
  await expect.poll(parked).toBe(5)
  provider.up = true
  await observe()
  expect(woken).toEqual(['default a', 'default b'])
  for (let n = 0; n < BREAKER.PROBE_SUCCESSES; n++) await call('success')
  await observe()
  expect(woken.slice(2)).toEqual(['default c', 'default d', 'default e'])
})

import { describe, expect, it, vi } from 'vitest'
import { DatabaseUnavailable, type Db } from '#shared/db/pool.ts'
import { createClaimStage } from './claim.ts'
import { createClaimRegistry } from './claim-registry.ts'

const row = { ord: 1, scope: null, window: null, limit_usd: null, exceeded: null, missing: false, resets_ms: null }
const CLAIMED = { ...row, claimed: true }
const REFUSED = { ...row, claimed: false, scope: 'global', window: 'day', limit_usd: '1', exceeded: true }
const LOST = { ...row, claimed: false }
const reservation = {
  ...{
    provider: 'p',
    model: 'm',
    kind: 'generate',
    apiKeyId: 'key',
    batchId: null,
    usd: '1',
    priceVersion: 'v',
    promptVersion: '1',
  },
  ...{ inputTokens: 1, outputTokens: 1 },
}

/** A Postgres that answers as the test says; an Error is an answer that was lost. */
async function claim(...answers: (typeof CLAIMED | typeof REFUSED | typeof LOST | Error)[]) {
  vi.useFakeTimers()
  const claimRegistry = createClaimRegistry()
  const abandoned: unknown[] = []
  const db = {
    query: async ({ name }, values) => {
      if (name === 'attempts_abandon') {
        abandoned.push(values)
        return []
      }
      const answer = answers.shift()!
      if (answer instanceof Error) throw new DatabaseUnavailable(answer)
      return [answer]
    },
  } as Partial<Db> as Db
  const claims = createClaimStage(db, 'worker', claimRegistry, async () => undefined)
  const claiming = claims.claim({ id: 'task', epoch: 0, n: 1, reservation }, new AbortController())
  await vi.advanceTimersByTimeAsync(10_000)
  vi.useRealTimers()
  return {
    outcome: await claiming,
    held: claimRegistry.size,
    left: answers.length,
    abandoned: abandoned.length,
  }
}

describe('a claim', () => {
  /** A claim by a process that must wait for a beat at check `n`; resolves when it waits, or has not waited. */
  async function unfitAt(n: number) {
    const beat = Promise.withResolvers<void>()
    const waits = Promise.withResolvers<void>()
    const claimRegistry = createClaimRegistry()
    const asked: string[] = []
    const db = {
      query: async ({ name }) => {
        asked.push(name)
        return [CLAIMED]
      },
    } as Partial<Db> as Db
    let checks = 0
    const untilHealthy = async () => {
      checks++
      if (checks < n) return
      waits.resolve()
      await beat.promise
    }
    const outcomes: string[] = []
    const done = createClaimStage(db, 'worker', claimRegistry, untilHealthy)
      .claim({ id: 'task', epoch: 0, n: 1, reservation }, new AbortController())
      .then(one => void outcomes.push(one.kind))
    await Promise.race([waits.promise, done])
    const recover = () => {
      beat.resolve()
      return done
    }
    return { claimRegistry, asked, outcomes, recover }
  }

  it('waits for a heartbeat while heartbeats fail', async () => {
    const { asked, claimRegistry, outcomes, recover } = await unfitAt(1)
    expect([asked, claimRegistry.size, outcomes]).toEqual([[], 0, []])
    await recover()
    expect([asked.length, claimRegistry.size, outcomes]).toEqual([1, 1, ['claimed']])
  })

  it('granted while heartbeats begin to fail is registered, and used after the next success', async () => {
    const { asked, claimRegistry, outcomes, recover } = await unfitAt(2)
    expect([asked.length, claimRegistry.size, outcomes]).toEqual([1, 1, []])
    await recover()
    expect(outcomes).toEqual(['claimed'])
  })

  it('that is refused is not repeated', async () => {
    expect(await claim(REFUSED, CLAIMED)).toMatchObject({ outcome: { kind: 'refused' }, held: 0, left: 1 })
  })

  it('whose answer was lost is repeated after a refusal, which may come from its own reservation', async () => {
    const lost = new Error('connection reset')
    expect(await claim(lost, REFUSED, CLAIMED)).toMatchObject({
      outcome: { kind: 'claimed' },
      held: 1,
      left: 0,
    })
    expect(await claim(lost, REFUSED, REFUSED)).toMatchObject({
      outcome: { kind: 'refused' },
      held: 0,
      left: 0,
    })
    expect(await claim(lost, LOST, CLAIMED)).toMatchObject({ outcome: { kind: 'lost' }, held: 0, left: 1 })
  })

  it('that is lost releases a reservation only if it was repeated', async () => {
    const lost = new Error('connection reset')
    expect(await claim(LOST)).toMatchObject({ outcome: { kind: 'lost' }, abandoned: 0 })
    expect(await claim(lost, LOST)).toMatchObject({ outcome: { kind: 'lost' }, abandoned: 1 })
    expect(await claim(lost, REFUSED, LOST)).toMatchObject({ outcome: { kind: 'lost' }, abandoned: 1 })
    expect(await claim(lost, CLAIMED)).toMatchObject({ outcome: { kind: 'claimed' }, abandoned: 0 })
  })
})

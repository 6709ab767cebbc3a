import { describe, expect, it, vi } from 'vitest'
import { DatabaseUnavailable, type Db } from '#shared/db/pool.ts'
import { createHeld } from '#workers/held.ts'
import { createClaims } from './claim.ts'

const row = { ord: 1, scope: null, span: null, limit_usd: null, exceeded: null, missing: false, resets_ms: null }
const CLAIMED = { ...row, claimed: true }
const REFUSED = { ...row, claimed: false, scope: 'global', span: 'day', limit_usd: '1', exceeded: true }
const LOST = { ...row, claimed: false }
const need = {
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
  const held = createHeld()
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
  const claims = createClaims(db, 'worker', held, async () => undefined)
  const claiming = claims.claim({ id: 'task', epoch: 0, n: 1, need }, new AbortController())
  await vi.advanceTimersByTimeAsync(10_000)
  vi.useRealTimers()
  return { outcome: await claiming, held: held.size, left: answers.length, abandoned: abandoned.length }
}

describe('a claim', () => {
  it('that is refused is not asked for again', async () => {
    expect(await claim(REFUSED, CLAIMED)).toMatchObject({ outcome: { kind: 'refused' }, held: 0, left: 1 })
  })

  it('whose answer was lost may have been refused for its own reservation: it is asked for once more', async () => {
    const lost = new Error('connection reset')
    expect(await claim(lost, REFUSED, CLAIMED)).toMatchObject({ outcome: { kind: 'claimed' }, held: 1, left: 0 })
    expect(await claim(lost, REFUSED, REFUSED)).toMatchObject({ outcome: { kind: 'refused' }, held: 0, left: 0 })
    expect(await claim(lost, LOST, CLAIMED)).toMatchObject({ outcome: { kind: 'lost' }, held: 0, left: 1 })
  })

  it('that was lost has left nothing to give back, unless it was asked for more than once', async () => {
    const lost = new Error('connection reset')
    expect(await claim(LOST)).toMatchObject({ outcome: { kind: 'lost' }, abandoned: 0 })
    expect(await claim(lost, LOST)).toMatchObject({ outcome: { kind: 'lost' }, abandoned: 1 })
    expect(await claim(lost, REFUSED, LOST)).toMatchObject({ outcome: { kind: 'lost' }, abandoned: 1 })
    expect(await claim(lost, CLAIMED)).toMatchObject({ outcome: { kind: 'claimed' }, abandoned: 0 })
  })
})

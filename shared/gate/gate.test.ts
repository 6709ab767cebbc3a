import { describe, expect, it } from 'vitest'
import { inlineConstants, keysOf } from './script.ts'
import type { CallOutcome, GatePermit } from './types.ts'
import { acquireArgs, limitArgs, reportArgs, seedArgs } from './wire.ts'

const LIMITS = { version: 3, rpm: 10, tpm: null, itpm: 0, otpm: 1.9, concurrency: -1 }
const PERMIT: GatePermit = {
  target: { provider: 'p', model: 'm' },
  id: 'task',
  lease: 'lease',
  validForMs: 1000,
  validUntil: 0,
  slowAfterMs: 2000,
  booked: { inputTokens: 1, outputTokens: 2, sub: 3, generation: 'g', epoch: 0 },
}
const OUTCOME: CallOutcome = {
  result: 'success',
  latencyMs: 1.5,
  inputTokens: null,
  outputTokens: 7,
  retryAfterMs: null,
}

describe('the script’s arguments', () => {
  it('keep the keys of a target in one cluster slot, whatever its name', () => {
    const keys = keysOf('sluice', { provider: 'p', model: 'a/b {c}:d' })
    expect(new Set(keys.map(key => /\{(.*?)\}/.exec(key)![1])).size).toBe(1)
    expect(new Set(keys).size).toBe(4)
  })

  it('distinguish no limit from limit 0', () => {
    expect(limitArgs(LIMITS)).toEqual([3, 10, -1, 0, 1, 0])
    expect(limitArgs(null)).toEqual([-1, -1, -1, -1, -1, -1])
  })

  it('are whole numbers, whatever a caller or a provider sends', () => {
    const request = { provider: 'p', model: 'm', id: 'i', maxWaitMs: Number.POSITIVE_INFINITY, lane: 'normal' } as const
    const args = acquireArgs({ ...request, inputTokens: 1.2, outputTokens: Number.NaN, wake: 'w' }, 'l')
    expect(args).toEqual(['a', 'i', 'l', 2, 0, 1e12, 'n', 'w'])
    const headers = { requests: { limit: null, remaining: -1, resetMs: null } }
    expect(reportArgs(PERMIT, { ...OUTCOME, headers }).slice(8)).toEqual([
      's',
      2,
      '',
      7,
      '',
      '[-1,0,1000000000,-1,-1,0,-1,-1,0,-1,-1,0]',
    ])
  })

  it('group the calls of the ledger by age, rounded down', () => {
    const calls = [700, 999, 1000].map(ageMs => ({ ageMs, inputTokens: 1, outputTokens: 2 }))
    const args = seedArgs('mark', { firstEver: false, calls, open: [{ id: 'a' }] })
    expect(args).toEqual(['s', 'mark', 2, 500, 2, 2, 4, 1000, 1, 1, 2, 1, 'a'])
  })
})

describe('the script', () => {
  it('inlines its constants', () => {
    const lua = "local SUB, call = 500, redis.call -- ms\nlocal at = 9\ncall('GET', at, SUB, x.SUB)\n"
    expect(inlineConstants(lua)).toBe("\nlocal at = 9\nredis.call('GET', at, 500, x.SUB)\n")
  })
})

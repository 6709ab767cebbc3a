import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { BudgetRefusal } from '#shared/db/claims/admission.ts'
import { affordable, halved } from './output-limit.ts'

/** A token costs a millionth of a dollar, in or out. */
const prices = {
  worstCaseOf: (_: string, __: string, most: { inputTokens: number; outputTokens: number }) =>
    ((most.inputTokens + most.outputTokens) / 1e6).toFixed(12),
}
const refusal = (left_usd: string, exceeded: boolean): BudgetRefusal => ({
  scope: 'global',
  window: 'day',
  limit_usd: '1',
  left_usd,
  exceeded,
  resets_ms: null,
})
const reduced = (left: number, exceeded: boolean, limit = { max: 128_000, min: 2048 }, n = 1) =>
  affordable(
    { prices },
    {
      target: { provider: 'p', model: 'm' },
      prompt: { messages: [], original: { wire: 'openai-chat', body: { n } } },
      inputTokens: 1000,
    },
    limit,
    refusal((left / 1e6).toFixed(12), exceeded),
  )

describe('the output limit that a budget has room for', () => {
  it('is the largest that fits', () => {
    fc.assert(
      fc.property(fc.integer({ min: 3048, max: 200_000 }), left => {
        expect(reduced(left, true)!.max).toBe(Math.min(left - 1000, 127_999))
      }),
    )
  })

  it('is that of one answer of several', () => {
    expect(reduced(50_000, true, { max: 128_000, min: 2048 }, 5)).toEqual({ max: 9800, min: 2048 })
  })

  it('is the minimum if no other fits, which the budget then refuses', () => {
    expect(reduced(100, true)).toEqual({ max: 2048, min: 2048 })
    expect(reduced(100, true, { max: 2048, min: 2048 })).toBeNull()
  })

  it('is not a small one while other reservations fill the budget', () => {
    expect(reduced(10_000, false)).toBeNull()
    expect(reduced(30_000, false)).toEqual({ max: 29_000, min: 2048 })
    expect(reduced(4000, false, { max: 4096, min: 2048 })).toBeNull()
  })

  it('is never below the limit of the client or the kind', () => {
    expect(reduced(100, true, { max: 500, min: 500 })).toBeNull()
    expect(halved({ max: 500, min: 500 })).toBeNull()
  })
})

it('an output limit is halved down to its minimum', () => {
  const limits: number[] = []
  for (let one: ReturnType<typeof halved> = { max: 10_000, min: 2048 }; one; one = halved(one)) limits.push(one.max)
  expect(limits).toEqual([10_000, 5000, 2500, 2048])
})

import { describe, expect, it } from 'vitest'
import type { GateLimits } from '#shared/gate/types.ts'
import type { AdmitResult } from './admit.ts'
import { createProcessLimits } from './process-limits.ts'

const UNLIMITED: GateLimits = { version: 1, rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }

function setUp(limits: Partial<GateLimits>) {
  const clock = { at: 1000 }
  const admit = createProcessLimits(
    () => ({ ...UNLIMITED, ...limits }),
    () => clock.at,
  )
  const request = {
    id: 'a',
    target: { provider: 'openai', model: 'gpt' },
    maxWaitMs: 0,
    lane: 'normal',
    wake: '',
  } as const
  return { clock, admit: (inputTokens = 10, outputTokens = 10) => admit({ ...request, inputTokens, outputTokens }) }
}
const permitOf = (result: AdmitResult) => {
  if (result.kind !== 'go') throw new Error(result.kind)
  return result.permit
}

describe('the limits of a process while the gate is unavailable', () => {
  it('admit as many calls per minute as the target allows', () => {
    const { admit, clock } = setUp({ rpm: 2 })
    expect([admit().kind, admit().kind]).toEqual(['go', 'go'])
    clock.at += 20_000
    expect(admit()).toEqual({ kind: 'closed', ms: 40_000, bookable: false })
    clock.at += 40_000
    expect(admit().kind).toBe('go')
  })

  it('count the tokens that a call used once it reports them', () => {
    const { admit } = setUp({ tpm: 100 })
    const permit = permitOf(admit(50, 50))
    expect(admit(1, 1).kind).toBe('closed')
    permit.report({ result: 'success', latencyMs: 1, inputTokens: 20, outputTokens: 10, retryAfterMs: null })
    expect(admit(50, 20).kind).toBe('go')
    expect(admit(1, 0).kind).toBe('closed')
  })

  it('refuse a call that exceeds a limit alone', () => {
    expect(setUp({ itpm: 5 }).admit()).toEqual({ kind: 'never', limit: 'itpm' })
    expect(setUp({ rpm: 0 }).admit()).toEqual({ kind: 'never', limit: 'rpm' })
  })

  it('free the slot and the tokens of a permit that was released', () => {
    const { admit } = setUp({ concurrency: 1, rpm: 1 })
    permitOf(admit()).release()
    const permit = permitOf(admit())
    permit.release()
    expect(admit().kind).toBe('go')
  })
})

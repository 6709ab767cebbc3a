import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Decision, GateUnavailable, type Permit } from '#shared/gate/types.ts'
import { createLogger } from '#shared/logger.ts'
import { type AdmitRequest, createAdmission, resultOf } from './admit.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const permit = { lease: 'a lease', validUntil: Number.POSITIVE_INFINITY, slowAfterMs: 2000 } as Permit
const request: AdmitRequest = {
  id: 'task',
  candidate: { provider: 'anthropic', model: 'claude' },
  inputTokens: 10,
  outputTokens: 20,
  maxWaitMs: 5000,
  lane: 'normal',
  wake: 'default job',
}
const outcome = { result: 'success', latencyMs: 1, inputTokens: 1, outputTokens: 1, retryAfterMs: null } as const

/** A gate that decides as the test says, one decision after the other; the last one stays. */
function harness(...decisions: (Decision | Error)[]) {
  const log: unknown[] = []
  let woken: string[] = []
  const answer = async (what: string, ...rest: unknown[]) => {
    log.push([what, ...rest])
    return woken
  }
  const admission = createAdmission({
    gate: {
      async acquire(asked) {
        log.push(['acquire', asked.id, asked.maxWaitMs])
        const decision = decisions.length > 1 ? decisions.shift()! : decisions[0]!
        if (decision instanceof Error) throw decision
        return decision
      },
      report: (_, what) => answer('report', what),
      release: () => answer('release'),
      slow: async () => void log.push(['slow']),
      renew: async permits => void log.push(['renew', permits]),
    },
    wake: async jobs => void log.push(['wake', jobs]),
    metrics: { permitWaits: { inc: (labels: unknown) => log.push(['waits', labels]) } } as never,
    logger,
  })
  return {
    admission,
    log,
    wakes: (jobs: string[]) => {
      woken = jobs
    },
  }
}
const go: Decision = { kind: 'go', permit }

describe('admission', () => {
  it('is a pass with which one call may be made, renewed until it is reported', async () => {
    const { admission, log, wakes } = harness(go)
    const admitted = await admission.admit(request)
    if (admitted.kind !== 'go') throw new Error('not admitted')
    expect(admitted.pass.slowAfterMs).toBe(2000)
    await vi.advanceTimersByTimeAsync(5000)
    expect(log.at(-1)).toEqual(['renew', []])
    expect(admitted.pass.start()).toBe(true)
    await vi.advanceTimersByTimeAsync(5000)
    expect(log).toContainEqual(['renew', [permit]])
    admitted.pass.slow()
    wakes(['default another'])
    admitted.pass.report(outcome)
    await vi.advanceTimersByTimeAsync(5000)
    expect(log.slice(-4)).toEqual([['slow'], ['report', outcome], ['wake', ['default another']], ['renew', []]])
    await admission.stop()
  })

  it('spends a short wait here, and asks again', async () => {
    const { admission, log } = harness({ kind: 'wait', ms: 40, reason: 'rate' }, go)
    const admitted = admission.admit(request)
    await vi.advanceTimersByTimeAsync(40)
    expect((await admitted).kind).toBe('go')
    expect(log.filter(one => (one as unknown[])[0] === 'acquire')).toHaveLength(2)
    await admission.stop()
  })

  it('passes on a longer wait, and does not wait without end in short ones', async () => {
    const long = harness({ kind: 'wait', ms: 4000, reason: 'rate' })
    expect(await long.admission.admit(request)).toEqual({ kind: 'wait', ms: 4000 })
    const short = harness({ kind: 'wait', ms: 50, reason: 'concurrency' })
    const admitted = short.admission.admit(request)
    await vi.advanceTimersByTimeAsync(1000)
    expect(await admitted).toEqual({ kind: 'wait', ms: 50 })
    await Promise.all([long.admission.stop(), short.admission.stop()])
  })

  it('says whether a place could be kept', async () => {
    for (const [reason, bookable] of [
      ['late', true],
      ['breaker', false],
      ['pause', false],
    ] as const) {
      const { admission } = harness({ kind: 'closed', ms: 700, reason })
      expect(await admission.admit(request)).toEqual({ kind: 'closed', ms: 700, bookable })
      await admission.stop()
    }
  })

  it('is closed for a moment while the gate cannot be asked: no limit is overrun for want of Redis', async () => {
    const { admission } = harness(new GateUnavailable('away'))
    expect(await admission.admit(request)).toEqual({ kind: 'closed', ms: 1000, bookable: false })
    await admission.stop()
  })
})

it('does not hold a name that nobody knows against the model whose gate it shares', () => {
  expect(['unknown_model', 'invalid_request', 'server_error', 'auth'].map(resultOf)).toEqual([
    'neutral',
    'neutral',
    'failure',
    'failure',
  ])
})

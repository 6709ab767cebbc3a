import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Decision, type GatePermit, GateUnavailable } from '#shared/gate/types.ts'
import { createLogger } from '#shared/process/logger.ts'
import { type AdmitRequest, createAdmission, gateResult } from './admit.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const permit = { lease: 'a lease', validUntil: Number.POSITIVE_INFINITY, slowAfterMs: 2000 } as GatePermit
const request: AdmitRequest = {
  id: 'task',
  target: { provider: 'anthropic', model: 'claude' },
  inputTokens: 10,
  outputTokens: 20,
  maxWaitMs: 5000,
  lane: 'normal',
  wake: 'default job',
}
const outcome = { result: 'success', latencyMs: 1, inputTokens: 1, outputTokens: 1, retryAfterMs: null } as const

/** A gate with scripted decisions, in order; the last one repeats. */
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
    park: (target, job) => void log.push(['park', target.model, job]),
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
  it('grants a permit for one call and renews it until it is reported', async () => {
    const { admission, log, wakes } = harness(go)
    const admitted = await admission.admit(request)
    if (admitted.kind !== 'go') throw new Error('not admitted')
    expect(admitted.permit.slowAfterMs).toBe(2000)
    await vi.advanceTimersByTimeAsync(5000)
    expect(log.at(-1)).toEqual(['renew', []])
    expect(admitted.permit.start()).toBe(true)
    await vi.advanceTimersByTimeAsync(5000)
    expect(log).toContainEqual(['renew', [permit]])
    admitted.permit.slow()
    wakes(['default another'])
    admitted.permit.report(outcome)
    await vi.advanceTimersByTimeAsync(5000)
    expect(log.slice(-4)).toEqual([['slow'], ['report', outcome], ['wake', ['default another']], ['renew', []]])
    await admission.stop()
  })

  it('waits a short time in the process and tries again', async () => {
    const { admission, log } = harness({ kind: 'wait', ms: 40, reason: 'rate' }, go)
    const admitted = admission.admit(request)
    await vi.advanceTimersByTimeAsync(40)
    expect((await admitted).kind).toBe('go')
    expect(log.filter(one => (one as unknown[])[0] === 'acquire')).toHaveLength(2)
    await admission.stop()
  })

  it('returns a longer wait, and one after several short ones', async () => {
    const long = harness({ kind: 'wait', ms: 4000, reason: 'rate' })
    expect(await long.admission.admit(request)).toEqual({ kind: 'wait', ms: 4000 })
    const short = harness({ kind: 'wait', ms: 50, reason: 'concurrency' })
    const admitted = short.admission.admit(request)
    await vi.advanceTimersByTimeAsync(1000)
    expect(await admitted).toEqual({ kind: 'wait', ms: 50 })
    await Promise.all([long.admission.stop(), short.admission.stop()])
  })

  it('says whether a slot could be booked', async () => {
    for (const [reason, bookable] of [
      ['late', true],
      ['breaker', false],
      ['pause', false],
    ] as const) {
      const { admission } = harness({ kind: 'closed', ms: 700, reason })
      expect(await admission.admit(request)).toEqual({ kind: 'closed', ms: 700, bookable, down: false })
      await admission.stop()
    }
  })

  it('parks the job of a task behind an open breaker, but no batch line', async () => {
    const { admission, log } = harness({ kind: 'closed', ms: 29_000, reason: 'breaker' })
    const down = { kind: 'closed', ms: 29_000, bookable: false, down: true }
    expect(await admission.admit(request)).toEqual(down)
    expect(await admission.admit({ ...request, lane: 'batch', wake: 'default line' })).toEqual(down)
    expect(log.filter(entry => Array.isArray(entry) && entry[0] === 'park')).toEqual([
      ['park', 'claude', 'default job'],
    ])
    await admission.stop()
  })

  it('is closed briefly while Redis is unavailable, so that no limit is exceeded', async () => {
    const { admission } = harness(new GateUnavailable('away'))
    expect(await admission.admit(request)).toEqual({ kind: 'closed', ms: 1000, bookable: false })
    await admission.stop()
  })
})

it('an unknown model name is neutral for the model that shares its gate', () => {
  expect(['unknown_model', 'invalid_request', 'server_error', 'auth'].map(gateResult)).toEqual([
    'neutral',
    'neutral',
    'failure',
    'failure',
  ])
})

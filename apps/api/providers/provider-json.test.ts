import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NO_LIMITS } from '#shared/db/provider-limits.ts'
import type { ProviderState } from '#shared/db/workers.ts'
import { targetName } from '#shared/gate/target.ts'
import type { TargetState } from '#shared/gate/types.ts'
import { route, SCORE_MARGIN } from '#shared/routing.ts'
import { lowestLatency, modelHealthJson, providerJson, scoreOf, stateOf } from './provider-json.ts'
import type { ProviderStatus } from './provider-status.ts'

const unused = { used: 0, limit: null }
const target = (more: Partial<TargetState> = {}, provider = 'openai', model = 'm'): TargetState => ({
  target: { provider, model },
  seeded: true,
  breaker: 'closed',
  retryMs: 0,
  pauseMs: 0,
  successRate: 1,
  health: 1,
  latencyMs: 100,
  p95Ms: 150,
  rpm: unused,
  tpm: unused,
  itpm: unused,
  otpm: unused,
  concurrency: unused,
  waiters: 0,
  bookings: 0,
  ...more,
})
const status = (targets: TargetState[], workers: ProviderState[] = []): ProviderStatus => ({
  targets,
  workers: new Map(workers.length > 0 ? [['openai', workers]] : []),
})

describe('the state of a provider', () => {
  const open = target({ breaker: 'open' })
  it.each<[string, TargetState[], ProviderState[]]>([
    ['unknown', [], []],
    ['unknown', [target({ breaker: 'open' }, 'google')], []],
    ['ok', [target()], []],
    ['ok', [], ['ok', 'ok']],
    ['degraded', [target()], ['ok', 'failing']],
    ['degraded', [target()], ['ok', 'unreachable']],
    ['down', [target()], ['unreachable', 'unreachable']],
    ['degraded', [target({ pauseMs: 1 })], ['ok']],
    ['degraded', [target({ breaker: 'half_open' })], ['ok']],
    ['degraded', [open, target({}, 'openai', 'other')], ['ok']],
    ['down', [open, target({ breaker: 'open' }, 'openai', 'other')], ['ok']],
  ])('is %s', (state, targets, workers) => {
    expect(stateOf('openai', status(targets, workers))).toBe(state)
  })
})

describe('a provider', () => {
  it('shows the figures of its default model, otherwise of a called model, otherwise the initial values', () => {
    const [a, b] = [target({ successRate: 0.5 }, 'openai', 'a'), target({ successRate: 0.25 }, 'openai', 'b')]
    const shown = (targets: TargetState[], model: string | null) => {
      const { model: whose, success_rate } = providerJson('openai', model, NO_LIMITS, status(targets))
      return [whose, success_rate]
    }
    expect(shown([a, b], 'b')).toEqual(['b', 0.25])
    expect(shown([a, b], 'c')).toEqual(['a', 0.5])
    expect(shown([a, b], null)).toEqual(['a', 0.5])
    expect(shown([], 'b')).toEqual([null, 1])
    expect(providerJson('openai', 'b', { ...NO_LIMITS, rpm: 7 }, status([]))).toMatchObject({
      score: 1,
      latency_ms: null,
      limits: { rpm: 7, tpm: null },
      permits_left: { rpm: 7, tpm: null },
    })
  })

  it('shows the figures of its default model under any of its names', () => {
    const figures = target({ successRate: 0.25 }, 'openai', 'gpt-5.4')
    expect(
      providerJson('openai', 'gpt-5.4-2026-03-05', NO_LIMITS, status([target({}, 'openai', 'a'), figures])),
    ).toMatchObject({ default_model: 'gpt-5.4-2026-03-05', model: 'gpt-5.4', success_rate: 0.25 })
  })

  it('shows the remainder of each limit, at least 0', () => {
    const one = target({
      rpm: { used: 3, limit: 10 },
      tpm: { used: 12, limit: 10 },
      concurrency: { used: 4, limit: 0 },
      bookings: 5,
      waiters: 6,
    })
    expect(modelHealthJson(one, { ...NO_LIMITS, rpm: 20 }, 100)).toMatchObject({
      permits_left: { rpm: 7, tpm: 0, itpm: null, otpm: null, concurrency: 0 },
      limits: { rpm: 20, tpm: null },
      waiting: { for_rate: 5, for_concurrency: 6 },
    })
  })
})

describe('a score', () => {
  it('combines success rate, speed and health', () => {
    const slow = target({ successRate: 0.5, latencyMs: 400, health: 0.2 })
    expect(lowestLatency([slow, target(), target({ latencyMs: null }), target({ latencyMs: 0 })])).toBe(100)
    expect(scoreOf(slow, 100)).toBeCloseTo(0.5 * 0.4 + 0.25 * 0.3 + 0.2 * 0.3)
    expect(scoreOf({ ...slow, breaker: 'open' }, 100)).toBeCloseTo(0.5 * 0.4 + 0.25 * 0.3)
    expect(scoreOf(target({ latencyMs: null }), Number.POSITIVE_INFINITY)).toBe(1)
  })

  it('is the score that routing uses', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true })
    const latencyMs = fc.option(fc.integer({ min: 1, max: 10_000 }))
    const signals = fc.record({ successRate: share, health: share, latencyMs })
    fc.assert(
      fc.property(signals, signals, (first, second) => {
        const both = [target(first, 'openai'), target(second, 'google')]
        const [a, b] = both.map(one => scoreOf(one, lowestLatency(both))) as [number, number]
        fc.pre(Math.abs(a - b) > SCORE_MARGIN + 1e-9)
        const scores = new Map(
          both.map(({ target: name, successRate, health, latencyMs: latency }) => [
            targetName(name),
            { successRate, health, ...(latency !== null && { latency }) },
          ]),
        )
        const available = both.map(one => ({ name: one.target.provider, defaultModel: 'm' }))
        expect(route({}, available, { scores })[0]!.provider).toBe(a > b ? 'openai' : 'google')
      }),
    )
  })
})

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { JobKind } from '#shared/jobs/define.ts'
import { summarize } from '#shared/jobs/summarize.ts'
import { CallFailure } from '#shared/providers/define.ts'
import { answer, harness, refusal, STRICT } from '#shared/testing/run-harness.ts'
import type { CallInput, CallResult } from './call.ts'
import type { RunDeps } from './run.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  // A run leaves no timer that could stop a later run.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

describe('a truncated answer', () => {
  const CUT = answer('{"n', 'length')
  /** Limits that were requested, in order. */
  const cutting = (options: Parameters<typeof harness>[1], behaviours: CallResult[] = Array(9).fill(CUT)) => {
    const limits: number[] = []
    const made = harness(
      behaviours.map(one => ({ maxTokens }: CallInput) => {
        limits.push(maxTokens)
        return one
      }),
      options,
    )
    return { ...made, limits }
  }
  const CLAUDE = { available: async () => [{ name: 'anthropic', defaultModel: 'claude-haiku-5-5' }] }
  const SUMMARIZE = { kind: 'summarize', input: { text: 'A long text.' }, options: { fallback: 'none' as const } }
  const withSummaries = { ...CLAUDE, jobs: new Map<string, JobKind>([['summarize', summarize]]) }

  it('is kept for a text task, with finish reason length', async () => {
    const { run, calls, endings } = cutting({ task: { options: { max_tokens: 100 } } }, [answer('Once upon', 'length')])
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(endings[0]).toMatchObject({
      status: 'succeeded',
      result: { text: 'Once upon' },
      finishReason: 'length',
      settlement: { finishReason: 'length' },
    })
  })

  it.each([
    ['JSON', CUT, STRICT.input],
    ['a text without a word', answer('', 'length'), { prompt: 'Hi' }],
  ])('of %s is neither retried at the client’s limit nor requested of other models', async (_, cut, input) => {
    const task = { input, options: { max_tokens: 100, fallback: 'none' as const } }
    const { run, calls, requeues, endings } = cutting({ task }, Array(5).fill(cut))
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({
      status: 'failed',
      finishReason: 'length',
      error: { code: 'output_truncated', message: expect.stringMatching(/cut off at 100 tokens.*Raise max_tokens/) },
    })
  })

  it('is requested once more at the model’s own limit if the client set none', async () => {
    const { run, limits, endings } = cutting({ task: SUMMARIZE, deps: withSummaries })
    await run()
    expect(limits).toEqual([2048, 128_000])
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'output_truncated' } })
  })

  it('is replaced by the complete answer at the higher limit', async () => {
    const whole = answer('{"summary":"All of it."}')
    const { run, limits, endings, nexts } = cutting({ task: SUMMARIZE, deps: withSummaries }, [CUT, whole])
    await run()
    expect(limits).toEqual([2048, 128_000])
    expect(nexts[0]!.settlement).toMatchObject({ outcome: 'rejected', finishReason: 'length' })
    expect(endings[0]).toMatchObject({ status: 'succeeded', result: { summary: 'All of it.' }, finishReason: 'stop' })
  })

  it('at the model’s own limit is not requested again', async () => {
    const { run, limits, endings } = cutting({ task: { ...STRICT, options: { fallback: 'none' } }, deps: CLAUDE })
    await run()
    expect(limits).toEqual([128_000])
    expect(endings[0]).toMatchObject({ error: { code: 'output_truncated' } })
  })

  it('fails with output_truncated when no budget admits a higher limit', async () => {
    const { run, limits, endings, deps } = cutting({ task: SUMMARIZE, deps: withSummaries })
    deps.claims.next = async () => ({ kind: 'refused', by: refusal() })
    await run()
    expect(limits).toEqual([2048])
    expect(endings[0]).toMatchObject({ error: { code: 'output_truncated' } })
  })

  it('of an earlier run sets the limit to exceed', async () => {
    const cut = { provider: 'anthropic', model: 'claude-haiku-5-5', reason: 'r', finishReason: 'length' as const }
    const earlier = (...limits: number[]) => ({
      ...SUMMARIZE,
      attempts: limits.length,
      tries: limits.length,
      rejected: limits.map(maxTokens => ({ ...cut, maxTokens })),
    })
    const once = cutting({ task: earlier(2048), deps: withSummaries })
    await once.run()
    expect(once.limits).toEqual([128_000])
    const twice = cutting({ task: earlier(2048, 4096), deps: withSummaries })
    await twice.run()
    expect(twice.limits).toEqual([])
    expect(twice.endings[0]).toMatchObject({ error: { code: 'output_truncated' } })
  })

  it('is cached only at a limit that the client set', async () => {
    const remembered: unknown[] = []
    for (const max_tokens of [undefined, 100]) {
      const { run, deps } = cutting({ task: { options: max_tokens ? { max_tokens } : {} } }, [answer('Once', 'length')])
      deps.coalescing.remember = async (_, __, { finishReason }) => void remembered.push(finishReason)
      await run()
    }
    expect(remembered).toEqual(['length'])
  })
})

describe('the output limit without max_tokens', () => {
  const CLAUDE = async () => [{ name: 'anthropic', defaultModel: 'claude-haiku-5-5' }]
  /** A token costs a millionth of a dollar. */
  const prices: RunDeps['prices'] = {
    worstCaseOf: (_, __, { outputTokens }) => (outputTokens / 1e6).toFixed(12),
    priceVersionOf: () => 'v',
  }

  it('is the model’s own, reduced to a share of the rate limits', async () => {
    const limits: number[] = []
    const note = ({ maxTokens }: CallInput) => {
      limits.push(maxTokens)
      return answer('Hello')
    }
    for (const otpm of [null, 80_000, 1000])
      await harness([note], { deps: { available: CLAUDE, limitsOf: () => ({ tpm: null, otpm }) } }).run()
    expect(limits).toEqual([128_000, 10_000, 2048])
  })

  it('is reduced to fit a budget', async () => {
    const { run, claims, endings, deps } = harness([answer('Hello')], { deps: { available: CLAUDE, prices } })
    const { claim } = deps.claims
    deps.claims.claim = async (request, controller) => {
      if (Number(request.reservation.usd) <= 0.01) return claim(request, controller)
      return { kind: 'refused', by: refusal({ left_usd: '0.01' }) }
    }
    await run()
    expect(claims[0]!.reservation.outputTokens).toBe(10_000)
    expect(endings[0]!.status).toBe('succeeded')
  })

  it('is not reduced for other reservations: the task waits', async () => {
    const { run, requeues, calls, deps } = harness([], { deps: { available: CLAUDE, prices } })
    deps.claims.claim = async () => ({ kind: 'refused', by: refusal({ exceeded: false, left_usd: '0.01' }) })
    await run()
    expect(calls).toEqual([])
    expect(requeues).toHaveLength(1)
  })

  it('is lowered when the model refuses it as too large', async () => {
    const limits: number[] = []
    const tooLarge = ({ maxTokens }: CallInput): CallResult => {
      limits.push(maxTokens)
      return {
        kind: 'failure',
        hurried: false,
        failure: new CallFailure('invalid_request', 'max_tokens is too large: 8192'),
      }
    }
    const fine = ({ maxTokens }: CallInput) => {
      limits.push(maxTokens)
      return answer('Hello')
    }
    const { run, endings } = harness([tooLarge, fine])
    await run()
    expect(limits).toEqual([8192, 2048])
    expect(endings[0]).toMatchObject({ status: 'succeeded' })
  })
})

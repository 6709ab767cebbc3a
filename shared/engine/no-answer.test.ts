import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { BudgetRefusal } from '#shared/db/claims/admission.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { generate } from '#shared/jobs/generate.ts'
import { answer, failure, gate, harness, NAMES, refusal } from '#shared/testing/run-harness.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  // Whatever the outcome, a run leaves no timer that could stop a later one.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

describe('waiting for a target', () => {
  it('waits for the target that may answer first', async () => {
    const { run, requeues, endings } = harness([
      failure('rate_limited', 9000),
      failure('overloaded', 2000),
      failure('rate_limited', 5000),
    ])
    await run()
    expect(endings).toEqual([])
    expect(requeues).toEqual([
      {
        delayMs: 2000,
        tries: 3,
        settlement: expect.objectContaining({ n: 3, outcome: 'rate_limited' }),
        claimed: true,
      },
    ])
  })

  it('backs off for a random time within the limit after a failure without Retry-After', async () => {
    const { run, requeues } = harness([failure('auth'), failure('connection'), failure('auth')])
    await run()
    expect(requeues[0]!.delayMs).toBeGreaterThanOrEqual(0)
    expect(requeues[0]!.delayMs).toBeLessThanOrEqual(1000)
  })

  it('requeues a task without a claim when every target is closed', async () => {
    const closed = (ms: number) => ({ kind: 'closed', ms, bookable: false }) as const
    const admission = gate({ anthropic: closed(9000), openai: closed(7000), ollama: closed(8000) })
    const { run, calls, claims, requeues } = harness([], { deps: { admission } })
    await run()
    expect([calls, claims]).toEqual([[], []])
    expect(requeues).toEqual([{ delayMs: 7000, tries: 0, settlement: null, claimed: false }])
    expect(admission.asked.map(one => one.maxWaitMs)).toEqual([0, 0, 0])
  })

  it('does not wait for open breakers that take more than half of the time left, and names the models', async () => {
    const down = { kind: 'closed', ms: 20_000, bookable: false, down: true } as const
    const admission = gate({ anthropic: down, openai: down, ollama: down })
    const { run, requeues, endings } = harness([], {
      deps: { admission },
      task: { left_ms: 39_000, options: { fallback: 'none' } },
    })
    await run()
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({
      status: 'failed',
      error: { code: 'provider_failed', message: expect.stringMatching(/anthropic\/a-model.*keep failing/) },
    })
  })

  it('waits for an open breaker that takes half of the time left', async () => {
    const down = { kind: 'closed', ms: 20_000, bookable: false, down: true } as const
    const { run, requeues } = harness([], {
      deps: { admission: gate({ anthropic: down, openai: down, ollama: down }) },
      task: { left_ms: 42_000 },
    })
    await run()
    expect(requeues[0]!.delayMs).toBe(20_000)
  })

  it('waits for a busy provider even when an open breaker takes more than half of the time left', async () => {
    const admission = gate({
      anthropic: { kind: 'closed', ms: 20_000, bookable: false, down: true },
      openai: { kind: 'closed', ms: 7000, bookable: false },
      ollama: { kind: 'closed', ms: 20_000, bookable: false, down: true },
    })
    const { run, requeues } = harness([], { deps: { admission }, task: { left_ms: 39_000 } })
    await run()
    expect(requeues[0]!.delayMs).toBe(7000)
  })

  it.each([0, 100])('backs off longer than a Retry-After of %i ms', async retryAfterMs => {
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.5)
    const { run, requeues, admission } = harness(Array(3).fill(failure('rate_limited', retryAfterMs)))
    await run()
    random.mockRestore()
    // Half of 500, 1000 and 2000 ms after the first, second and third failure.
    expect(requeues).toMatchObject([{ delayMs: 250, tries: 3 }])
    expect(admission.reports).toMatchObject(NAMES.map(name => [name, { retryAfterMs: retryAfterMs || 1000 }]))
  })

  it('does not wait past the deadline', async () => {
    const { run, requeues, endings } = harness(Array(3).fill(failure('rate_limited', 60_000)), {
      task: { left_ms: 60_000 },
    })
    await run()
    expect(requeues).toEqual([])
    expect(endings[0]!.source).toBe('rules')
  })
})

describe('a budget refusal', () => {
  /** A run in which the budget refuses these providers. */
  function broke(by: Partial<Record<string, BudgetRefusal>>, options: Record<string, unknown> = {}) {
    const made = harness([answer('Hello')], { task: { options } })
    const { claim } = made.deps.claims
    made.deps.claims.claim = async (request, controller) => {
      const refused = by[request.reservation.provider]
      return refused ? { kind: 'refused', by: refused } : await claim(request, controller)
    }
    return made
  }
  const byAll = (one: BudgetRefusal) => Object.fromEntries(NAMES.map(name => [name, one]))

  it('tries the next target and releases the permit', async () => {
    const { run, calls, admission } = broke({ anthropic: refusal() })
    await run()
    expect(calls).toEqual(['openai'])
    expect(admission.released).toEqual(['anthropic'])
  })

  it('falls back by default', async () => {
    const { run, endings } = broke(byAll(refusal()))
    await run()
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'rules', from: 'queued' })
  })

  it('fails the task and names the budget with on_budget=fail or without a fallback', async () => {
    for (const options of [{ on_budget: 'fail' }, { fallback: 'none', on_budget: 'fallback' }]) {
      const { run, endings } = broke(byAll(refusal()), options)
      await run()
      expect(endings).toMatchObject([{ status: 'failed', error: { code: 'budget_exceeded' } }])
      expect(endings[0]!.error!.message).toContain('global per day of $1')
    }
  })

  it('waits for the next window with on_budget=wait, if the deadline allows', async () => {
    const { run, requeues } = broke(byAll(refusal()), { on_budget: 'wait' })
    await run()
    expect(requeues).toHaveLength(1)
    expect(requeues[0]!.delayMs).toBeGreaterThanOrEqual(10_000)
    expect(requeues[0]!.delayMs).toBeLessThan(11_000)
    for (const resets_ms of [null, 70_000]) {
      const late = broke(byAll(refusal({ resets_ms })), { on_budget: 'wait' })
      await late.run()
      expect(late.requeues).toEqual([])
      expect(late.endings).toMatchObject([{ status: 'failed', error: { code: 'budget_exceeded' } }])
    }
  })

  it('waits briefly while only other reservations fill the budget', async () => {
    const { run, requeues } = broke(byAll(refusal({ exceeded: false })), { on_budget: 'fail' })
    await run()
    expect(requeues).toHaveLength(1)
    expect(requeues[0]!.delayMs).toBeLessThanOrEqual(1200)
  })
})

describe('no provider', () => {
  it('makes no call without a price and fails with model_price_unknown', async () => {
    const prices = { worstCaseOf: () => null, priceVersionOf: () => null }
    const { run, calls, endings } = harness([], { deps: { prices }, task: { options: { fallback: 'none' } } })
    await run()
    expect(calls).toEqual([])
    expect(endings).toMatchObject([{ status: 'failed', error: { code: 'model_price_unknown' } }])
  })

  it.each([
    ['text', { prompt: 'Hi' }],
    ['an object', { prompt: 'Hi', schema: {} }],
  ])('fails with no_provider and says how to configure one, for a task that returns %s', async (_, input) => {
    const deps = { available: async () => [], jobs: new Map([['generate', generate as JobKind]]) }
    const { run, endings, calls } = harness([], { deps, task: { input, options: { fallback: 'rules' } } })
    await run()
    expect(calls).toEqual([])
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'no_provider' } })
    for (const name of ['ANTHROPIC_API_KEY', 'OPENAI_API_KEY', 'OPENAI_BASE_URL', 'OLLAMA_HOST'])
      expect(endings[0]!.error?.message).toContain(name)
  })

  it.each([
    [{}, /ollama .*does not answer.*OLLAMA_HOST/],
    [{ provider: 'anthropic' }, /anthropic is not configured: set ANTHROPIC_API_KEY/],
  ] as const)('fails with no_provider and names the provider: %j', async (options, message) => {
    const available = async () => [{ name: 'ollama', defaultModel: null, listed: null }]
    const { run, endings } = harness([], { deps: { available }, task: { options: { fallback: 'none', ...options } } })
    await run()
    expect(endings[0]).toMatchObject({ error: { code: 'no_provider', message: expect.stringMatching(message) } })
  })

  it('fails with no_provider when the task allows no fallback', async () => {
    const { run, endings } = harness([], {
      deps: { available: async () => [] },
      task: { options: { fallback: 'none' } },
    })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'no_provider' } })
  })

  it('fails with context_exceeded when the prompt fits no model, and says what to do', async () => {
    const { run, endings } = harness(Array(3).fill(failure('context_exceeded')), {
      task: { options: { fallback: 'none' } },
    })
    await run()
    expect(endings[0]).toMatchObject({
      status: 'failed',
      error: { code: 'context_exceeded', message: expect.stringMatching(/Shorten the input/) },
    })
  })

  it('fails with invalid_output and the reason of the check when no answer passes it', async () => {
    const { run, endings } = harness([answer('no')], {
      task: { tries: 4, input: { prompt: 'Hi', schema: { required: ['n'] } } },
    })
    await run()
    expect(endings[0]).toMatchObject({
      status: 'failed',
      error: { code: 'invalid_output', message: 'the answer is not JSON' },
    })
  })
})

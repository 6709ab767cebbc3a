import fc from 'fast-check'
import { Histogram } from 'prom-client'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Settlement } from '#shared/db/attempts.ts'
import type { ClaimRequest, NextRequest, Refusal, Requeue } from '#shared/db/claims.ts'
import type { Ending, RunnableTask } from '#shared/db/tasks.ts'
import type { Checked, JobKind, Prompt } from '#shared/jobs/define.ts'
import { embed } from '#shared/jobs/embed.ts'
import { generate } from '#shared/jobs/generate.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { createLogger } from '#shared/logger.ts'
import { createBulk } from '#workers/bulk.ts'
import { createHeld } from '#workers/held.ts'
import { CALL_FAILURES, CallFailure, type CallFailureKind } from '#workers/providers/define.ts'
import type { Admission, AdmitRequest } from './admit.ts'
import type { CallInput, CallResult } from './call.ts'
import { check } from './check.ts'
import { createRunner, type RunDeps } from './run.ts'
import type { AttemptEnd } from './settle.ts'

const NAMES = ['anthropic', 'openai', 'ollama']
const logger = createLogger({ level: 'silent', name: 'test' })

const answer = (text: string): CallResult => ({
  kind: 'answer',
  answer: { text, stop: 'end', usage: null, limits: null, model: 'the-model' },
})
const failure = (kind: CallFailureKind, retryAfterMs: number | null = null): CallResult => ({
  kind: 'failure',
  hurried: false,
  failure: new CallFailure(kind, `it was ${kind}`, { retryAfterMs }),
})
type Behaviour = CallResult | ((input: CallInput) => CallResult | Promise<CallResult>)

const expiring = (ms: number) => {
  const until = performance.now() + ms
  return () => performance.now() < until
}

/** A gate that lets everybody through but who is named here. */
function gate(closed: Record<string, Exclude<Admission, { kind: 'go' }>> = {}) {
  const asked: AdmitRequest[] = []
  const reports: unknown[] = []
  const released: string[] = []
  return {
    asked,
    reports,
    released,
    async admit(request: AdmitRequest): Promise<Admission> {
      asked.push(request)
      const { provider } = request.candidate
      return (
        closed[provider] ?? {
          kind: 'go',
          pass: {
            start: expiring(1000),
            slowAfterMs: 30_000,
            slow: () => undefined,
            report: outcome => void reports.push([provider, outcome]),
            release: () => void released.push(provider),
          },
        }
      )
    },
  }
}
const refusal = (more: Partial<Refusal> = {}): Refusal => ({
  scope: 'global',
  span: 'day',
  limit_usd: '1',
  exceeded: true,
  resets_ms: 10_000,
  ...more,
})

/** One task, one worker, and providers that do what the test says, call by call. */
function harness(
  behaviours: Behaviour[] = [],
  options: { task?: Partial<RunnableTask>; deps?: Partial<RunDeps> } = {},
) {
  const task: RunnableTask = {
    id: 'task',
    kind: 'generate',
    queue: 'default',
    priority: 'normal',
    api_key_id: 'key',
    cache_key: null,
    batch_id: null,
    input: { prompt: 'Hi' },
    options: {},
    epoch: 3,
    attempts: 0,
    tries: 0,
    left_ms: 60_000,
    waited_ms: 250,
    traceparent: null,
    dead_ends: [],
    ...options.task,
  }
  const calls: string[] = []
  const log: unknown[] = []
  const claims: ClaimRequest[] = []
  const nexts: NextRequest[] = []
  const requeues: Omit<Requeue, 'id' | 'epoch'>[] = []
  const endings: Ending[] = []
  /** Every attempt that was begun, with what came of it. */
  const attempts = new Map<number, string | null>()
  const settle = (settlement: Settlement | null) => settlement && attempts.set(settlement.n, settlement.outcome)
  const held = createHeld()
  const admission = gate()
  const deps: RunDeps = {
    workerId: 'worker',
    jobs: new Map([['generate', generate]]),
    load: async () => task,
    health: { note: () => undefined },
    available: async () => NAMES.map(name => ({ name, defaultModel: 'a-model' })),
    admission,
    scores: () => new Map(),
    prices: { worstCaseOf: () => '0.01', priceVersionOf: () => 'v' },
    recall: {
      look: async () => ({ kind: 'lead' }),
      stale: async () => null,
      remember: async () => undefined,
      landed: () => undefined,
    },
    precomputed: async () => null,
    claims: {
      async claim(request, controller) {
        claims.push(request)
        attempts.set(request.n, null)
        held.add({ id: request.id, epoch: request.epoch, controller })
        return { kind: 'claimed' }
      },
      async next(request) {
        nexts.push(request)
        settle(request.settlement)
        attempts.set(request.n, null)
        return { kind: 'claimed' }
      },
    },
    check,
    async call(input) {
      calls.push(input.candidate.provider)
      const behaviour = behaviours[calls.length - 1] ?? failure('server_error')
      return typeof behaviour === 'function' ? behaviour(input) : behaviour
    },
    settle: {
      attempt: ({ n, outcome, usage, error }: AttemptEnd) => ({
        n,
        outcome,
        usage,
        costUsd: null,
        ...(error && { error }),
      }),
      async end(ending) {
        endings.push(ending)
        settle(ending.settlement)
        return { ended: true }
      },
      async requeue(_, request) {
        requeues.push(request)
        settle(request.settlement)
        return task.epoch + 1
      },
    },
    metrics: {
      stageSeconds: new Histogram({ name: 'stages', help: 'stages', labelNames: ['stage', 'kind'], registers: [] }),
    } as never,
    tools: { runQuery: null },
    held,
    bulk: createBulk(1_000_000),
    draining: () => false,
    maxAttempts: 5,
    backoff: { baseMs: 500, maxMs: 30_000 },
    logger,
    ...options.deps,
  }
  const run = createRunner(deps)
  return {
    run: () => run({ id: task.id, epoch: task.epoch }),
    task,
    calls,
    log,
    claims,
    nexts,
    requeues,
    endings,
    attempts,
    held,
    admission,
    deps,
  }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  // Whatever the outcome, a run leaves nothing that could stop a later one.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

describe('a run', () => {
  it('ends the task with the first answer', async () => {
    const { run, calls, endings, claims, held } = harness([answer('Hello')])
    expect(await run()).toBe('done')
    expect(calls).toEqual(['anthropic'])
    expect(claims).toMatchObject([
      {
        ...{ id: 'task', epoch: 3, n: 1 },
        need: { provider: 'anthropic', model: 'a-model', kind: 'generate', apiKeyId: 'key', usd: '0.01' },
      },
    ])
    expect(endings).toEqual([
      expect.objectContaining({
        id: 'task',
        epoch: 3,
        from: 'running',
        workerId: 'worker',
        status: 'succeeded',
        result: { text: 'Hello' },
        source: 'ai',
        quality: 'high',
        provider: 'anthropic',
        model: 'the-model',
        settlement: expect.objectContaining({ n: 1, outcome: 'succeeded' }),
      }),
    ])
    expect(held.size).toBe(0)
  })

  it('ends the task by the kind’s rules before anything is spent, if they are to be first', async () => {
    const look = vi.fn()
    const { recall } = harness().deps
    const { run, calls, claims, endings } = harness([answer('Hello')], {
      task: { options: { engine: 'rules' } },
      deps: { recall: { ...recall, look } },
    })
    expect(await run()).toBe('done')
    expect([calls, claims, look.mock.calls]).toEqual([[], [], []])
    expect(endings).toMatchObject([
      { from: 'queued', workerId: null, status: 'succeeded', source: 'rules', quality: 'low', settlement: null },
    ])
  })

  it('asks a model where the rules that were to be first have no answer', async () => {
    const { run, calls, endings } = harness([answer('{}')], {
      task: { options: { engine: 'rules' }, input: { prompt: 'Hi', schema: {} } },
    })
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(endings).toMatchObject([{ status: 'succeeded', source: 'ai', result: {} }])
  })

  it('does nothing when the dispatch has been overtaken', async () => {
    const { run, calls, claims } = harness([], { deps: { load: async () => null } })
    expect(await run()).toBe('done')
    expect([calls, claims]).toEqual([[], []])
  })

  it('fails over in the operator’s order, under one claim, each failure settled with the next start', async () => {
    const { run, calls, claims, nexts, endings, attempts } = harness([
      failure('server_error'),
      failure('timeout'),
      answer('Hello'),
    ])
    await run()
    expect(calls).toEqual(NAMES)
    expect(claims).toHaveLength(1)
    expect(nexts.map(({ n, tries, settlement }) => [n, tries, settlement?.n, settlement?.outcome])).toEqual([
      [2, 1, 1, 'server_error'],
      [3, 2, 2, 'timeout'],
    ])
    expect(endings[0]).toMatchObject({ status: 'succeeded', provider: 'ollama', settlement: { n: 3 } })
    expect([...attempts.values()]).toEqual(['server_error', 'timeout', 'succeeded'])
  })

  it('goes on to the next provider when one cannot serve the task at all', async () => {
    const { run, calls, endings } = harness([failure('auth'), failure('unknown_model'), answer('Hello')])
    await run()
    expect(calls).toEqual(NAMES)
    expect(endings[0]!.status).toBe('succeeded')
  })

  it('does not wait when none of them will ever serve it', async () => {
    const { run, requeues, endings } = harness([failure('auth'), failure('no_balance'), failure('unknown_model')])
    await run()
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({ source: 'rules', settlement: { n: 3, outcome: 'unknown_model' } })
  })

  it('does not ask again a provider that said that it can never serve this task', async () => {
    const { run, calls } = harness([answer('Hello')], {
      task: { dead_ends: ['anthropic/a-model', 'openai/another-model'] },
    })
    await run()
    expect(calls).toEqual(['openai'])
  })

  it('ends the task when the task itself is at fault: nobody else is asked, no template answers', async () => {
    const { run, calls, endings, requeues } = harness([failure('invalid_request')], {
      task: { options: { fallback: 'rules' } },
    })
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(endings).toEqual([
      expect.objectContaining({
        status: 'failed',
        error: { code: 'provider_rejected', message: 'anthropic: it was invalid_request' },
        settlement: expect.objectContaining({ outcome: 'invalid_request' }),
      }),
    ])
    expect(requeues).toEqual([])
  })

  it('waits for whoever may answer soonest when nobody did', async () => {
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

  it('waits a random while after a failure without Retry-After, at most as long as the back-off allows', async () => {
    const { run, requeues } = harness([failure('auth'), failure('connection'), failure('auth')])
    await run()
    expect(requeues[0]!.delayMs).toBeGreaterThanOrEqual(0)
    expect(requeues[0]!.delayMs).toBeLessThanOrEqual(1000)
  })

  it('claims nothing for a task that nobody lets through, and comes back when the first would', async () => {
    const closed = (ms: number) => ({ kind: 'closed', ms, bookable: false }) as const
    const admission = gate({ anthropic: closed(9000), openai: closed(7000), ollama: closed(8000) })
    const { run, calls, claims, requeues } = harness([], { deps: { admission } })
    await run()
    expect([calls, claims]).toEqual([[], []])
    expect(requeues).toEqual([{ delayMs: 7000, tries: 0, settlement: null, claimed: false }])
    expect(admission.asked.map(one => one.maxWaitMs)).toEqual([0, 0, 0])
  })

  it('goes to who is free before it keeps a place with who is not', async () => {
    const admission = gate({ anthropic: { kind: 'closed', ms: 900, bookable: true } })
    const { run, calls } = harness([answer('Hello')], { deps: { admission } })
    await run()
    expect(calls).toEqual(['openai'])
  })

  it('keeps a place where it is soonest when all are busy', async () => {
    const late = (ms: number) => ({ kind: 'closed', ms, bookable: true }) as const
    const admission = gate({ anthropic: late(9000), openai: late(7000), ollama: late(8000) })
    const { run, requeues } = harness([], { deps: { admission } })
    await run()
    expect(admission.asked.map(one => one.candidate.provider)).toEqual([...NAMES, 'openai'])
    expect(admission.asked.at(-1)!.maxWaitMs).toBeGreaterThan(50_000)
    expect(admission.asked.at(-1)!.wake).toBe('default task-4')
    expect(requeues[0]!.delayMs).toBe(7000)
  })

  it('keeps a place at once with the only one that it may ask', async () => {
    const admission = gate({ openai: { kind: 'wait', ms: 3000 } })
    const { run, requeues } = harness([], { deps: { admission }, task: { options: { provider: 'openai' } } })
    await run()
    expect(admission.asked).toHaveLength(1)
    expect(admission.asked[0]!.maxWaitMs).toBeGreaterThan(50_000)
    expect(requeues[0]!.delayMs).toBe(3000)
  })

  it('tells the gate what came of every call, and gives back what it did not use', async () => {
    const { run, admission, deps } = harness([failure('rate_limited', 4000), answer('Hello')])
    await run()
    expect(admission.reports).toMatchObject([
      ['anthropic', { result: 'neutral', retryAfterMs: 4000 }],
      ['openai', { result: 'success', retryAfterMs: null }],
    ])
    expect(admission.released).toEqual([])
    deps.claims.claim = async () => ({ kind: 'lost' })
    await run()
    expect(admission.released).toEqual(['anthropic'])
  })

  it.each(CALL_FAILURES)('has the gate pause for what a %s asks only if it is about rate or load', async kind => {
    const { run, admission } = harness([failure(kind, 9000), answer('Hello')])
    await run()
    const pauses = kind === 'rate_limited' || kind === 'overloaded'
    expect(admission.reports[0]).toMatchObject(['anthropic', { retryAfterMs: pauses ? 9000 : null }])
  })

  it.each([0, 100])('backs off all the same when a provider asks for less: %i ms', async retryAfterMs => {
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.5)
    const { run, requeues, admission } = harness(Array(3).fill(failure('rate_limited', retryAfterMs)))
    await run()
    random.mockRestore()
    // Half of 500, 1000 and 2000 ms after the first, second and third failure.
    expect(requeues).toMatchObject([{ delayMs: 250, tries: 3 }])
    expect(admission.reports).toMatchObject(NAMES.map(name => [name, { retryAfterMs: retryAfterMs || 1000 }]))
  })

  it('has the gate pause for nothing that an overloaded provider did not ask for', async () => {
    const { run, admission } = harness([failure('overloaded', 0), failure('overloaded'), answer('Hello')])
    await run()
    expect(admission.reports.slice(0, 2)).toMatchObject([
      ['anthropic', { retryAfterMs: null }],
      ['openai', { retryAfterMs: null }],
    ])
  })

  it('has an answer that broke off charged and booked at the most it can have cost, whatever the failure', async () => {
    const broken = new CallFailure('server_error', 'it broke off', { begun: true })
    const { run, admission, deps } = harness([
      { kind: 'failure', hurried: false, failure: broken },
      failure('overloaded'),
      answer('Hello'),
    ])
    const attempt = vi.spyOn(deps.settle, 'attempt')
    await run()
    expect(attempt.mock.calls).toMatchObject([
      [{ outcome: 'server_error', usage: null, billed: true, begun: true }],
      [{ outcome: 'overloaded', usage: null, billed: true, begun: false }],
      [{ outcome: 'succeeded' }],
    ])
    expect(admission.reports[0]).toMatchObject(['anthropic', { inputTokens: null, outputTokens: null }])
  })

  it('gives the permit back when the claim, or the next attempt, is what Postgres refuses', async () => {
    const refused = () => Promise.reject(new Error('refused'))
    const first = harness()
    first.deps.claims.claim = refused
    await first.run()
    expect([first.admission.released, first.admission.reports]).toEqual([['anthropic'], []])
    expect(first.endings).toMatchObject([{ status: 'failed', error: { code: 'internal' }, settlement: null }])
    const second = harness([failure('server_error')])
    second.deps.claims.next = refused
    await second.run()
    expect([second.calls, second.admission.released]).toEqual([['anthropic'], ['openai']])
    expect(second.endings).toMatchObject([{ status: 'failed', settlement: { n: 1, outcome: 'server_error' } }])
  })

  it('does not blame a provider that the deadline left no time', async () => {
    const hurried: CallResult = { kind: 'failure', hurried: true, failure: new CallFailure('timeout', 'too late') }
    const slow: Behaviour = input => {
      input.slow()
      return hurried
    }
    const { run, admission } = harness([hurried, slow, answer('Hello')])
    await run()
    expect(admission.reports).toMatchObject([
      ['anthropic', { result: 'neutral' }],
      ['openai', { result: 'failure' }],
      ['ollama', { result: 'success' }],
    ])
  })

  it('does not make a call with a permit that has expired while it was claimed', async () => {
    const { run, calls, deps, admission, attempts, requeues } = harness([], {
      task: { options: { provider: 'openai' } },
    })
    const { claim } = deps.claims
    deps.claims.claim = async (...args) => {
      await vi.advanceTimersByTimeAsync(1500)
      return await claim(...args)
    }
    await run()
    expect(calls).toEqual([])
    expect(admission.released).toEqual(['openai'])
    expect([...attempts.values()]).toEqual(['aborted'])
    expect(requeues).toMatchObject([{ tries: 0, claimed: true }])
    expect(requeues[0]!.delayMs).toBeGreaterThanOrEqual(500)
  })

  describe('when a budget does not let it pass', () => {
    /** A run in which the budget refuses these providers. */
    function broke(by: Partial<Record<string, Refusal>>, options: Record<string, unknown> = {}) {
      const made = harness([answer('Hello')], { task: { options } })
      const { claim } = made.deps.claims
      made.deps.claims.claim = async (request, controller) => {
        const refused = by[request.need.provider]
        return refused ? { kind: 'refused', by: refused } : await claim(request, controller)
      }
      return made
    }
    const everybody = (one: Refusal) => Object.fromEntries(NAMES.map(name => [name, one]))

    it('asks the next candidate, and gives the permit back', async () => {
      const { run, calls, admission } = broke({ anthropic: refusal() })
      await run()
      expect(calls).toEqual(['openai'])
      expect(admission.released).toEqual(['anthropic'])
    })

    it('makes do without a model, unless the task says otherwise', async () => {
      const { run, endings } = broke(everybody(refusal()))
      await run()
      expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'rules', from: 'queued' })
    })

    it('fails and says which budget, if the task is to fail or nothing else may answer', async () => {
      for (const options of [{ on_budget: 'fail' }, { fallback: 'none', on_budget: 'fallback' }]) {
        const { run, endings } = broke(everybody(refusal()), options)
        await run()
        expect(endings).toMatchObject([{ status: 'failed', error: { code: 'budget_exceeded' } }])
        expect(endings[0]!.error!.message).toContain('global per day of $1')
      }
    })

    it('waits for the next window, if the task is to wait and will live to see it', async () => {
      const { run, requeues } = broke(everybody(refusal()), { on_budget: 'wait' })
      await run()
      expect(requeues).toHaveLength(1)
      expect(requeues[0]!.delayMs).toBeGreaterThanOrEqual(10_000)
      expect(requeues[0]!.delayMs).toBeLessThan(11_000)
      for (const resets_ms of [null, 70_000]) {
        const late = broke(everybody(refusal({ resets_ms })), { on_budget: 'wait' })
        await late.run()
        expect(late.requeues).toEqual([])
        expect(late.endings).toMatchObject([{ status: 'failed', error: { code: 'budget_exceeded' } }])
      }
    })

    it('waits a moment while only the reservations of others stand in its way', async () => {
      const { run, requeues } = broke(everybody(refusal({ exceeded: false })), { on_budget: 'fail' })
      await run()
      expect(requeues).toHaveLength(1)
      expect(requeues[0]!.delayMs).toBeLessThanOrEqual(1200)
    })
  })

  it('asks nobody whose price is not known, and says so', async () => {
    const prices = { worstCaseOf: () => null, priceVersionOf: () => null }
    const { run, calls, endings } = harness([], { deps: { prices }, task: { options: { fallback: 'none' } } })
    await run()
    expect(calls).toEqual([])
    expect(endings).toMatchObject([{ status: 'failed', error: { code: 'model_price_unknown' } }])
  })

  describe('without a model', () => {
    const entry = { result: { text: 'old' }, provider: 'openai', model: 'm', storedAt: 0, freshUntil: 0 }
    const remembered: RunDeps['recall'] = {
      look: async () => ({ kind: 'lead' }),
      stale: async () => ({ entry, fresh: false }),
      remember: async () => undefined,
      landed: () => undefined,
    }
    const written = async () => ({ result: { text: 'written' } })

    it('a remembered answer comes first, then a precomputed one, then the rules', async () => {
      const first = harness([], { task: { tries: 4 }, deps: { recall: remembered, precomputed: written } })
      await first.run()
      expect(first.endings[0]).toMatchObject({ source: 'cache', quality: 'medium', result: { text: 'old' } })
      const second = harness([], { task: { tries: 4 }, deps: { precomputed: written } })
      await second.run()
      expect(second.endings[0]).toMatchObject({ source: 'precomputed', quality: 'medium', result: { text: 'written' } })
    })

    it('nothing is remembered for a task that wants none of it', async () => {
      const { run, endings } = harness([], {
        task: { tries: 4, options: { cache: 'off' } },
        deps: { recall: remembered },
      })
      await run()
      expect(endings[0]).toMatchObject({ source: 'rules' })
    })
  })

  it('ends with what is remembered, or follows who asks the same, without a call', async () => {
    const entry = { result: { text: 'known' }, provider: 'openai', model: 'm', storedAt: 0, freshUntil: 1 }
    const base = harness().deps.recall
    const hit = harness([], { deps: { recall: { ...base, look: async () => ({ kind: 'hit', entry }) } } })
    await hit.run()
    expect(hit.endings).toMatchObject([{ source: 'cache', quality: 'high', from: 'queued', result: { text: 'known' } }])
    const follower = harness([], { deps: { recall: { ...base, look: async () => ({ kind: 'follows' }) } } })
    await follower.run()
    expect([hit.calls, follower.calls, follower.endings, follower.requeues]).toEqual([[], [], [], []])
  })

  it('asks nobody again, and fails the task, when a check says that no answer would do', async () => {
    const check = (): Checked => ({ ok: false, reason: 'nowhere to run it', fatal: 'query_unavailable' })
    const kind = { ...generate, check } as JobKind
    const { run, calls, endings, requeues } = harness([answer('Hello')], {
      deps: { jobs: new Map([['generate', kind]]) },
    })
    await run()
    expect([calls.length, requeues]).toEqual([1, []])
    expect(endings).toMatchObject([
      {
        status: 'failed',
        error: { code: 'query_unavailable', message: 'nowhere to run it' },
        settlement: { outcome: 'rejected' },
      },
    ])
  })

  it('remembers an answer before the task ends', async () => {
    const order: string[] = []
    const { run, deps } = harness([answer('Hello')])
    deps.recall.remember = async (_, __, { result }) => void order.push(`remember ${JSON.stringify(result)}`)
    deps.recall.landed = () => void order.push('landed')
    const { end } = deps.settle
    deps.settle.end = ending => {
      order.push('end')
      return end(ending)
    }
    await run()
    expect(order).toEqual(['remember {"text":"Hello"}', 'end', 'landed'])
  })

  it('counts calls for the whole task, not per provider or run', async () => {
    const { run, calls, endings, requeues } = harness([], {
      task: { tries: 3, attempts: 7, options: { fallback: 'none' } },
    })
    await run()
    expect(calls).toEqual(['anthropic', 'openai'])
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({
      status: 'failed',
      error: { code: 'provider_failed' },
      settlement: { n: 9, outcome: 'server_error' },
    })
  })

  it('makes do with the rules when no model answered in all attempts, and says so', async () => {
    const { run, endings } = harness([], { task: { tries: 4 } })
    await run()
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low' })
    expect(endings[0]!.provider).toBeUndefined()
  })

  it.each(['none', 'cache'])('fails when the client wants fallback “%s” and no model answered', async fallback => {
    const { run, endings } = harness([], { task: { tries: 4, options: { fallback } } })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
  })

  it('fails when no rule can honour the schema', async () => {
    const { run, endings } = harness([], { task: { tries: 4, input: { prompt: 'Hi', schema: {} } } })
    await run()
    expect(endings[0]!.status).toBe('failed')
  })

  it('answers by the rules at once when no provider is configured, without a claim', async () => {
    const { run, endings, claims } = harness([], { deps: { available: async () => [] } })
    await run()
    expect(claims).toEqual([])
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'rules', from: 'queued', workerId: null })
  })

  it('says that none is configured when a template will not do', async () => {
    const { run, endings } = harness([], {
      deps: { available: async () => [] },
      task: { options: { fallback: 'none' } },
    })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'no_provider' } })
  })

  /** Of its input: only an object with a number is an answer. */
  const STRICT = { input: { prompt: 'Hi', schema: { required: ['n'] } } }

  it('repairs: whoever gave an answer that fails the check is asked again, with the reason', async () => {
    const asked: unknown[] = []
    const mended = ({ prompt }: CallInput) => {
      asked.push((prompt as Prompt).messages)
      return answer('{"n":1}')
    }
    const { run, endings, nexts, claims, calls } = harness([answer('not JSON'), mended], { task: STRICT })
    await run()
    expect(calls).toEqual(['anthropic', 'anthropic'])
    expect(asked[0]).toEqual([
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'not JSON' },
      { role: 'user', content: expect.stringContaining('the answer is not JSON') },
    ])
    // It is reserved for what that may cost.
    expect(nexts[0]!.need.inputTokens).toBeGreaterThan(claims[0]!.need.inputTokens)
    expect(nexts[0]!.settlement).toMatchObject({ outcome: 'rejected', error: { message: 'the answer is not JSON' } })
    expect(endings[0]).toMatchObject({ status: 'succeeded', result: { n: 1 } })
  })

  it('repairs twice at most, and asks the next provider afresh', async () => {
    const asked: string[] = []
    const wrong = ({ prompt }: CallInput) => {
      asked.push((prompt as Prompt).messages.at(-1)!.content.slice(0, 4))
      return answer('no')
    }
    const { run, calls } = harness(Array(5).fill(wrong), { task: STRICT })
    await run()
    expect(calls).toEqual(['anthropic', 'anthropic', 'anthropic', 'openai', 'ollama'])
    expect(asked).toEqual(['Hi', 'That', 'That', 'Hi', 'Hi'])
  })

  describe('of a guard that judges what was said last', () => {
    const GUARD = 'llama-guard3:8b'
    const moderation = (behaviours: Behaviour[], models = [GUARD]) =>
      harness(behaviours, {
        task: { kind: 'moderate', input: { text: 'What a lovely photograph.' } },
        deps: {
          jobs: new Map([['moderate', moderate]]),
          available: async () => models.map((defaultModel, n) => ({ name: NAMES[n]!, defaultModel })),
        },
      })

    it('is not asked to mend an answer: it would judge our own words', async () => {
      const prompts: unknown[] = []
      const safe = ({ prompt }: CallInput) => {
        prompts.push(prompt)
        return answer('safe')
      }
      const { run, calls, endings } = moderation([answer('I cannot say.'), safe], [GUARD, GUARD])
      await run()
      expect(calls).toEqual(['anthropic', 'openai'])
      expect(prompts).toEqual([{ messages: [{ role: 'user', content: 'What a lovely photograph.' }] }])
      expect(endings[0]).toMatchObject({ status: 'succeeded', result: { decision: 'allow' } })
    })

    it('is asked afresh, under a new dispatch, where there is nobody else', async () => {
      const { run, calls, requeues, endings } = moderation([answer('I cannot say.'), answer('safe')])
      await run()
      expect(calls).toEqual(['anthropic'])
      expect(requeues).toMatchObject([{ delayMs: 0, tries: 1 }])
      expect(endings).toEqual([])
    })

    it('is believed when it names a hazard that nobody knows, whatever it would say next', async () => {
      const { run, calls, endings } = moderation([answer('unsafe\nS99'), answer('safe')])
      await run()
      expect(calls).toEqual(['anthropic'])
      expect(endings[0]).toMatchObject({ status: 'succeeded', result: { safe: false, decision: 'review' } })
    })
  })

  it.each([
    ['a refusal', 'refusal'],
    ['an answer that was cut off', 'max_tokens'],
  ] as const)('does not ask for %s again in other words', async (_, stop) => {
    const cut: CallResult = { kind: 'answer', answer: { text: '{"n', stop, usage: null, limits: null, model: 'm' } }
    const { run, calls } = harness([cut, answer('{"n":1}')], { task: STRICT })
    await run()
    expect(calls).toEqual(['anthropic', 'openai'])
  })

  it('does not ask again who refused: when nobody is left, the task ends', async () => {
    const refused = answer('I would rather not.')
    if (refused.kind === 'answer' && 'text' in refused.answer) refused.answer.stop = 'refusal'
    const { run, calls, requeues, endings } = harness([refused, refused, refused, answer('{"n":1}')], { task: STRICT })
    await run()
    expect(calls).toEqual(['anthropic', 'openai', 'ollama'])
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({
      status: 'failed',
      error: { code: 'invalid_output', message: 'the model refused' },
    })
  })

  describe('for vectors', () => {
    const vectors = (...vectors: number[][]): CallResult => ({
      kind: 'answer',
      answer: { vectors, usage: null, limits: null, model: 'm-embed' },
    })
    const embedding = (behaviours: Behaviour[], task: Partial<RunnableTask> = {}) => {
      const asked: CallInput['prompt'][] = []
      const noted = behaviours.map(one => (input: CallInput) => {
        asked.push(input.prompt)
        return typeof one === 'function' ? one(input) : one
      })
      const bulk = createBulk(1000)
      const run = harness(noted, {
        task: { kind: 'embed', input: { texts: ['a', 'b'], encoding: 'float' }, ...task },
        deps: {
          bulk,
          jobs: new Map([['embed', embed]]),
          available: async () => [
            { name: 'anthropic', defaultModel: 'claude' },
            { name: 'openai', defaultModel: 'gpt', embeds: { model: 'one-embed' } },
            { name: 'ollama', defaultModel: 'llama', embeds: { model: 'other-embed' } },
          ],
        },
      })
      return { ...run, asked, bulk }
    }
    const GOOD = vectors([1, 2], [3, 4])

    it('asks the first that makes them, and reserves nothing for an output', async () => {
      const { run, calls, claims, endings, asked } = embedding([GOOD])
      await run()
      expect(calls).toEqual(['openai'])
      expect(asked).toEqual([{ texts: ['a', 'b'] }])
      expect(claims[0]!.need).toMatchObject({ model: 'one-embed', outputTokens: 0 })
      const result = { dimensions: 2, vectors: [[1, 2], [3, 4]] } // biome-ignore format: a matrix
      expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'ai', model: 'm-embed', result })
    })

    it('asks again as it asked before when they are of no use, and not another model', async () => {
      const { run, calls, requeues, attempts } = embedding([vectors([1, 2]), GOOD])
      await run()
      expect(calls).toEqual(['openai'])
      expect(attempts.get(1)).toBe('rejected')
      expect(requeues).toMatchObject([{ delayMs: 0, tries: 1 }])
    })

    it('asks no other model either when its own is down, or not there', async () => {
      const down = embedding([failure('server_error'), GOOD])
      await down.run()
      expect(down.calls).toEqual(['openai'])
      expect(down.requeues).toHaveLength(1)
      const gone = embedding([failure('unknown_model'), GOOD])
      await gone.run()
      expect(gone.calls).toEqual(['openai'])
      expect(gone.endings[0]).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
    })

    it('gives up in the end', async () => {
      const { run, endings } = embedding([vectors([1, Number.POSITIVE_INFINITY], [3, 4])], { tries: 4 })
      await run()
      expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'invalid_output' } })
    })

    it('waits while others of this process are as much as it can hold, without a permit or a claim', async () => {
      const { run, calls, requeues, claims, admission, bulk } = embedding([GOOD, GOOD])
      const gone = bulk.take(900)!
      await run()
      expect([calls, claims, admission.asked]).toEqual([[], [], []])
      expect(requeues).toMatchObject([{ claimed: false, tries: 0, settlement: null }])
      gone()
      await run()
      expect(calls).toEqual(['openai'])
      // It is gone when the task has ended.
      expect(bulk.take(1000)).not.toBeNull()
    })

    it('calls nobody who does not make them', async () => {
      for (const options of [{ model: 'gpt' }, { provider: 'anthropic' as const }, { model: 'anthropic/some-embed' }]) {
        const { run, calls, endings } = embedding([GOOD], { options })
        await run()
        expect(calls).toEqual([])
        expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'no_provider' } })
      }
    })
  })

  it('takes the rules’ word when they are sure, before anything is spent', async () => {
    const jobs = new Map([['generate', { ...generate, settled: () => ({ text: 'sure' }) }]])
    const { run, endings, calls, claims } = harness([], { deps: { jobs } })
    await run()
    expect([calls, claims]).toEqual([[], []])
    expect(endings[0]).toMatchObject({
      status: 'succeeded',
      source: 'rules',
      quality: 'high',
      result: { text: 'sure' },
    })
  })

  it('makes do with nothing else where no answer has a meaning of its own', async () => {
    const jobs = new Map([['generate', { ...generate, noVerdict: { decision: 'review' } }]])
    const { run, endings } = harness(Array(5).fill(failure('auth')), {
      deps: { jobs, precomputed: async () => ({ result: { text: 'fine' } }) },
      task: { options: { fallback: 'rules' } },
    })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
  })

  it('leaves a task to a newer worker whose version of the prompt this one does not have', async () => {
    const { run, requeues, calls } = harness([answer('a')], { task: { options: { prompt_version: '9' } } })
    await run()
    expect(calls).toEqual([])
    expect(requeues).toHaveLength(1)
  })

  it('fails with the check’s reason when no answer passes it', async () => {
    const { run, endings } = harness([answer('no')], {
      task: { tries: 4, input: { prompt: 'Hi', schema: { required: ['n'] } } },
    })
    await run()
    expect(endings[0]).toMatchObject({
      status: 'failed',
      error: { code: 'invalid_output', message: 'the answer is not JSON' },
    })
  })

  it('does not wait past the deadline', async () => {
    const { run, requeues, endings } = harness(Array(3).fill(failure('rate_limited', 60_000)), {
      task: { left_ms: 60_000 },
    })
    await run()
    expect(requeues).toEqual([])
    expect(endings[0]!.source).toBe('rules')
  })

  /** A call that lasts until it is stopped. */
  const untilStopped = ({ signal }: CallInput) =>
    new Promise<CallResult>(resolve => signal.addEventListener('abort', () => resolve(failure('aborted'))))

  it('expires the task when its deadline passes in a call', async () => {
    const { run, endings } = harness([untilStopped], { task: { left_ms: 20 } })
    const running = run()
    expect(await running).toBe('done')
    expect(endings).toEqual([
      expect.objectContaining({
        status: 'expired',
        error: expect.objectContaining({ code: 'deadline_exceeded' }),
        settlement: expect.objectContaining({ outcome: 'aborted' }),
      }),
    ])
  })

  it('tells a call how much time is left', async () => {
    let leftMs: number | undefined
    const { run } = harness([
      input => {
        leftMs = input.leftMs
        return answer('Hello')
      },
    ])
    await run()
    expect(leftMs).toBe(59_000)
  })

  it.each(['lost', 'drain', 'no_beat'] as const)(
    'settles a call that was stopped (%s) and gives the task back without spending an attempt',
    async reason => {
      const { run, held, requeues, endings, calls } = harness([untilStopped], { task: { tries: 2 } })
      const running = run()
      await vi.advanceTimersByTimeAsync(0)
      held.stop(reason, { id: 'task' })
      await running
      expect(calls).toHaveLength(1)
      expect(endings).toEqual([])
      expect(requeues).toEqual([
        { delayMs: 0, tries: 2, settlement: expect.objectContaining({ n: 1, outcome: 'aborted' }), claimed: true },
      ])
    },
  )

  it('keeps an answer that arrived although its call was to be stopped', async () => {
    const { run, held, endings } = harness([
      () => {
        held.stop('drain')
        return answer('Hello')
      },
    ])
    await run()
    expect(endings[0]!.status).toBe('succeeded')
  })

  it('gives a job that has not begun back when the process is stopping', async () => {
    const { run, claims } = harness([], { deps: { draining: () => true } })
    expect(await run()).toBe('give_back')
    expect(claims).toEqual([])
  })

  it('gives it back too when the stop comes while it looks for providers, but finishes what it has begun', async () => {
    let draining = false
    const stopping = { draining: () => draining }
    const early = harness([], {
      deps: {
        ...stopping,
        available: async () => {
          draining = true
          return NAMES.map(name => ({ name, defaultModel: 'a-model' }))
        },
      },
    })
    expect(await early.run()).toBe('give_back')

    draining = false
    const late = harness(
      [
        () => {
          draining = true
          return failure('server_error')
        },
        answer('Hello'),
      ],
      { deps: stopping },
    )
    expect(await late.run()).toBe('done')
    expect(late.endings[0]!.status).toBe('succeeded')
  })

  it('calls nobody when the claim is not to be had, or is lost before the next attempt', async () => {
    const never = harness([], {
      deps: { claims: { claim: async () => ({ kind: 'lost' }), next: async () => ({ kind: 'lost' }) } },
    })
    expect(await never.run()).toBe('done')
    expect([never.calls, never.endings, never.requeues]).toEqual([[], [], []])

    const { deps, ...late } = harness([failure('server_error')])
    deps.claims.next = async () => ({ kind: 'lost' })
    expect(await late.run()).toBe('done')
    expect([late.calls, late.endings, late.requeues]).toEqual([['anthropic'], [], []])
  })

  it('gives back a task of a kind that it does not know: a newer worker may', async () => {
    const { run, requeues, endings } = harness([], { task: { kind: 'newer', tries: 2 } })
    await run()
    expect(endings).toEqual([])
    expect(requeues).toEqual([{ delayMs: expect.any(Number), tries: 2, settlement: null, claimed: false }])
  })

  it('ends the task without its settlement when the settlement is what Postgres refuses', async () => {
    const endings: Ending[] = []
    const { run } = harness([answer('Hello')], {
      deps: {
        settle: {
          attempt: ({ n, outcome }: AttemptEnd) => ({ n, outcome, usage: null, costUsd: 'not a number' }),
          async end(ending) {
            if (ending.settlement?.costUsd === 'not a number') throw new Error('refused')
            endings.push(ending)
            return { ended: true }
          },
          requeue: async () => null,
        },
      },
    })
    await run()
    expect(endings).toMatchObject([
      { status: 'failed', error: { code: 'internal' }, settlement: { n: 1, outcome: 'unknown', costUsd: null } },
    ])
  })

  it('fails the task, and leaves no attempt open, when a stage breaks in a way that nobody foresaw', async () => {
    const { run, endings, attempts } = harness([
      failure('server_error'),
      () => {
        throw new TypeError('a bug')
      },
    ])
    expect(await run()).toBe('done')
    expect(endings).toEqual([
      expect.objectContaining({
        status: 'failed',
        error: { code: 'internal', message: 'Something went wrong in the worker.' },
      }),
    ])
    expect([...attempts.values()]).toEqual(['server_error', 'unknown'])
  })

  it('keeps what a call cost when its result cannot be stored', async () => {
    const { run, endings, attempts, deps } = harness([answer('Hello')])
    const { end } = deps.settle
    deps.settle.end = ending =>
      ending.status === 'succeeded' ? Promise.reject(new Error('cannot be stored')) : end(ending)
    await run()
    expect(endings).toEqual([expect.objectContaining({ status: 'failed' })])
    expect([...attempts.values()]).toEqual(['succeeded'])
  })

  it('makes one call when the queue delivers the same dispatch twice at once', async () => {
    const { run, calls } = harness([answer('Hello')])
    expect(await Promise.all([run(), run()])).toEqual(['done', 'done'])
    expect(calls).toEqual(['anthropic'])
  })

  it('does take the next dispatch of a task while the one before is still on its way out', async () => {
    const { deps, calls, task } = harness([failure('server_error'), answer('Hello')])
    const run = createRunner({ ...deps, available: async () => [{ name: 'anthropic', defaultModel: 'm' }] })
    const requeue = deps.settle.requeue
    deps.settle.requeue = async (...args) => {
      await requeue(...args)
      Object.assign(task, { epoch: 4, attempts: 1, tries: 1 })
      await run({ id: 'task', epoch: 4 })
      return 4
    }
    await run({ id: 'task', epoch: 3 })
    expect(calls).toHaveLength(2)
  })
})

describe('a line of a batch', () => {
  const line = { batch_id: 'batch' }
  const one = { available: async () => [{ name: 'anthropic', defaultModel: 'a-model' }] }

  it('is run as every task is, in the lane of batches and at its batch’s expense', async () => {
    const { run, claims, admission } = harness([answer('Hello')], { task: line, deps: one })
    expect(await run()).toBe('done')
    expect(claims[0]!.need).toMatchObject({ batchId: 'batch', apiKeyId: 'key' })
    expect(admission.asked).toMatchObject([{ lane: 'batch', maxWaitMs: 150 }])
    const single = harness([answer('Hello')], { deps: one })
    await single.run()
    expect(single.admission.asked).toMatchObject([{ lane: 'normal', maxWaitMs: 59_000 }])
    expect(single.claims[0]!.need.batchId).toBeNull()
  })

  it('goes back to its chunk when it must wait, which tells a failed call from a closed gate', async () => {
    const failing = harness([failure('server_error', 700)], { task: line, deps: one })
    expect(await failing.run()).toEqual({ kind: 'again', epoch: 4, ms: 700, called: true })
    const admission = gate({ anthropic: { kind: 'closed', ms: 300, bookable: false } })
    const closed = harness([], { task: line, deps: { ...one, admission } })
    expect(await closed.run()).toEqual({ kind: 'again', epoch: 4, ms: 300, called: false })
    expect((await harness([failure('server_error')], { deps: one }).run()) as unknown).toBe('done')
  })

  it('whose claim was lost is nobody’s to run again', async () => {
    const { run, deps } = harness([failure('server_error')], { task: line, deps: one })
    deps.settle.requeue = async () => null
    expect(await run()).toBe('done')
  })

  it('is told by its batch’s budget that it is over', async () => {
    const refused = async () =>
      ({ kind: 'refused', by: refusal({ scope: 'batch:b', span: 'total', resets_ms: null }) }) as const
    const { run, endings } = harness([], {
      task: { ...line, options: { fallback: 'none', on_budget: 'wait' } },
      deps: { ...one, claims: { claim: refused, next: refused } },
    })
    await run()
    const message = 'The budget batch per total of $1 does not let this task pass.'
    expect(endings).toMatchObject([{ status: 'failed', error: { code: 'budget_exceeded', message } }])
  })
})

it('whatever the providers do, a run comes to one outcome, within the cap, with every attempt settled', async () => {
  const called = fc.oneof(
    fc.constantFrom('Hello', '', '{"n":1}').map(answer),
    fc
      .tuple(
        fc.constantFrom(...CALL_FAILURES.filter(kind => kind !== 'aborted')),
        fc.option(fc.constantFrom(0, 1000, 90_000)),
      )
      .map(([kind, retryAfterMs]) => failure(kind, retryAfterMs)),
    fc.constant<Behaviour>(() => {
      throw new Error('a bug')
    }),
  )
  const task = fc.record({
    tries: fc.nat({ max: 5 }),
    attempts: fc.nat({ max: 9 }),
    input: fc.constantFrom({ prompt: 'Hi' }, { prompt: 'Hi', schema: { required: ['n'] } }),
    options: fc.constantFrom({}, { fallback: 'none' }, { provider: 'openai' }, { model: 'anthropic/x' }),
    dead_ends: fc.subarray(NAMES.map(name => `${name}/a-model`)),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(called, { maxLength: 4 }), task, async (behaviours, task) => {
      const { run, calls, requeues, endings, attempts, held } = harness(behaviours, { task })
      expect(await run()).toBe('done')
      expect(endings.length + requeues.length).toBe(1)
      expect(calls.length).toBeLessThanOrEqual(Math.max(0, 5 - task.tries))
      // Nobody is asked twice in one run but to mend an answer, and that twice at most.
      const repairs = calls.map((name, i) => calls.indexOf(name) < i)
      for (const [i] of repairs.entries().filter(([, repair]) => repair)) {
        expect(calls[i]).toBe(calls[i - 1])
        expect(behaviours[i - 1]).toMatchObject({ kind: 'answer' })
      }
      expect(repairs.filter(Boolean).length).toBeLessThanOrEqual(2)
      expect([...attempts.keys()]).toEqual(calls.map((_, index) => task.attempts + index + 1))
      expect([...attempts.values()]).not.toContain(null)
      expect(held.size).toBe(0)
      for (const { delayMs, tries } of requeues) {
        expect(delayMs).toBeLessThan(60_000)
        expect(tries).toBe(task.tries + calls.length)
        expect(tries).toBeLessThan(5)
      }
    }),
    { numRuns: 500 },
  )
})

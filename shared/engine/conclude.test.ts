import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { TaskOutcome } from '#shared/db/tasks/finish.ts'
import type { CheckOutcome, JobKind } from '#shared/jobs/define.ts'
import { generate } from '#shared/jobs/generate.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { answer, failure, harness, STRICT } from '#shared/testing/run-harness.ts'
import type { RunDeps } from './run.ts'
import type { EndedAttempt } from './settle.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  // Whatever the outcome, a run leaves no timer that could stop a later one.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

describe('a task without an answer', () => {
  describe('the order of fallbacks', () => {
    const entry = { result: { text: 'old' }, provider: 'openai', model: 'm', storedAt: 0, freshUntil: 0 }
    const remembered: RunDeps['coalescing'] = {
      lookUp: async () => ({ kind: 'lead' }),
      findStale: async () => ({ entry, fresh: false }),
      remember: async () => undefined,
      releaseLead: () => undefined,
    }
    const written = async () => ({ result: { text: 'written' } })

    it('is a cached answer, a precomputed one, the rules', async () => {
      const first = harness([], { task: { tries: 4 }, deps: { coalescing: remembered, precomputed: written } })
      await first.run()
      expect(first.endings[0]).toMatchObject({ source: 'cache', quality: 'medium', result: { text: 'old' } })
      const second = harness([], { task: { tries: 4 }, deps: { precomputed: written } })
      await second.run()
      expect(second.endings[0]).toMatchObject({ source: 'precomputed', quality: 'medium', result: { text: 'written' } })
    })

    it('excludes the cache with cache=off', async () => {
      const { run, endings } = harness([], {
        task: { tries: 4, options: { cache: 'off' } },
        deps: { coalescing: remembered },
      })
      await run()
      expect(endings[0]).toMatchObject({ source: 'rules' })
    })
  })

  it('answers by the rules after the last attempt, with source and quality', async () => {
    const { run, endings } = harness([], { task: { tries: 4 } })
    await run()
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low' })
    expect(endings[0]!.provider).toBeUndefined()
  })

  it.each(['none', 'cache'])('fails with fallback=%s and no answer', async fallback => {
    const { run, endings } = harness([], { task: { tries: 4, options: { fallback } } })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
  })

  it('fails when no rule can honour the schema', async () => {
    const { run, endings } = harness([], { task: { tries: 4, input: { prompt: 'Hi', schema: {} } } })
    await run()
    expect(endings[0]!.status).toBe('failed')
  })

  it('answers by the rules without a claim when no provider is configured', async () => {
    const { run, endings, claims } = harness([], { deps: { available: async () => [] } })
    await run()
    expect(claims).toEqual([])
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'rules', from: 'queued', workerId: null })
  })

  it('fails without a fallback for a kind that reports a missing verdict', async () => {
    const jobs = new Map([['generate', { ...generate, resultWithoutVerdict: { decision: 'review' } }]])
    const { run, endings } = harness(Array(5).fill(failure('auth')), {
      deps: { jobs, precomputed: async () => ({ result: { text: 'fine' } }) },
      task: { options: { fallback: 'rules' } },
    })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
  })
})

describe('a conclusion', () => {
  it('fails the task without another call after a fatal check', async () => {
    const check = (): CheckOutcome => ({ ok: false, reason: 'nowhere to run it', fatal: 'query_unavailable' })
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

  it('caches an answer before the task ends, and releases the lead after', async () => {
    const order: string[] = []
    const { run, deps } = harness([answer('Hello')])
    deps.coalescing.remember = async (_, __, { result }) => void order.push(`remember ${JSON.stringify(result)}`)
    deps.coalescing.releaseLead = () => void order.push('landed')
    const { finish } = deps.settle
    deps.settle.finish = ending => {
      order.push('end')
      return finish(ending)
    }
    await run()
    expect(order).toEqual(['remember {"text":"Hello"}', 'end', 'landed'])
  })
})

describe('the demo provider', () => {
  const demo = () => Promise.resolve([{ name: 'demo', defaultModel: 'echo', kinds: ['generate'] }])

  it('answers with source demo and low quality, and is not cached', async () => {
    const remembered: unknown[] = []
    const { run, endings } = harness([answer('[demo] echo')], {
      deps: {
        available: demo,
        coalescing: {
          lookUp: async () => ({ kind: 'lead' }),
          findStale: async () => null,
          remember: async (...what) => void remembered.push(what),
          releaseLead: () => undefined,
        },
      },
      task: { cache_key: Buffer.from('key') },
    })
    await run()
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'demo', quality: 'low', provider: 'demo' })
    expect(remembered).toEqual([])
  })

  it.each([
    ['a verdict', { kind: 'moderate', input: { text: 'Hi' } }, 'no_provider'],
    ['an object', { input: { prompt: 'Hi', schema: {} } }, 'no_provider'],
    ['a model', { options: { model: 'llama3' } }, 'no_provider'],
  ])('is not called for %s', async (_, task, code) => {
    const jobs = new Map<string, JobKind>([
      ['generate', generate],
      ['moderate', moderate],
    ])
    const { run, endings, calls } = harness([answer('[demo] echo')], { deps: { available: demo, jobs }, task })
    await run()
    expect(calls).toEqual([])
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code } })
  })
})

describe('refusals of the model', () => {
  it.each([
    ['refusal', 'I would rather not.'],
    ['content_filter', ''],
  ] as const)('ends a text task with a %s as its answer, which is not cached', async (reason, text) => {
    const { run, calls, endings, deps } = harness([answer(text, reason)])
    let remembered = 0
    deps.coalescing.remember = async () => void remembered++
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(endings).toMatchObject([
      {
        status: 'succeeded',
        result: { text },
        finishReason: reason,
        settlement: { outcome: 'succeeded', finishReason: reason },
      },
    ])
    expect(remembered).toBe(0)
  })

  it('fails a structured task with model_refused, without another call', async () => {
    const { run, calls, requeues, endings } = harness([answer('I would rather not.', 'refusal')], { task: STRICT })
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({
      status: 'failed',
      finishReason: 'refusal',
      error: { code: 'model_refused', message: 'The model refused to answer: I would rather not.' },
      settlement: { outcome: 'rejected', finishReason: 'refusal' },
    })
  })
})

describe('an unexpected error', () => {
  it('ends the task without its settlement when Postgres refuses the settlement', async () => {
    const endings: TaskOutcome[] = []
    const { run } = harness([answer('Hello')], {
      deps: {
        settle: {
          priceAttempt: ({ n, outcome }: EndedAttempt) => ({ n, outcome, usage: null, costUsd: 'not a number' }),
          async finish(ending) {
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

  it('fails the task and leaves no attempt open when a stage throws', async () => {
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

  it('keeps the cost of a call whose result cannot be stored', async () => {
    const { run, endings, attempts, deps } = harness([answer('Hello')])
    const { finish } = deps.settle
    deps.settle.finish = ending =>
      ending.status === 'succeeded' ? Promise.reject(new Error('cannot be stored')) : finish(ending)
    await run()
    expect(endings).toEqual([expect.objectContaining({ status: 'failed' })])
    expect([...attempts.values()]).toEqual(['succeeded'])
  })
})

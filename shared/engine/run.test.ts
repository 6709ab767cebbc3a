import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import { embed } from '#shared/jobs/embed.ts'
import { generate } from '#shared/jobs/generate.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { CALL_FAILURES } from '#shared/providers/define.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import { messageText } from '#shared/requests/text.ts'
import { answer, type Behaviour, failure, gate, harness, NAMES, refusal, STRICT } from '#shared/testing/run-harness.ts'
import { createAnswerMemory } from './answer-memory.ts'
import type { CallInput, CallResult } from './call.ts'
import { createRunner } from './runner.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  // Whatever the outcome, a run leaves no timer that could stop a later one.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

describe('a run', () => {
  it('ends the task with the first answer', async () => {
    const { run, calls, endings, claims, claimRegistry } = harness([answer('Hello')])
    expect(await run()).toBe('done')
    expect(calls).toEqual(['anthropic'])
    expect(claims).toMatchObject([
      {
        ...{ id: 'task', epoch: 3, n: 1 },
        reservation: { provider: 'anthropic', model: 'a-model', kind: 'generate', apiKeyId: 'key', usd: '0.01' },
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
    expect(claimRegistry.size).toBe(0)
  })

  it('does nothing when a later dispatch has replaced this one', async () => {
    const { run, calls, claims } = harness([], { deps: { load: async () => null } })
    expect(await run()).toBe('done')
    expect([calls, claims]).toEqual([[], []])
  })

  it('requeues a task whose prompt version it does not have: a newer worker may run it', async () => {
    const { run, requeues, calls } = harness([answer('a')], { task: { options: { prompt_version: '9' } } })
    await run()
    expect(calls).toEqual([])
    expect(requeues).toHaveLength(1)
  })

  it('returns a job that has not started when the process is stopping', async () => {
    const { run, claims } = harness([], { deps: { draining: () => true } })
    expect(await run()).toBe('give_back')
    expect(claims).toEqual([])
  })

  it('returns its job when the process stops before the claim, and finishes after the claim', async () => {
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

  it('makes no call without a claim, and none after the claim is lost', async () => {
    const lost = async () => ({ kind: 'lost' }) as const
    const never = harness([], {
      deps: { claims: { claim: lost, claimNew: lost, next: lost } },
    })
    expect(await never.run()).toBe('done')
    expect([never.calls, never.endings, never.requeues]).toEqual([[], [], []])

    const { deps, ...late } = harness([failure('server_error')])
    deps.claims.next = async () => ({ kind: 'lost' })
    expect(await late.run()).toBe('done')
    expect([late.calls, late.endings, late.requeues]).toEqual([['anthropic'], [], []])
  })

  it('requeues a task of an unknown kind: a newer worker may run it', async () => {
    const { run, requeues, endings } = harness([], { task: { kind: 'newer', tries: 2 } })
    await run()
    expect(endings).toEqual([])
    expect(requeues).toEqual([{ delayMs: expect.any(Number), tries: 2, settlement: null, claimed: false }])
  })

  it('makes one call when the queue delivers a dispatch twice at once', async () => {
    const { run, calls } = harness([answer('Hello')])
    expect(await Promise.all([run(), run()])).toEqual(['done', 'done'])
    expect(calls).toEqual(['anthropic'])
  })

  it('accepts the next dispatch of a task before the current one has returned', async () => {
    const { deps, calls, task } = harness([failure('server_error'), answer('Hello')])
    const { run } = createRunner({ ...deps, available: async () => [{ name: 'anthropic', defaultModel: 'm' }] })
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

describe('a run without a call', () => {
  it('answers by the kind’s rules when the rules engine is selected', async () => {
    const lookUp = vi.fn()
    const { coalescing } = harness().deps
    const { run, calls, claims, endings } = harness([answer('Hello')], {
      task: { options: { engine: 'rules' } },
      deps: { coalescing: { ...coalescing, lookUp } },
    })
    expect(await run()).toBe('done')
    expect([calls, claims, lookUp.mock.calls]).toEqual([[], [], []])
    expect(endings).toMatchObject([
      { from: 'queued', workerId: null, status: 'succeeded', source: 'rules', quality: 'low', settlement: null },
    ])
  })

  it('calls a model when the selected rules engine has no answer', async () => {
    const { run, calls, endings } = harness([answer('{}')], {
      task: { options: { engine: 'rules' }, input: { prompt: 'Hi', schema: {} } },
    })
    await run()
    expect(calls).toEqual(['anthropic'])
    expect(endings).toMatchObject([{ status: 'succeeded', source: 'ai', result: {} }])
  })

  it('ends with a cached answer or follows an identical task, without a call', async () => {
    const entry = { result: { text: 'known' }, provider: 'openai', model: 'm', storedAt: 0, freshUntil: 1 }
    const base = harness().deps.coalescing
    const hit = harness([], { deps: { coalescing: { ...base, lookUp: async () => ({ kind: 'hit', entry }) } } })
    await hit.run()
    expect(hit.endings).toMatchObject([{ source: 'cache', quality: 'high', from: 'queued', result: { text: 'known' } }])
    const follower = harness([], { deps: { coalescing: { ...base, lookUp: async () => ({ kind: 'follows' }) } } })
    await follower.run()
    expect([hit.calls, follower.calls, follower.endings, follower.requeues]).toEqual([[], [], [], []])
  })

  it('ends with the rules’ answer when they are certain, before anything is spent', async () => {
    const jobs = new Map([['generate', { ...generate, answerByRules: () => ({ text: 'sure' }) }]])
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
})

describe('failover', () => {
  it('tries the providers in order under one claim and settles each failure with the next attempt', async () => {
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

  it('tries the next provider after a permanent failure of one', async () => {
    const { run, calls, endings } = harness([failure('auth'), failure('unknown_model'), answer('Hello')])
    await run()
    expect(calls).toEqual(NAMES)
    expect(endings[0]!.status).toBe('succeeded')
  })

  it('does not wait when every provider failed permanently', async () => {
    const { run, requeues, endings } = harness([failure('auth'), failure('no_balance'), failure('unknown_model')])
    await run()
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({ source: 'rules', settlement: { n: 3, outcome: 'unknown_model' } })
  })

  it('skips a target that failed permanently in an earlier run', async () => {
    const { run, calls } = harness([answer('Hello')], {
      task: { dead_ends: ['anthropic/a-model', 'openai/another-model'] },
    })
    await run()
    expect(calls).toEqual(['openai'])
  })

  it('fails the task on an invalid request, without failover or fallback', async () => {
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

  it('counts failed attempts for the whole task, not per provider or run', async () => {
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
})

describe('busy targets', () => {
  it('tries a free target before it books a slot at a busy one', async () => {
    const admission = gate({ anthropic: { kind: 'closed', ms: 900, bookable: true } })
    const { run, calls } = harness([answer('Hello')], { deps: { admission } })
    await run()
    expect(calls).toEqual(['openai'])
  })

  it('wait for the earliest slot when all are busy', async () => {
    const late = (ms: number) => ({ kind: 'closed', ms, bookable: true }) as const
    const admission = gate({ anthropic: late(9000), openai: late(7000), ollama: late(8000) })
    const { run, requeues } = harness([], { deps: { admission } })
    await run()
    expect(admission.asked.map(one => one.target.provider)).toEqual([...NAMES, 'openai'])
    expect(admission.asked.at(-1)!.maxWaitMs).toBeGreaterThan(50_000)
    expect(admission.asked.at(-1)!.wake).toBe('default task-4')
    expect(requeues[0]!.delayMs).toBe(7000)
  })

  it('are booked at once if there is only one', async () => {
    const admission = gate({ openai: { kind: 'wait', ms: 3000 } })
    const { run, requeues } = harness([], { deps: { admission }, task: { options: { provider: 'openai' } } })
    await run()
    expect(admission.asked).toHaveLength(1)
    expect(admission.asked[0]!.maxWaitMs).toBeGreaterThan(50_000)
    expect(requeues[0]!.delayMs).toBe(3000)
  })
})

describe('repair', () => {
  it('sends a rejected answer back to the same target with the reason', async () => {
    const asked: unknown[] = []
    const mended = ({ prompt }: CallInput) => {
      asked.push((prompt as ChatRequest).messages)
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
    // The reservation covers the longer prompt.
    expect(nexts[0]!.reservation.inputTokens).toBeGreaterThan(claims[0]!.reservation.inputTokens)
    expect(nexts[0]!.settlement).toMatchObject({ outcome: 'rejected', error: { message: 'the answer is not JSON' } })
    expect(endings[0]).toMatchObject({ status: 'succeeded', result: { n: 1 } })
  })

  it('stops after two repairs, and the next provider gets the original prompt', async () => {
    const asked: string[] = []
    const wrong =
      (text: string) =>
      ({ prompt }: CallInput) => {
        asked.push(messageText((prompt as ChatRequest).messages.at(-1)!).slice(0, 4))
        return answer(text)
      }
    const { run, calls } = harness(['no', '{}', '['.repeat(1000) + ']'.repeat(1000), 'no', 'no'].map(wrong), {
      task: STRICT,
    })
    await run()
    expect(calls).toEqual(['anthropic', 'anthropic', 'anthropic', 'openai', 'ollama'])
    expect(asked).toEqual(['Hi', 'That', 'That', 'Hi', 'Hi'])
  })

  describe('a guard model, which judges the last message', () => {
    const GUARD = 'llama-guard3:8b'
    const moderation = (behaviours: Behaviour[], models = [GUARD]) =>
      harness(behaviours, {
        task: { kind: 'moderate', input: { text: 'What a lovely photograph.' } },
        deps: {
          jobs: new Map([['moderate', moderate]]),
          available: async () => models.map((defaultModel, n) => ({ name: NAMES[n]!, defaultModel })),
        },
      })

    it('is not asked to repair an answer: it would judge our own request', async () => {
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

    it('gets the original prompt again under a new dispatch when there is no other target', async () => {
      const { run, calls, requeues, endings } = moderation([answer('I cannot say.'), answer('safe')])
      await run()
      expect(calls).toEqual(['anthropic'])
      expect(requeues).toMatchObject([{ delayMs: 0, tries: 1 }])
      expect(endings).toEqual([])
    })

    it('yields review for an unknown hazard, without a second call', async () => {
      const { run, calls, endings } = moderation([answer('unsafe\nS99'), answer('safe')])
      await run()
      expect(calls).toEqual(['anthropic'])
      expect(endings[0]).toMatchObject({ status: 'succeeded', result: { safe: false, decision: 'review' } })
    })
  })

  it('stops when the same check fails twice the same way, and tries the next provider', async () => {
    const { run, calls } = harness([answer('no'), answer('no'), answer('{"n":1}')], { task: STRICT })
    await run()
    expect(calls).toEqual(['anthropic', 'anthropic', 'openai'])
  })

  it('fails the task when the same check fails twice the same way and there is no other target', async () => {
    const { run, calls, endings, requeues } = harness(Array(5).fill(answer('no')), {
      task: { ...STRICT, options: { provider: 'openai' } },
    })
    await run()
    expect(calls).toEqual(['openai', 'openai'])
    expect(requeues).toEqual([])
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'invalid_output' } })
  })

  it('counts the rejected answers of earlier runs', async () => {
    const rejected = { model: 'a-model', reason: 'the answer is not JSON', finishReason: 'stop' as const, maxTokens: 9 }
    const { run, calls } = harness([answer('no'), answer('{"n":1}')], {
      task: {
        ...STRICT,
        attempts: 3,
        tries: 3,
        rejected: ['anthropic', 'anthropic', 'openai'].map(provider => ({ ...rejected, provider })),
      },
    })
    await run()
    expect(calls).toEqual(['openai', 'ollama'])
  })
})

describe('embeddings', () => {
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
    const answerMemory = createAnswerMemory(1000)
    const run = harness(noted, {
      task: { kind: 'embed', input: { texts: ['a', 'b'], encoding: 'float' }, ...task },
      deps: {
        answerMemory,
        jobs: new Map([['embed', embed]]),
        available: async () => [
          { name: 'anthropic', defaultModel: 'claude' },
          { name: 'openai', defaultModel: 'gpt', embeds: { model: 'one-embed' } },
          { name: 'ollama', defaultModel: 'llama', embeds: { model: 'other-embed' } },
        ],
      },
    })
    return { ...run, asked, answerMemory }
  }
  const GOOD = vectors([1, 2], [3, 4])

  it('call the first provider that makes them and reserve no output tokens', async () => {
    const { run, calls, claims, endings, asked } = embedding([GOOD])
    await run()
    expect(calls).toEqual(['openai'])
    expect(asked).toEqual([{ texts: ['a', 'b'] }])
    expect(claims[0]!.reservation).toMatchObject({ model: 'one-embed', outputTokens: 0 })
    const result = { dimensions: 2, vectors: [[1, 2], [3, 4]] } // biome-ignore format: a matrix
    expect(endings[0]).toMatchObject({ status: 'succeeded', source: 'ai', model: 'm-embed', result })
  })

  it('repeat the same request after an invalid answer, with the same model', async () => {
    const { run, calls, requeues, attempts } = embedding([vectors([1, 2]), GOOD])
    await run()
    expect(calls).toEqual(['openai'])
    expect(attempts.get(1)).toBe('rejected')
    expect(requeues).toMatchObject([{ delayMs: 0, tries: 1 }])
  })

  it('use no other model when theirs is down or unknown', async () => {
    const down = embedding([failure('server_error'), GOOD])
    await down.run()
    expect(down.calls).toEqual(['openai'])
    expect(down.requeues).toHaveLength(1)
    const gone = embedding([failure('unknown_model'), GOOD])
    await gone.run()
    expect(gone.calls).toEqual(['openai'])
    expect(gone.endings[0]).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
  })

  it('fail with invalid_output after the last attempt', async () => {
    const { run, endings } = embedding([vectors([1, Number.POSITIVE_INFINITY], [3, 4])], { tries: 4 })
    await run()
    expect(endings[0]).toMatchObject({ status: 'failed', error: { code: 'invalid_output' } })
  })

  it('wait without a permit or a claim while the process holds as many numbers as it can', async () => {
    const { run, calls, requeues, claims, admission, answerMemory } = embedding([GOOD, GOOD])
    const gone = answerMemory.reserve(900)!
    await run()
    expect([calls, claims, admission.asked]).toEqual([[], [], []])
    expect(requeues).toMatchObject([{ claimed: false, tries: 0, settlement: null }])
    gone()
    await run()
    expect(calls).toEqual(['openai'])
    // Released when the task has ended.
    expect(answerMemory.reserve(1000)).not.toBeNull()
  })

  it('call no provider that does not make them', async () => {
    for (const [options, code] of [
      [{ model: 'gpt' }, 'unknown_model'],
      [{ provider: 'anthropic' }, 'no_provider'],
      [{ model: 'anthropic/some-embed' }, 'unknown_model'],
    ] as const) {
      const { run, calls, endings } = embedding([GOOD], { options })
      await run()
      expect(calls).toEqual([])
      expect(endings[0]).toMatchObject({ status: 'failed', error: { code } })
    }
  })
})

describe('a line of a batch', () => {
  const line = { batch_id: 'batch' }
  const one = { available: async () => [{ name: 'anthropic', defaultModel: 'a-model' }] }

  it('runs in the batch lane and is charged to its batch', async () => {
    const { run, claims, admission } = harness([answer('Hello')], { task: line, deps: one })
    expect(await run()).toBe('done')
    expect(claims[0]!.reservation).toMatchObject({ batchId: 'batch', apiKeyId: 'key' })
    expect(admission.asked).toMatchObject([{ lane: 'batch', maxWaitMs: 150 }])
    const single = harness([answer('Hello')], { deps: one })
    await single.run()
    expect(single.admission.asked).toMatchObject([{ lane: 'normal', maxWaitMs: 59_000 }])
    expect(single.claims[0]!.reservation.batchId).toBeNull()
  })

  it('returns to its chunk when it must wait, which can tell a failed call from a closed gate', async () => {
    const failing = harness([failure('server_error', 700)], { task: line, deps: one })
    expect(await failing.run()).toEqual({ kind: 'again', epoch: 4, ms: 700, called: true })
    const admission = gate({ anthropic: { kind: 'closed', ms: 300, bookable: false } })
    const closed = harness([], { task: line, deps: { ...one, admission } })
    expect(await closed.run()).toEqual({ kind: 'again', epoch: 4, ms: 300, called: false })
    expect((await harness([failure('server_error')], { deps: one }).run()) as unknown).toBe('done')
  })

  it('is not run again after its claim was lost', async () => {
    const { run, deps } = harness([failure('server_error')], { task: line, deps: one })
    deps.settle.requeue = async () => null
    expect(await run()).toBe('done')
  })

  it('fails with budget_exceeded at the total budget of its batch', async () => {
    const refused = async () =>
      ({ kind: 'refused', by: refusal({ scope: 'batch:b', window: 'total', resets_ms: null }) }) as const
    const { run, endings } = harness([], {
      task: { ...line, options: { fallback: 'none', on_budget: 'wait' } },
      deps: { ...one, claims: { claim: refused, claimNew: refused, next: refused } },
    })
    await run()
    const message = 'The budget batch per total of $1 does not let this task pass.'
    expect(endings).toMatchObject([{ status: 'failed', error: { code: 'budget_exceeded', message } }])
  })
})

it('any run ends with one outcome, within the attempt limit, and with every attempt settled', async () => {
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
      const { run, calls, requeues, endings, attempts, claimRegistry } = harness(behaviours, { task })
      expect(await run()).toBe('done')
      expect(endings.length + requeues.length).toBe(1)
      expect(calls.length).toBeLessThanOrEqual(Math.max(0, 5 - task.tries))
      // A provider is called again in one run only to repair an answer, at most twice.
      const repairs = calls.map((name, i) => calls.indexOf(name) < i)
      for (const [i] of repairs.entries().filter(([, repair]) => repair)) {
        expect(calls[i]).toBe(calls[i - 1])
        expect(behaviours[i - 1]).toMatchObject({ kind: 'answer' })
      }
      expect(repairs.filter(Boolean).length).toBeLessThanOrEqual(2)
      expect([...attempts.keys()]).toEqual(calls.map((_, index) => task.attempts + index + 1))
      expect([...attempts.values()]).not.toContain(null)
      expect(claimRegistry.size).toBe(0)
      for (const { delayMs, tries } of requeues) {
        expect(delayMs).toBeLessThan(60_000)
        expect(tries).toBe(task.tries + calls.length)
        expect(tries).toBeLessThan(5)
      }
    }),
    { numRuns: 500 },
  )
})

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Logger } from '#shared/process/logger.ts'
import { CALL_FAILURES, CallFailure } from '#shared/providers/define.ts'
import { answer, type Behaviour, failure, harness } from '#shared/testing/run-harness.ts'
import type { CallInput, CallResult } from './call.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  // Whatever the outcome, a run leaves no timer that could stop a later one.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

describe('the permit of an attempt', () => {
  it('is reported after a call and released without one', async () => {
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

  it.each(CALL_FAILURES)('reports the Retry-After of a %s as a pause only for rate limits and overload', async kind => {
    const { run, admission } = harness([failure(kind, 9000), answer('Hello')])
    await run()
    const pauses = kind === 'rate_limited' || kind === 'overloaded'
    expect(admission.reports[0]).toMatchObject(['anthropic', { retryAfterMs: pauses ? 9000 : null }])
  })

  it('reports no pause for an overloaded provider without Retry-After', async () => {
    const { run, admission } = harness([failure('overloaded', 0), failure('overloaded'), answer('Hello')])
    await run()
    expect(admission.reports.slice(0, 2)).toMatchObject([
      ['anthropic', { retryAfterMs: null }],
      ['openai', { retryAfterMs: null }],
    ])
  })

  it('keeps its full reservation when an answer breaks off after it has begun', async () => {
    const broken = new CallFailure('server_error', 'it broke off', { begun: true })
    const { run, admission, deps } = harness([
      { kind: 'failure', hurried: false, failure: broken },
      failure('overloaded'),
      answer('Hello'),
    ])
    const attempt = vi.spyOn(deps.settle, 'priceAttempt')
    await run()
    expect(attempt.mock.calls).toMatchObject([
      [{ outcome: 'server_error', usage: null, billed: true, begun: true }],
      [{ outcome: 'overloaded', usage: null, billed: true, begun: false }],
      [{ outcome: 'succeeded' }],
    ])
    expect(admission.reports[0]).toMatchObject(['anthropic', { inputTokens: null, outputTokens: null }])
  })

  it('is released when Postgres rejects the claim or the next attempt', async () => {
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

  it('reports a call that the deadline hurried as neutral, unless the call was slow', async () => {
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

  it('is released without a call when it expires during the claim', async () => {
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
})

it('a failed call is logged as an error if a bug in the adapter caused it, and as debug otherwise', async () => {
  const logged: [string, unknown][] = []
  const logger = {
    debug: (_: object, message: string) => void logged.push(['debug', message]),
    error: ({ err }: { err: Error }, message: string) => void logged.push([`error ${err.name}`, message]),
  } as unknown as Logger
  const badResponse = (cause: Error): CallResult => ({
    kind: 'failure',
    hurried: false,
    failure: new CallFailure('bad_response', cause.message, { cause }),
  })
  const causes = [
    new ReferenceError('usage is not defined'),
    new TypeError('client.create is not a function'),
    new TypeError("Cannot read properties of undefined (reading 'message')"),
  ]
  await harness(causes.map(badResponse), { deps: { logger } }).run()
  expect(logged).toEqual([
    ['error ReferenceError', 'a provider adapter has a bug'],
    ['error TypeError', 'a provider adapter has a bug'],
    ['debug', 'provider call failed'],
  ])
})

describe('a call that is stopped', () => {
  /** A call that lasts until it is stopped. */
  const untilStopped = ({ signal }: CallInput) =>
    new Promise<CallResult>(resolve => signal.addEventListener('abort', () => resolve(failure('aborted'))))

  it('expires the task at its deadline', async () => {
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

  it('knows how much time is left', async () => {
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
    'is settled after %s, and the task is requeued without counting a failed attempt',
    async reason => {
      const { run, claimRegistry, requeues, endings, calls } = harness([untilStopped], { task: { tries: 2 } })
      const running = run()
      await vi.advanceTimersByTimeAsync(0)
      claimRegistry.stop(reason, { id: 'task' })
      await running
      expect(calls).toHaveLength(1)
      expect(endings).toEqual([])
      expect(requeues).toEqual([
        { delayMs: 0, tries: 2, settlement: expect.objectContaining({ n: 1, outcome: 'aborted' }), claimed: true },
      ])
    },
  )

  it('is not lost if the answer arrives all the same', async () => {
    const { run, claimRegistry, endings } = harness([
      () => {
        claimRegistry.stop('drain')
        return answer('Hello')
      },
    ])
    await run()
    expect(endings[0]!.status).toBe('succeeded')
  })
})

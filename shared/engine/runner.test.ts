import { describe, expect, it } from 'vitest'
import { DatabaseUnavailable } from '#shared/db/pool.ts'
import type { TaskEnd } from '#shared/engine/claim-session.ts'
import type { StreamEvent } from '#shared/requests/answer.ts'
import { newTask } from '#shared/testing/postgres.ts'
import { answer, type Behaviour, failure, gate, harness } from '#shared/testing/run-harness.ts'
import type { CallInput } from './call.ts'

/** Runs a task that is not stored, for a client that may leave. */
function live(behaviours: Behaviour[], deps: Parameters<typeof harness>[1] = {}) {
  const run = harness(behaviours, deps)
  const client = new AbortController()
  const events: StreamEvent[] = []
  const ends: [TaskEnd, unknown][] = []
  const task = newTask({ options: { fallback: 'none' } })
  return {
    ...run,
    id: task.id,
    client,
    events,
    ends,
    start: () =>
      run.runNew(task, {
        signal: client.signal,
        onEvent: event => void events.push(event),
        onEnd: (end, answer) => void ends.push([end, answer]),
      }),
  }
}

const piece: StreamEvent = { type: 'text', part: 0, delta: 'Hel' }

describe('a task that is not stored', () => {
  it('is stored by its first claim, and its client gets the answer', async () => {
    const { start, ends, events, claims, stored } = live([
      (input: CallInput) => {
        input.onEvent?.(piece)
        return answer('Hello')
      },
    ])
    await start()
    expect(claims).toHaveLength(1)
    expect(stored).toEqual([])
    expect(events).toEqual([piece])
    expect(ends).toMatchObject([[{ status: 'succeeded', result: { text: 'Hello' } }, { model: 'the-model' }]])
  })

  it('goes to another provider while its client has received nothing', async () => {
    const { start, calls, ends } = live([failure('server_error'), answer('Hello')])
    await start()
    expect(calls).toEqual(['anthropic', 'openai'])
    expect(ends).toMatchObject([[{ status: 'succeeded' }, {}]])
  })

  it('fails if the call fails after its client has received a part', async () => {
    const { start, calls, ends } = live([{ ...failure('connection'), streamed: true } as Behaviour, answer('Hello')])
    await start()
    expect(calls).toEqual(['anthropic'])
    expect(ends).toMatchObject([[{ status: 'failed', error: { code: 'provider_failed' } }, null]])
  })

  it('is stored and requeued if no provider is free, and has not ended', async () => {
    const closed = { kind: 'closed', ms: 5000, bookable: false } as const
    const admission = gate({ anthropic: closed, openai: closed, ollama: closed })
    const { start, id, calls, stored, requeues, ends } = live([], { deps: { admission } })
    await start()
    expect(stored.map(one => one.id)).toEqual([id])
    expect(requeues).toMatchObject([{ delayMs: 5000, claimed: false }])
    expect([calls, ends]).toEqual([[], []])
  })

  it('is cancelled and settled when its client leaves during the call', async () => {
    const { start, client, ends, endings } = live([
      ({ signal }: CallInput) =>
        new Promise(resolve => {
          signal.addEventListener('abort', () => resolve(failure('aborted')))
          client.abort()
        }),
    ])
    await start()
    expect(ends).toMatchObject([[{ status: 'cancelled', error: { code: 'cancelled' } }, null]])
    expect(endings).toMatchObject([{ status: 'cancelled', settlement: { n: 1, outcome: 'aborted' } }])
  })

  it('makes no call and is discarded if Postgres does not confirm the claim', async () => {
    const unavailable = async () => {
      throw new DatabaseUnavailable('gone')
    }
    const claims = { claim: unavailable, claimNew: unavailable, next: unavailable }
    const { start, calls, endings, stored } = live([answer('Hello')], { deps: { claims } })
    await expect(start()).rejects.toThrow('gone')
    expect([calls, stored]).toEqual([[], []])
    expect(endings).toMatchObject([
      {
        status: 'failed',
        from: 'running',
        error: { code: 'unavailable' },
        settlement: { n: 1, outcome: 'aborted', costUsd: '0' },
      },
    ])
  })
})

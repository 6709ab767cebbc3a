import { describe, expect, it } from 'vitest'
import type { Cache, LookUp } from '#shared/cache.ts'
import type { RunnableTask } from '#shared/db/tasks.ts'
import { createRecall } from './recall.ts'

const entry = { result: 1, provider: 'p', model: 'm', storedAt: 0, freshUntil: 1 }

/** A cache that answers as the test says, one look after the other, and a Postgres in which these tasks are live. */
function harness(looks: LookUp[], live: string[] = []) {
  const asked: unknown[] = []
  const counted: unknown[] = []
  const followed: string[] = []
  const recall = createRecall({
    cache: {
      lookUp: async (_, __, options) => {
        asked.push(options)
        return looks.shift()!
      },
      get: async () => {
        const found = looks.shift()
        return found?.kind === 'hit' ? { kind: 'fresh', entry: found.entry } : null
      },
    } as Partial<Cache> as Cache,
    follow: async ({ leaderId }) => {
      followed.push(leaderId)
      return live.includes(leaderId)
    },
    metrics: { cache: { inc: (labels: { outcome: string }) => counted.push(labels.outcome) } } as never,
  })
  const look = (more: Partial<RunnableTask> = {}) =>
    recall.look({
      ...{
        id: 'task',
        epoch: 2,
        kind: 'generate',
        priority: 'normal',
        options: {},
        left_ms: 50_000,
        waited_ms: 0,
        traceparent: null,
        cache_key: Buffer.from('key'),
      },
      ...more,
    } as RunnableTask)
  return { look, asked, counted, followed }
}

describe('recalling', () => {
  it('gives a remembered answer', async () => {
    const { look, counted } = harness([{ kind: 'hit', entry }])
    expect(await look()).toEqual({ kind: 'hit', entry })
    expect(counted).toEqual(['hit'])
  })

  it('gives a line what is remembered, and lets it neither lead nor follow', async () => {
    const { look, asked, counted } = harness(
      [
        { kind: 'hit', entry },
        { kind: 'follow', leaderId: 'first' },
      ],
      ['first'],
    )
    expect(await look({ batch_id: 'batch' })).toEqual({ kind: 'hit', entry })
    expect(await look({ batch_id: 'batch' })).toEqual({ kind: 'lead' })
    expect(await look({ batch_id: 'batch', options: { cache: 'refresh' } })).toEqual({ kind: 'lead' })
    expect([asked, counted]).toEqual([[], ['hit', 'miss', 'miss']])
  })

  it('asks for a new one when the task wants one', async () => {
    const { look, asked } = harness([{ kind: 'lead' }])
    await look({ options: { cache: 'refresh' } })
    expect(asked).toEqual([{ refresh: true, ttlMs: 50_000, among: 'normal fallback  refresh' }])
  })

  it('does not wait among tasks that wait for something else', async () => {
    const { look, asked } = harness(Array(3).fill({ kind: 'lead' }))
    await look({ options: { on_budget: 'wait' } })
    await look({ priority: 'interactive' })
    await look({ options: { fallback: 'none' } })
    expect(new Set(asked.map(one => (one as { among: string }).among)).size).toBe(3)
  })

  it('follows a task that is live', async () => {
    const { look, followed, counted } = harness([{ kind: 'follow', leaderId: 'first' }], ['first'])
    expect(await look()).toEqual({ kind: 'follows' })
    expect([followed, counted]).toEqual([['first'], ['follow']])
  })

  it('takes the place of one that is not', async () => {
    const { look, asked } = harness([{ kind: 'follow', leaderId: 'gone' }, { kind: 'lead' }])
    expect(await look()).toEqual({ kind: 'lead' })
    expect(asked.at(-1)).toMatchObject({ takeFrom: 'gone' })
  })

  it('calls for itself rather than look for a leader without end', async () => {
    const { look, asked, counted } = harness(Array(5).fill({ kind: 'follow', leaderId: 'gone' }))
    expect(await look()).toEqual({ kind: 'lead' })
    expect(asked).toHaveLength(3)
    expect(counted).toEqual(['miss'])
  })

  it('lets nobody wait who has waited often, or has little time left', async () => {
    for (const more of [{ epoch: 3 }, { left_ms: 4000 }]) {
      const { look, followed } = harness([{ kind: 'follow', leaderId: 'first' }], ['first'])
      expect(await look(more)).toEqual({ kind: 'lead' })
      expect(followed).toEqual([])
    }
  })

  it('does not look for a task that is not to be remembered', async () => {
    const { look, asked, counted } = harness([])
    expect(await look({ cache_key: null })).toEqual({ kind: 'lead' })
    expect([asked, counted]).toEqual([[], []])
  })
})

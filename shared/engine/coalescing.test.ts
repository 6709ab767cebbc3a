import { describe, expect, it } from 'vitest'
import type { Cache, LookUp } from '#shared/cache/cache.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import { createCoalescing } from './coalescing.ts'

const entry = { result: 1, provider: 'p', model: 'm', storedAt: 0, freshUntil: 1 }

/** A cache with scripted lookups, in order, and a Postgres in which the tasks `live` are live. */
function harness(lookups: LookUp[], live: string[] = []) {
  const asked: unknown[] = []
  const counted: unknown[] = []
  const followed: string[] = []
  const coalescing = createCoalescing({
    cache: {
      lookUp: async (_, __, options) => {
        asked.push(options)
        return lookups.shift()!
      },
      get: async () => {
        const found = lookups.shift()
        return found?.kind === 'hit' ? { kind: 'fresh', entry: found.entry } : null
      },
    } as Partial<Cache> as Cache,
    follow: async ({ leaderId }) => {
      followed.push(leaderId)
      return live.includes(leaderId)
    },
    metrics: { cache: { inc: (labels: { outcome: string }) => counted.push(labels.outcome) } } as never,
  })
  const lookUp = (more: Partial<RunnableTask> = {}) =>
    coalescing.lookUp({
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
  return { lookUp, asked, counted, followed }
}

describe('coalescing', () => {
  it('returns a cached answer', async () => {
    const { lookUp, counted } = harness([{ kind: 'hit', entry }])
    expect(await lookUp()).toEqual({ kind: 'hit', entry })
    expect(counted).toEqual(['hit'])
  })

  it('returns a cached answer to a batch line, which neither leads nor follows', async () => {
    const { lookUp, asked, counted } = harness(
      [
        { kind: 'hit', entry },
        { kind: 'follow', leaderId: 'first' },
      ],
      ['first'],
    )
    expect(await lookUp({ batch_id: 'batch' })).toEqual({ kind: 'hit', entry })
    expect(await lookUp({ batch_id: 'batch' })).toEqual({ kind: 'lead' })
    expect(await lookUp({ batch_id: 'batch', options: { cache: 'refresh' } })).toEqual({ kind: 'lead' })
    expect([asked, counted]).toEqual([[], ['hit', 'miss', 'miss']])
  })

  it('ignores the cache with cache=refresh', async () => {
    const { lookUp, asked } = harness([{ kind: 'lead' }])
    await lookUp({ options: { cache: 'refresh' } })
    expect(asked).toEqual([{ refresh: true, ttlMs: 50_000, coalesceGroup: 'normal fallback  refresh' }])
  })

  it('coalesces only tasks that wait and fall back alike', async () => {
    const { lookUp, asked } = harness(Array(3).fill({ kind: 'lead' }))
    await lookUp({ options: { on_budget: 'wait' } })
    await lookUp({ priority: 'interactive' })
    await lookUp({ options: { fallback: 'none' } })
    expect(new Set(asked.map(one => (one as { coalesceGroup: string }).coalesceGroup)).size).toBe(3)
  })

  it('follows a live leader', async () => {
    const { lookUp, followed, counted } = harness([{ kind: 'follow', leaderId: 'first' }], ['first'])
    expect(await lookUp()).toEqual({ kind: 'follows' })
    expect([followed, counted]).toEqual([['first'], ['follow']])
  })

  it('replaces a leader that has ended', async () => {
    const { lookUp, asked } = harness([{ kind: 'follow', leaderId: 'gone' }, { kind: 'lead' }])
    expect(await lookUp()).toEqual({ kind: 'lead' })
    expect(asked.at(-1)).toMatchObject({ replaceLeader: 'gone' })
  })

  it('leads after the last lookup', async () => {
    const { lookUp, asked, counted } = harness(Array(5).fill({ kind: 'follow', leaderId: 'gone' }))
    expect(await lookUp()).toEqual({ kind: 'lead' })
    expect(asked).toHaveLength(3)
    expect(counted).toEqual(['miss'])
  })

  it('does not follow after many dispatches or with little time left', async () => {
    for (const more of [{ epoch: 3 }, { left_ms: 4000 }]) {
      const { lookUp, followed } = harness([{ kind: 'follow', leaderId: 'first' }], ['first'])
      expect(await lookUp(more)).toEqual({ kind: 'lead' })
      expect(followed).toEqual([])
    }
  })

  it('does not lookUp up a task without a cache key', async () => {
    const { lookUp, asked, counted } = harness([])
    expect(await lookUp({ cache_key: null })).toEqual({ kind: 'lead' })
    expect([asked, counted]).toEqual([[], []])
  })
})

import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { BatchView } from '#shared/db/batches/read.ts'
import { newId } from '#shared/ids.ts'
import { createBatchFeed } from './batch-feed.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const view = (id: string, more: Partial<BatchView> = {}): BatchView =>
  ({
    ...{ id, api_key_id: newId(), surface: 'native', kind: 'generate', endpoint: null, status: 'in_progress' },
    ...{ input_file_id: newId(), output_file_id: null, error_file_id: null, options: {}, metadata: null, errors: null },
    ...{
      total: 3,
      succeeded: 0,
      failed: 0,
      cancelled: 0,
      expired: 0,
      input_tokens: 0,
      output_tokens: 0,
      cost_usd: '0',
    },
    ...{
      created_at: new Date(0),
      expires_at: new Date(1),
      in_progress_at: null,
      finalizing_at: null,
      completed_at: null,
    },
    ...{ failed_at: null, expired_at: null, cancelling_at: null, cancelled_at: null, rate: null, eta_seconds: null },
    ...more,
  }) as BatchView

function harness() {
  const stored = new Map<string, BatchView>()
  const queries: string[][] = []
  const errors: unknown[] = []
  const state = { away: false }
  const feed = createBatchFeed({
    readBatches: async ids => {
      queries.push(ids)
      if (state.away) throw new Error('away')
      return ids.flatMap(id => stored.get(id) ?? [])
    },
    onError: error => errors.push(error),
  })
  const put = (batch: BatchView) => {
    stored.set(batch.id, batch)
    return batch
  }
  return { feed, queries, errors, state, stored, put }
}
const never = () => new AbortController().signal
const second = () => vi.advanceTimersByTimeAsync(1000)
const counts = (frame: IteratorResult<{ json: string }>) => JSON.parse(frame.value.json).counts.succeeded

it('all readers share one query per second, and the readers of a batch share its rendered JSON', async () => {
  const { feed, queries, put } = harness()
  const [one, other] = [put(view(newId())), put(view(newId()))]
  const readers = [one, one, one, other].map(batch => feed.follow(batch, never()))
  await Promise.all(readers.map(reader => reader.next()))
  const next = readers.map(reader => reader.next())
  put({ ...one, succeeded: 1 })
  put({ ...other, succeeded: 2 })
  await second()
  const frames = await Promise.all(next)
  expect(frames.map(counts)).toEqual([1, 1, 1, 2])
  expect(frames[0]!.value).toBe(frames[1]!.value)
  expect(queries).toEqual([[one.id, other.id]])
})

it('a slow reader skips to the newest frame and still gets the last one', async () => {
  const { feed, put } = harness()
  const batch = put(view(newId()))
  const reader = feed.follow(batch, never())
  await reader.next()
  for (const succeeded of [1, 2, 3]) {
    put({ ...batch, succeeded })
    await second()
  }
  expect(counts(await reader.next())).toBe(3)
  put({ ...batch, succeeded: 3, status: 'completed' })
  await second()
  expect((await reader.next()).value).toMatchObject({ ended: true })
  expect((await reader.next()).done).toBe(true)
})

it('without readers nothing is queried; a stream ends when the batch is deleted or the reader leaves', async () => {
  const { feed, queries, put, stored } = harness()
  const batch = put(view(newId()))
  const over = new AbortController()
  const [left, stays] = [feed.follow(batch, over.signal), feed.follow(batch, never())]
  await Promise.all([left.next(), stays.next()])
  const ends = [left.next(), stays.next()]
  over.abort()
  expect((await ends[0]!).done).toBe(true)
  stored.clear()
  await second()
  expect((await ends[1]!).done).toBe(true)
  await second()
  expect(queries).toHaveLength(1)
})

it('a failed query is repeated and the streams stay open', async () => {
  const { feed, errors, state, put } = harness()
  const batch = put(view(newId()))
  const reader = feed.follow(batch, never())
  await reader.next()
  const next = reader.next()
  state.away = true
  await second()
  expect(errors).toHaveLength(1)
  state.away = false
  put({ ...batch, succeeded: 1 })
  await second()
  expect(counts(await next)).toBe(1)
})

import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Redis } from '#shared/redis.ts'
import type { Hints } from './hints.ts'
import { openDeltaWriter } from './stream.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('waits for a Redis that never answers no longer than a second at the end', async () => {
  const never = () => new Promise<never>(() => {})
  const redis = { xadd: never } as unknown as Redis
  const writer = openDeltaWriter({ redis, hints: {} as Hints, prefix: 'test', id: 'a', attempt: 1, timeoutMs: 1000 })
  writer.write('text')
  let ended = false
  const end = writer.end().then(() => {
    ended = true
  })
  await vi.advanceTimersByTimeAsync(999)
  expect(ended).toBe(false)
  await vi.advanceTimersByTimeAsync(1)
  await end
  expect(vi.getTimerCount()).toBe(0)
})

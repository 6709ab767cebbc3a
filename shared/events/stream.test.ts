import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Redis } from '#shared/redis/connect.ts'
import type { Notifications } from './notifications.ts'
import { openDeltaWriter } from './stream.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('the end of a stream waits at most a second for Redis', async () => {
  const never = () => new Promise<never>(() => {})
  const redis = { xadd: never } as unknown as Redis
  const writer = openDeltaWriter({
    redis,
    notifications: {} as Notifications,
    prefix: 'test',
    id: 'a',
    attempt: 1,
    timeoutMs: 1000,
  })
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

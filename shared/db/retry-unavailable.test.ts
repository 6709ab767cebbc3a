import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { DatabaseUnavailable } from './pool.ts'
import { retryUnavailable } from './retry-unavailable.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Work that fails with each of these errors in turn and then succeeds, with the times of its tries in milliseconds. */
function harness(errors: Error[]) {
  const start = performance.now()
  const tried: number[] = []
  const work = async () => {
    tried.push(performance.now() - start)
    const error = errors[tried.length - 1]
    if (error) throw error
    return 'done'
  }
  return { tried, work }
}
const away = () => new DatabaseUnavailable(new Error('refused'))

it('successful work runs once', async () => {
  const { tried, work } = harness([])
  expect(await retryUnavailable(work)).toBe('done')
  expect(tried).toEqual([0])
})

it('work is repeated while Postgres is unavailable, with doubling delays up to two seconds', async () => {
  const { tried, work } = harness(Array.from({ length: 8 }, away))
  const done = retryUnavailable(work)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(await done).toBe('done')
  expect(tried).toEqual([0, 100, 300, 700, 1500, 3100, 5100, 7100, 9100])
})

it('an error that Postgres reports is not retried, also after an outage', async () => {
  const refused = new Error('duplicate key')
  const { tried, work } = harness([away(), refused])
  const done = expect(retryUnavailable(work)).rejects.toBe(refused)
  await vi.advanceTimersByTimeAsync(60_000)
  await done
  expect(tried).toEqual([0, 100])
})

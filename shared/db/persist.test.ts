import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { persist } from './persist.ts'
import { DatabaseUnavailable } from './pool.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Work that fails with each of these errors in turn and then succeeds; and when it was tried, in milliseconds. */
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

it('work that succeeds is done once', async () => {
  const { tried, work } = harness([])
  expect(await persist(work)).toBe('done')
  expect(tried).toEqual([0])
})

it('while Postgres is away it is repeated, at twice the distance each time and then every two seconds', async () => {
  const { tried, work } = harness(Array.from({ length: 8 }, away))
  const done = persist(work)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(await done).toBe('done')
  expect(tried).toEqual([0, 100, 300, 700, 1500, 3100, 5100, 7100, 9100])
})

it('what Postgres refuses is not repeated, also after an outage', async () => {
  const refused = new Error('duplicate key')
  const { tried, work } = harness([away(), refused])
  const done = expect(persist(work)).rejects.toBe(refused)
  await vi.advanceTimersByTimeAsync(60_000)
  await done
  expect(tried).toEqual([0, 100])
})

import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createSemaphore } from './semaphore.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Two lanes, three places to wait. Work ends when the test says so. */
function harness() {
  const lanes = createSemaphore({ atOnce: 2, waiting: 3, waitMs: 5000 })
  const begun: string[] = []
  const open = new Map<string, PromiseWithResolvers<string>>()
  const turn = () => vi.advanceTimersByTimeAsync(0)
  return {
    begun,
    turn,
    come(name: string) {
      return lanes(() => {
        begun.push(name)
        open.set(name, Promise.withResolvers())
        return open.get(name)!.promise
      })
    },
    async end(name: string, error?: Error) {
      if (error) open.get(name)!.reject(error)
      else open.get(name)!.resolve(`${name} done`)
      await turn()
    },
    lanes,
  }
}

it('a semaphore runs `atOnce` functions at a time, and the others in order of arrival', async () => {
  const { come, end, begun, turn } = harness()
  const before = come('before')
  await turn()
  await end('before')
  expect(await before).toBe('before done')
  const all = [...'abcde'].map(come)
  await turn()
  expect(begun).toEqual(['before', 'a', 'b'])
  await end('b')
  expect(begun).toEqual(['before', 'a', 'b', 'c'])
  for (const name of 'acde') await end(name)
  expect(await Promise.all(all)).toEqual([...'abcde'].map(name => `${name} done`))
  expect(vi.getTimerCount()).toBe(0)
})

it('a semaphore with a full queue refuses at once, and accepts again when a slot is taken', async () => {
  const { come, end, begun } = harness()
  for (const name of 'abcde') void come(name)
  expect(await come('refused')).toBeNull()
  await end('a')
  void come('f')
  for (const name of 'bcdef') await end(name)
  expect(begun.join('')).toBe('abcdef')
})

it('a semaphore frees the slot of work that throws or rejects', async () => {
  const { come, end, begun, lanes, turn } = harness()
  const [failing] = [come('a'), come('b'), come('c')]
  const failed = expect(failing).rejects.toThrow('failed')
  await turn()
  await end('a', new Error('failed'))
  await failed
  expect(begun).toEqual(['a', 'b', 'c'])
  const thrown = expect(
    lanes(() => {
      throw new Error('at once')
    }),
  ).rejects.toThrow('at once')
  void come('d')
  await end('b')
  await thrown
  await turn()
  expect(begun).toEqual(['a', 'b', 'c', 'd'])
})

it('a semaphore refuses work that waited too long, does not start it, and frees its place in the queue', async () => {
  const { come, end, begun } = harness()
  for (const name of 'ab') void come(name)
  const late = come('late')
  await vi.advanceTimersByTimeAsync(4999)
  for (const name of 'cd') void come(name)
  expect(await Promise.race([late, 'still waiting'])).toBe('still waiting')
  await vi.advanceTimersByTimeAsync(1)
  expect(await late).toBeNull()
  void come('e')
  for (const name of 'abcde') await end(name)
  expect(begun.join('')).toBe('abcde')
})

import { expect, it } from 'vitest'
import { createCollectionWrites } from './collection-writes.ts'

/** Writes that end when they are told to; which of them are under way. */
function begin() {
  const turn = createCollectionWrites()
  const underWay = new Set<string>()
  const ends = new Map<string, () => void>()
  const write = (name: string, id: string) =>
    turn({ apiKeyId: 'key', name }, async () => {
      underWay.add(id)
      await new Promise<void>(resolve => void ends.set(id, resolve))
      underWay.delete(id)
      return id
    })
  const end = async (id: string) => {
    ends.get(id)!()
    await new Promise(setImmediate)
  }
  return { write, end, underWay: () => [...underWay] }
}

it('one collection is written to by one at a time, and two at most of all are, in the order in which they came', async () => {
  const { write, end, underWay } = begin()
  const writes = [write('a', 'a1'), write('a', 'a2'), write('b', 'b1'), write('c', 'c1')]
  await new Promise(setImmediate)
  expect(underWay()).toEqual(['a1', 'b1'])
  await end('b1')
  expect(underWay()).toEqual(['a1', 'c1'])
  await end('a1')
  expect(underWay()).toEqual(['c1', 'a2'])
  await end('a2')
  await end('c1')
  expect(await Promise.all(writes)).toEqual(['a1', 'a2', 'b1', 'c1'])
})

it('who fails makes room, and too many are told to come back', async () => {
  const turn = createCollectionWrites()
  const whose = { apiKeyId: 'key', name: 'a' }
  await expect(turn(whose, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  const { promise, resolve } = Promise.withResolvers<void>()
  const all = Array.from({ length: 52 }, () =>
    turn(whose, () => promise).then(
      () => 'written',
      error => error.code,
    ),
  )
  resolve()
  expect((await Promise.all(all)).toSorted()).toEqual(['server_busy', ...Array(51).fill('written')])
})

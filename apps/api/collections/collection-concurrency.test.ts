import { expect, it } from 'vitest'
import { createCollectionWriter } from './collection-concurrency.ts'

/** Starts writes that end on demand. `inFlight`: the ids of running writes. */
function startWrites() {
  const writeCollection = createCollectionWriter()
  const inFlight = new Set<string>()
  const ends = new Map<string, () => void>()
  const write = (name: string, id: string) =>
    writeCollection({ apiKeyId: 'key', name }, async () => {
      inFlight.add(id)
      await new Promise<void>(resolve => void ends.set(id, resolve))
      inFlight.delete(id)
      return id
    })
  const end = async (id: string) => {
    ends.get(id)!()
    await new Promise(setImmediate)
  }
  return { write, end, inFlight: () => [...inFlight] }
}

it('writes to one collection run one at a time, writes to all collections two at a time, in order of arrival', async () => {
  const { write, end, inFlight } = startWrites()
  const writes = [write('a', 'a1'), write('a', 'a2'), write('b', 'b1'), write('c', 'c1')]
  await new Promise(setImmediate)
  expect(inFlight()).toEqual(['a1', 'b1'])
  await end('b1')
  expect(inFlight()).toEqual(['a1', 'c1'])
  await end('a1')
  expect(inFlight()).toEqual(['c1', 'a2'])
  await end('a2')
  await end('c1')
  expect(await Promise.all(writes)).toEqual(['a1', 'a2', 'b1', 'c1'])
})

it('a failed write releases its slot, and writes beyond the queue limit get server_busy', async () => {
  const writeCollection = createCollectionWriter()
  const whose = { apiKeyId: 'key', name: 'a' }
  await expect(writeCollection(whose, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  const { promise, resolve } = Promise.withResolvers<void>()
  const all = Array.from({ length: 52 }, () =>
    writeCollection(whose, () => promise).then(
      () => 'written',
      error => error.code,
    ),
  )
  resolve()
  expect((await Promise.all(all)).toSorted()).toEqual(['server_busy', ...Array(51).fill('written')])
})

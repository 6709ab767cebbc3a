import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createChunkWriter, FILE_CHUNK_BYTES } from './file-chunks.ts'

it('all chunks but the last are full, and together they contain the added bytes', async () => {
  const sizes = fc.array(fc.oneof(fc.nat(5000), fc.integer({ min: FILE_CHUNK_BYTES - 1, max: 3 * FILE_CHUNK_BYTES })), {
    maxLength: 6,
  })
  await fc.assert(
    fc.asyncProperty(sizes, async sizes => {
      const written: Uint8Array[] = []
      const pieces = createChunkWriter({ write: async piece => void written.push(piece), maxAgeMs: 1000, now: () => 0 })
      const all = sizes.map((size, i) => Buffer.alloc(size, i + 1))
      for (const bytes of all) await pieces.add(bytes)
      await pieces.flush()
      expect(Buffer.concat(written).equals(Buffer.concat(all))).toBe(true)
      expect(pieces.total).toBe(sizes.reduce((sum, size) => sum + size, 0))
      for (const piece of written.slice(0, -1)) expect(piece.length).toBe(FILE_CHUNK_BYTES)
    }),
    { numRuns: 30 },
  )
})

it('a chunk is filled while the previous one is written; then adding waits', async () => {
  const writing: (() => void)[] = []
  const write = () => new Promise<void>(resolve => writing.push(resolve))
  const pieces = createChunkWriter({ write, maxAgeMs: 1000, now: () => 0 })
  await pieces.add(Buffer.alloc(2 * FILE_CHUNK_BYTES - 1))
  expect(writing).toHaveLength(1)
  let added = false
  const adding = pieces.add(Buffer.alloc(1)).then(() => {
    added = true
  })
  await Promise.resolve()
  expect({ added, writing: writing.length }).toEqual({ added: false, writing: 1 })
  writing[0]!()
  await adding
  expect(writing).toHaveLength(2)
})

it('a chunk that does not fill up is written after its maximum age', async () => {
  const written: number[] = []
  let now = 0
  const pieces = createChunkWriter({
    write: async piece => void written.push(piece.length),
    maxAgeMs: 1000,
    now: () => now,
  })
  await pieces.add(Buffer.alloc(10))
  now = 1001
  await pieces.add(Buffer.alloc(10))
  await pieces.add(Buffer.alloc(5))
  expect(written).toEqual([20])
  await pieces.flush()
  expect(written).toEqual([20, 5])
})

it('a failed write fails the following calls', async () => {
  const pieces = createChunkWriter({ write: () => Promise.reject(new Error('full')), maxAgeMs: 1000, now: () => 0 })
  await pieces.add(Buffer.alloc(FILE_CHUNK_BYTES))
  await expect(pieces.flush()).rejects.toThrow('full')
  await pieces.settled()
})

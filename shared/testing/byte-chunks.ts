import fc from 'fast-check'

/** Yields the bytes in chunks of these sizes, repeated until the end. A size of 0 is an empty chunk. */
export async function* inChunks(
  bytes: Uint8Array | string,
  sizes: readonly number[] = [65_536],
): AsyncGenerator<Buffer> {
  const whole = Buffer.from(bytes as Uint8Array)
  // Sizes of 0 alone would never end.
  const repeated = sizes.some(size => size > 0) ? sizes : [whole.length]
  for (let from = 0, i = 0; from < whole.length; i++) {
    const size = repeated[i % repeated.length]!
    // A copy: a reader that keeps a chunk must not see the next one.
    yield Buffer.from(whole.subarray(from, from + size))
    from += size
  }
}

export const chunkSizes = fc.array(fc.nat({ max: 12 }), { minLength: 1, maxLength: 6 })

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const one of items) found.push(one)
  return found
}

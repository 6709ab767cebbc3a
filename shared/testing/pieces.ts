import fc from 'fast-check'

/** Bytes as a stream might bring them: in pieces of these sizes, over and over; an empty piece where it says 0. */
export async function* inPieces(
  bytes: Uint8Array | string,
  sizes: readonly number[] = [65_536],
): AsyncGenerator<Buffer> {
  const whole = Buffer.from(bytes as Uint8Array)
  const growing = sizes.some(size => size > 0) ? sizes : [whole.length]
  for (let from = 0, i = 0; from < whole.length; i++) {
    const size = growing[i % growing.length]!
    // A copy: whoever keeps a piece must not see the next.
    yield Buffer.from(whole.subarray(from, from + size))
    from += size
  }
}

export const pieceSizes = fc.array(fc.nat({ max: 12 }), { minLength: 1, maxLength: 6 })

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const one of items) found.push(one)
  return found
}

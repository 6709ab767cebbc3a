import { Readable } from 'node:stream'

/**
 * A stream of `chunks` for a reply. Reads the first chunk before it returns, so that an error before it is answered with a
 * status instead of a connection that breaks after 200.
 */
export async function startStream(chunks: AsyncIterable<Uint8Array>): Promise<Readable> {
  const iterator = chunks[Symbol.asyncIterator]()
  const first = await iterator.next()
  async function* all() {
    if (!first.done) yield first.value
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value
  }
  const stream = Readable.from(all(), { objectMode: false, highWaterMark: 1 })
  // If the client leaves before the stream is read, the generator never starts and cannot clean up.
  stream.once('close', () => void iterator.return?.())
  return stream
}

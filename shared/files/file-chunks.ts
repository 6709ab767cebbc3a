/** Bytes of a chunk. Larger chunks are not faster, and many files may be written at once. */
export const FILE_CHUNK_BYTES = 262_144

export type ChunkWriter = {
  /** Resolves when the bytes are buffered and at most one chunk is being written. */
  add(bytes: Uint8Array): Promise<void>
  /** Resolves when all added bytes are written. */
  flush(): Promise<void>
  /** Resolves when no write is in progress. Never rejects. */
  settled(): Promise<void>
  /** Number of added bytes. */
  readonly total: number
}

/**
 * Collects bytes into chunks. A chunk is filled while the previous one is written, so that at most two are held. A chunk that is not
 * full is written if it is older than `maxAgeMs` when more bytes are added.
 */
export function createChunkWriter(options: {
  write(chunk: Uint8Array): Promise<void>
  maxAgeMs: number
  now(): number
}): ChunkWriter {
  let chunk: Buffer | null = null
  let filled = 0
  let total = 0
  let startedAt = 0
  let writing: Promise<void> = Promise.resolve()

  async function writeChunk(): Promise<void> {
    await writing
    if (!chunk || filled === 0) return
    const whole = chunk.subarray(0, filled)
    chunk = null
    filled = 0
    writing = options.write(whole)
    // Awaited before the next chunk.
    writing.catch(() => {})
  }

  return {
    async add(bytes) {
      for (let from = 0; from < bytes.length; ) {
        if (!chunk) {
          chunk = Buffer.allocUnsafeSlow(FILE_CHUNK_BYTES)
          startedAt = options.now()
        }
        const part = bytes.subarray(from, from + FILE_CHUNK_BYTES - filled)
        chunk.set(part, filled)
        filled += part.length
        from += part.length
        total += part.length
        if (filled === FILE_CHUNK_BYTES) await writeChunk()
      }
      if (chunk && options.now() - startedAt > options.maxAgeMs) await writeChunk()
    },
    async flush() {
      await writeChunk()
      await writing
    },
    settled: () => writing.catch(() => {}),
    get total() {
      return total
    },
  }
}

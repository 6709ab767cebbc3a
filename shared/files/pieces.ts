/** Bytes of a piece. Larger ones are no faster, and many files may be under way at once. */
export const PIECE_BYTES = 262_144

export type Pieces = {
  /** Resolves when the bytes are taken over, which is when no more than one piece is being written. */
  add(bytes: Uint8Array): Promise<void>
  /** All that was added is written. */
  flush(): Promise<void>
  /** Nothing is being written any more. Never rejects. */
  settled(): Promise<void>
  /** Bytes that were added. */
  readonly total: number
}

/**
 * Cuts bytes, however they come, into pieces: one is filled while the one before it is written, so that two are held
 * at most. A piece that is not full is written when it is older than `maxAgeMs` at the time that more comes.
 */
export function createPieces(options: {
  write(piece: Uint8Array): Promise<void>
  maxAgeMs: number
  now(): number
}): Pieces {
  let piece: Buffer | null = null
  let filled = 0
  let total = 0
  let begun = 0
  let writing: Promise<void> = Promise.resolve()

  async function hand(): Promise<void> {
    await writing
    if (!piece || filled === 0) return
    const whole = piece.subarray(0, filled)
    piece = null
    filled = 0
    writing = options.write(whole)
    // It is awaited before the next one.
    writing.catch(() => {})
  }

  return {
    async add(bytes) {
      for (let from = 0; from < bytes.length; ) {
        if (!piece) {
          piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
          begun = options.now()
        }
        const part = bytes.subarray(from, from + PIECE_BYTES - filled)
        piece.set(part, filled)
        filled += part.length
        from += part.length
        total += part.length
        if (filled === PIECE_BYTES) await hand()
      }
      if (piece && options.now() - begun > options.maxAgeMs) await hand()
    },
    async flush() {
      await hand()
      await writing
    },
    settled: () => writing.catch(() => {}),
    get total() {
      return total
    },
  }
}

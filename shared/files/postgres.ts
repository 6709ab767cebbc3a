import { appendPiece, readPiece, removePieces } from '#shared/db/files.ts'
import type { Db } from '#shared/db/pool.ts'
import { type Backend, FileLost } from './backend.ts'

/** Pieces that one statement deletes. */
const SLICE = 32

/** Bytes as rows of `file_chunks`, one a piece. No connection is held between two pieces, however slow the client is. */
export const createPostgresBackend = (db: Db): Backend => ({
  open(file) {
    let seq = 0
    return {
      async write(piece) {
        if (!(await appendPiece(db, file, seq++, piece))) throw new FileLost(`file ${file.id} was given up`)
      },
      end: async () => {},
      abort: async () => {},
    }
  },

  async *read(file) {
    const ask = (seq: number) => {
      const piece = readPiece(db, file.id, seq)
      // It is awaited later, or never when the reader leaves.
      piece.catch(() => {})
      return piece
    }
    let next = file.bytes > 0 ? ask(0) : null
    for (let seq = 0, read = 0; next; seq++) {
      const piece: Uint8Array | null = await next
      if (!piece) throw new FileLost(`file ${file.id} was deleted while it was read`)
      read += piece.length
      // One piece ahead.
      next = read < file.bytes ? ask(seq + 1) : null
      yield piece
    }
  },

  drop: async file => (await removePieces(db, file, SLICE)) === SLICE,
})

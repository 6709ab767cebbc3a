import { appendFileChunk, deleteFileChunks, readFileChunk } from '#shared/db/files.ts'
import type { Db } from '#shared/db/pool.ts'
import { type Backend, FileLost } from './backend.ts'

/** Chunks that one statement deletes. */
const SLICE = 32

/** Stores bytes in `file_chunks`. No connection is held between two chunks, however slow the client is. */
export const createPostgresBackend = (db: Db): Backend => ({
  open(file) {
    let seq = 0
    return {
      async write(chunk) {
        if (!(await appendFileChunk(db, file, seq++, chunk))) throw new FileLost(`file ${file.id} was abandoned`)
      },
      end: async () => {},
      abort: async () => {},
    }
  },

  async *read(file) {
    const fetchChunk = (seq: number) => {
      const chunk = readFileChunk(db, file.id, seq)
      // Awaited later, or never if the reader stops.
      chunk.catch(() => {})
      return chunk
    }
    let next = file.bytes > 0 ? fetchChunk(0) : null
    for (let seq = 0, read = 0; next; seq++) {
      const chunk: Uint8Array | null = await next
      if (!chunk) throw new FileLost(`file ${file.id} was deleted while it was read`)
      read += chunk.length
      // Reads one chunk ahead.
      next = read < file.bytes ? fetchChunk(seq + 1) : null
      yield chunk
    }
  },

  drop: async file => (await deleteFileChunks(db, file, SLICE)) === SLICE,
})

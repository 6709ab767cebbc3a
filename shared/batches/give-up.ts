import { failBatch } from '#shared/db/batches.ts'
import { finishChunk, type HopelessChunk } from '#shared/db/chunks.ts'
import { listOpenLines } from '#shared/db/lines.ts'
import type { Db } from '#shared/db/pool.ts'
import type { Ender } from '#shared/db/tasks.ts'

/** A chunk that was claimed this often without being done kills its workers. */
export const MAX_CHUNK_CLAIMS = 5

const LOST = {
  code: 'worker_lost',
  message: `Its workers died or failed ${MAX_CHUNK_CLAIMS} times without an end.`,
}
const NEVER_RUN = { code: 'cancelled', message: 'The batch failed before this line was run: its errors say why.' }

/**
 * Ends what nobody can do: a range of lines fails, and the batch goes on; if its input cannot be read or its output cannot be
 * written, the batch fails, and what had been read of its input with it. To be repeated until it is done.
 */
export async function giveUpChunk({ db, end }: { db: Db; end: Ender }, chunk: HopelessChunk): Promise<void> {
  const open = await listOpenLines(db, chunk, null)
  await (chunk.failed ? endLines(end, open, 'cancelled', NEVER_RUN) : endLines(end, open, 'failed', LOST))
  if (chunk.step === 'run') {
    await finishChunk(db, { ...chunk, workerId: null })
    return
  }
  await failBatch(db, { ...chunk, workerId: null }, [{ ...LOST, line: null, param: null }])
}

/** Ends lines that have not ended, whoever holds them. */
export const endLines = (
  end: Ender,
  lines: { id: string }[],
  status: 'failed' | 'cancelled' | 'expired',
  error: { code: string; message: string },
  from: 'queued' | 'live' = 'live',
) => Promise.all(lines.map(({ id }) => end({ id, from, status, epoch: null, workerId: null, settlement: null, error })))

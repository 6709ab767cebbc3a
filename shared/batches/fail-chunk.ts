import { failBatch } from '#shared/db/batches/fail.ts'
import { finishChunk } from '#shared/db/batches/finish-chunk.ts'
import { listOpenLines } from '#shared/db/batches/read-lines.ts'
import type { ExhaustedChunk } from '#shared/db/batches/take-over-chunks.ts'
import type { Db } from '#shared/db/pool.ts'
import type { FinishTask } from '#shared/db/tasks/finish.ts'

/** A chunk that was claimed this often without being done is assumed to kill its workers. */
export const MAX_CHUNK_CLAIMS = 5

const LOST = {
  code: 'worker_lost',
  message: `Its workers died or failed ${MAX_CHUNK_CLAIMS} times without finishing it.`,
}
const NEVER_RUN = { code: 'cancelled', message: 'The batch failed before this line was run: its errors say why.' }

/**
 * Fails an exhausted chunk. If it is a range of lines, its open lines fail and the batch continues. If it reads the input or writes
 * the output, the batch fails. May be repeated.
 */
export async function failChunk({ db, end }: { db: Db; end: FinishTask }, chunk: ExhaustedChunk): Promise<void> {
  const open = await listOpenLines(db, chunk, null)
  await (chunk.failed ? finishLines(end, open, 'cancelled', NEVER_RUN) : finishLines(end, open, 'failed', LOST))
  if (chunk.step === 'run') {
    await finishChunk(db, { ...chunk, workerId: null })
    return
  }
  await failBatch(db, { ...chunk, workerId: null }, [{ ...LOST, line: null, param: null }])
}

/** Ends open lines, with or without claims. */
export const finishLines = (
  end: FinishTask,
  lines: { id: string }[],
  status: 'failed' | 'cancelled' | 'expired',
  error: { code: string; message: string },
  from: 'queued' | 'live' = 'live',
) => Promise.all(lines.map(({ id }) => end({ id, from, status, epoch: null, workerId: null, settlement: null, error })))

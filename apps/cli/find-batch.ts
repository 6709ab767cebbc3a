import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { OpenAIBatch } from '../client/index.ts'
import { Failure } from './failure.ts'
import { STANDARD } from './input.ts'
import type { Session } from './session.ts'

/** Metadata of batches started by this program: the SHA-256 of the input file, hex. */
const MARK = 'sluice_cli_sha256'
/** The same of the absolute path of the output, which the server need not know. */
const OUTPUT_MARK = 'sluice_cli_output_sha256'
/** Older batches are not resumed. A batch runs for a day at most; its client may be away for longer. */
const OLDEST_SECONDS = 7 * 86_400
const LIVE = ['validating', 'in_progress', 'finalizing']

/** The metadata that identifies a batch for later runs. */
export const marksOf = ({ sha256, output }: { sha256: string; output: string }) => ({
  [MARK]: sha256,
  [OUTPUT_MARK]: createHash('sha256').update(resolve(output)).digest('hex'),
})

/** The batch that an earlier run started with the same file: running, or ended with answers that were not downloaded. */
export async function findEarlier(
  session: Session,
  { sha256, endpoint, output }: { sha256: string; endpoint: string; output: string },
): Promise<{ id: string; ended: boolean } | null> {
  const written = await stat(output).catch(() => null)
  const marks = marksOf({ sha256, output })
  // With another output, the user may want new answers to the same requests.
  const unfetched = (batch: OpenAIBatch) =>
    // Answers on standard output leave no trace.
    output !== STANDARD &&
    batch.metadata?.[OUTPUT_MARK] === marks[OUTPUT_MARK] &&
    endedAfter(batch, written?.mtimeMs ?? 0)
  const fits = (batch: OpenAIBatch) =>
    batch.metadata?.[MARK] === sha256 &&
    batch.endpoint === endpoint &&
    (LIVE.includes(batch.status) || unfetched(batch))
  const batch = await findBatch(session, fits)
  return batch && { id: batch.id, ended: !LIVE.includes(batch.status) }
}

/** Whether it ended with answers after this time. Cancelled batches do not count: the user did not want their answers. */
function endedAfter({ output_file_id, completed_at, expired_at }: OpenAIBatch, ms: number): boolean {
  const endedAt = completed_at ?? expired_at
  return output_file_id !== undefined && endedAt !== undefined && endedAt * 1000 > ms
}

export async function findBatch(session: Session, fits: (batch: OpenAIBatch) => boolean): Promise<OpenAIBatch | null> {
  const oldest = Date.now() / 1000 - OLDEST_SECONDS
  let after: string | undefined
  for (;;) {
    const page = await session.client.batches.list({ limit: 100, ...(after && { after }), signal: session.signal })
    if (!Array.isArray(page.data)) throw new Failure('this is not a Sluice server (see --url)')
    const found = page.data.find(batch => batch.created_at >= oldest && fits(batch))
    if (found) return found
    const last = page.data.at(-1)
    if (!page.has_more || !last || last.created_at < oldest) return null
    after = last.id
  }
}

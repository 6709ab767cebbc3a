import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { OpenAIBatch } from '../client/index.ts'
import { Failure } from './failure.ts'
import type { Session } from './session.ts'

/** What makes a batch ours: the SHA-256 of its input file, hex. */
const MARK = 'sluice_cli_sha256'
/** Where its answers were to go: the SHA-256 of an absolute path, which is no business of the server's. */
const OUTPUT_MARK = 'sluice_cli_output_sha256'
/** So long after its start a batch is come back to. It runs for a day at most; its client may be away for longer. */
const OLDEST_SECONDS = 7 * 86_400
const LIVE = ['validating', 'in_progress', 'finalizing']

/** The metadata by which a batch is found again. */
export const marksOf = ({ sha256, output }: { sha256: string; output: string }) => ({
  [MARK]: sha256,
  [OUTPUT_MARK]: createHash('sha256').update(resolve(output)).digest('hex'),
})

/** The batch that an earlier run started with the same file and did not fetch: under way, or ended with answers. */
export async function findEarlier(
  session: Session,
  { sha256, endpoint, output }: { sha256: string; endpoint: string; output: string },
): Promise<{ id: string; ended: boolean } | null> {
  const written = await stat(output).catch(() => null)
  const marks = marksOf({ sha256, output })
  // For another output the same questions may be meant to be asked again.
  const unfetched = (batch: OpenAIBatch) =>
    batch.metadata?.[OUTPUT_MARK] === marks[OUTPUT_MARK] && endedAfter(batch, written?.mtimeMs ?? 0)
  const fits = (batch: OpenAIBatch) =>
    batch.metadata?.[MARK] === sha256 &&
    batch.endpoint === endpoint &&
    (LIVE.includes(batch.status) || unfetched(batch))
  const batch = await findBatch(session, fits)
  return batch && { id: batch.id, ended: !LIVE.includes(batch.status) }
}

/** With answers. A cancelled one, too, may have some, but not those that are asked for when the command is given again. */
function endedAfter({ output_file_id, completed_at, expired_at }: OpenAIBatch, ms: number): boolean {
  const endedAt = completed_at ?? expired_at
  return output_file_id !== undefined && endedAt !== undefined && endedAt * 1000 > ms
}

export async function findBatch(session: Session, fits: (batch: OpenAIBatch) => boolean): Promise<OpenAIBatch | null> {
  const oldest = Date.now() / 1000 - OLDEST_SECONDS
  let after: string | undefined
  for (;;) {
    const page = await session.client.batches.list({ limit: 100, ...(after && { after }), signal: session.signal })
    if (!Array.isArray(page.data)) throw new Failure('that is no Sluice server (see --url)')
    const found = page.data.find(batch => batch.created_at >= oldest && fits(batch))
    if (found) return found
    const last = page.data.at(-1)
    if (!page.has_more || !last || last.created_at < oldest) return null
    after = last.id
  }
}

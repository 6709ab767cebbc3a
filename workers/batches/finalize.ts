import { openAiOutputLine } from '#shared/batches/output.ts'
import type { BatchRow } from '#shared/db/batches.ts'
import { streamResults } from '#shared/db/lines.ts'
import type { Db } from '#shared/db/pool.ts'
import type { FileStore, FileWriter } from '#shared/files/store.ts'
import { toWire } from '#shared/ids.ts'

export type WriteDeps = { files: FileStore; db: Db }

const KINDS = ['output', 'error'] as const
type Kind = (typeof KINDS)[number]
export type OutputFiles = Record<Kind, string | null>

/** Characters that are gathered before they are written. */
const PIECE = 262_144

/**
 * The id of the file that one claim of a chunk writes: who takes the chunk over knows what the one before may have left. Two
 * claims never write the same file.
 */
export const outputFileId = (chunk: { id: string; epoch: number }, kind: Kind): string =>
  chunk.id.slice(0, -4) + ((chunk.epoch * KINDS.length + KINDS.indexOf(kind)) % 65_536).toString(16).padStart(4, '0')

/**
 * Writes what became of all lines into an output and an error file, of which there is none that would be empty.
 * @returns null: it was stopped, and has left nothing behind
 */
export async function writeOutput(
  { db, files }: WriteDeps,
  batch: BatchRow,
  chunk: { id: string; epoch: number },
  signal: AbortSignal,
): Promise<OutputFiles | null> {
  const writers: Partial<Record<Kind, FileWriter>> = {}
  const pieces = { output: '', error: '' }
  const flush = async (kind: Kind) => {
    if (pieces[kind] === '') return
    const text = pieces[kind]
    pieces[kind] = ''
    writers[kind] ??= await files.create({
      id: outputFileId(chunk, kind),
      apiKeyId: batch.api_key_id,
      purpose: 'batch_output',
      filename: `${toWire('batch', batch.id)}_${kind}.jsonl`,
      ...(batch.output_expires_seconds !== null && { expiresSeconds: batch.output_expires_seconds }),
    })
    await writers[kind].write(Buffer.from(text))
  }
  const abort = () => Promise.allSettled(Object.values(writers).map(writer => writer.abort()))
  try {
    for await (const slice of streamResults(db, batch.id)) {
      if (signal.aborted) {
        await abort()
        return null
      }
      for (const line of slice) {
        const { file, text } = openAiOutputLine(batch.endpoint ?? '', line)
        pieces[file] += `${text}\n`
        if (pieces[file].length >= PIECE) await flush(file)
      }
    }
    for (const kind of KINDS) await flush(kind)
    const written: OutputFiles = { output: null, error: null }
    for (const kind of KINDS) {
      if (!writers[kind]) continue
      await writers[kind].finish()
      written[kind] = writers[kind].id
    }
    return written
  } catch (error) {
    await abort()
    throw error
  }
}

/** Removes what earlier claims of the chunk wrote: of a worker that died, or before the batch was tried again. */
export async function removeEarlier(
  files: Pick<FileStore, 'remove'>,
  chunk: { id: string; epoch: number },
): Promise<void> {
  for (let epoch = 0; epoch < chunk.epoch; epoch++)
    for (const kind of KINDS) await files.remove(outputFileId({ id: chunk.id, epoch }, kind))
}

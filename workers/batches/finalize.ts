import { openAiOutputLine } from '#shared/batches/output.ts'
import { streamResults } from '#shared/db/batches/read-lines.ts'
import type { BatchRow } from '#shared/db/batches/row.ts'
import type { Db } from '#shared/db/pool.ts'
import type { FileStore, FileWriter } from '#shared/files/store.ts'
import { toWire } from '#shared/ids.ts'

export type WriteDeps = { files: FileStore; db: Db }

const KINDS = ['output', 'error'] as const
type Kind = (typeof KINDS)[number]
export type OutputFiles = Record<Kind, string | null>

/** Characters that are buffered before they are written. */
const BUFFER_CHARACTERS = 262_144

/**
 * The id of the file that one claim of a chunk writes. It is computed, so that the next claim can delete files of earlier claims. Two
 * claims never write the same file.
 */
export const outputFileId = (chunk: { id: string; epoch: number }, kind: Kind): string =>
  chunk.id.slice(0, -4) + ((chunk.epoch * KINDS.length + KINDS.indexOf(kind)) % 65_536).toString(16).padStart(4, '0')

/**
 * Writes the results of all lines to an output and an error file. Empty files are not created.
 * @returns null: it was stopped, and its files were deleted
 */
export async function writeOutput(
  { db, files }: WriteDeps,
  batch: BatchRow,
  chunk: { id: string; epoch: number },
  signal: AbortSignal,
): Promise<OutputFiles | null> {
  const writers: Partial<Record<Kind, FileWriter>> = {}
  const buffers = { output: '', error: '' }
  const flush = async (kind: Kind) => {
    if (buffers[kind] === '') return
    const text = buffers[kind]
    buffers[kind] = ''
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
        buffers[file] += `${text}\n`
        if (buffers[file].length >= BUFFER_CHARACTERS) await flush(file)
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

/** Deletes files of earlier claims of the chunk, whose worker died or whose batch was retried. */
export async function removeEarlier(
  files: Pick<FileStore, 'remove'>,
  chunk: { id: string; epoch: number },
): Promise<void> {
  for (let epoch = 0; epoch < chunk.epoch; epoch++)
    for (const kind of KINDS) await files.remove(outputFileId({ id: chunk.id, epoch }, kind))
}

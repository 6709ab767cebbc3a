import { parseConfig } from '#shared/config.ts'
import { createBatch, type NewBatch } from '#shared/db/batches/create.ts'
import { type BatchView, findBatch } from '#shared/db/batches/read.ts'
import { streamResults } from '#shared/db/batches/read-lines.ts'
import { createFileStore } from '#shared/files/store.ts'
import { createLogger } from '#shared/process/logger.ts'
import { newBatch } from '#shared/testing/batches.ts'
import { connect } from '#shared/testing/postgres.ts'
import { until } from './cluster.ts'

type OutputLine = {
  custom_id: string
  response: { status_code: number; body: { error?: { code: string } } } | null
  error: { code: string } | null
}

/** Creates batches like a client, but without the API. */
export function batchesOf({ databaseUrl }: { databaseUrl: string }) {
  const db = connect(databaseUrl)
  const files = createFileStore({
    db,
    config: parseConfig({}),
    logger: createLogger({ level: 'silent', name: 'test' }),
  })
  const read = async (id: string | null) => {
    const found = id === null ? null : await files.read(id)
    if (!found) return null
    const pieces: Uint8Array[] = []
    for await (const piece of found.bytes) pieces.push(piece)
    return Buffer.concat(pieces).toString()
  }
  return {
    db,
    close: () => db.close(),
    /** Stores `text` as a file and creates a batch from it. Only the sweeper dispatches it. */
    async create(text: string, more: Partial<NewBatch> = {}): Promise<string> {
      const batch = newBatch(more)
      const writer = await files.create({ apiKeyId: batch.apiKeyId, purpose: 'batch', filename: 'in.jsonl' })
      for (let at = 0; at < text.length; at += 1_000_000)
        await writer.write(Buffer.from(text.slice(at, at + 1_000_000)))
      await writer.finish()
      await createBatch(db, { ...batch, inputFileId: writer.id })
      return batch.id
    },
    view: (id: string) => findBatch(db, id),
    until: (id: string, what: string, condition: (view: BatchView) => boolean) =>
      until(`the batch ${what}`, async () => {
        // The test may have killed Postgres.
        const view = await findBatch(db, id).catch(() => null)
        return view && condition(view) && view
      }),
    async results(id: string) {
      const lines = []
      for await (const slice of streamResults(db, id)) lines.push(...slice)
      return lines
    },
    /** The lines of an output file. */
    async output(fileId: string | null): Promise<OutputLine[]> {
      const text = await read(fileId)
      return text === null
        ? []
        : text
            .trimEnd()
            .split('\n')
            .map(line => JSON.parse(line))
    },
  }
}

/** A line per marker, whose prompt is the marker and `text`. */
export const jsonl = (markers: string[], body: Record<string, unknown> = {}, text = ''): string =>
  markers
    .map(name =>
      JSON.stringify({
        custom_id: name,
        method: 'POST',
        url: '/v1/chat/completions',
        body: { model: 'claude-haiku-5-5', messages: [{ role: 'user', content: `[[${name}]]${text}` }], ...body },
      }),
    )
    .join('\n')

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { OpenAIBatch } from '../client/index.ts'
import { Failure } from './failure.ts'
import { persistently, type Session } from './session.ts'
import { bytes } from './words.ts'

/** What makes a batch ours: the SHA-256 of its input file, hex. */
const MARK = 'sluice_cli_sha256'
/** No batch lives longer, with much to spare for clocks that are wrong. */
const OLDEST_SECONDS = 2 * 86_400
const UPLOAD_TRIES = 3
const LIVE = ['validating', 'in_progress', 'finalizing']

export type StartOptions = {
  input: string
  endpoint: string
  maxCostUsd: number | null
  /** Also if one with the same input is under way. */
  anew: boolean
}

/** Uploads the file and starts a batch; or comes back to the one that an earlier run started with the same file. */
export async function start(session: Session, options: StartOptions): Promise<{ id: string; found: boolean }> {
  const { client, signal, progress } = session
  const size = await sizeOf(options.input)
  const sha256 = await sha256Of(options.input, signal)
  const mine = (batch: OpenAIBatch) =>
    batch.metadata?.[MARK] === sha256 && batch.endpoint === options.endpoint && LIVE.includes(batch.status)

  // Also the first contact: here a wrong address or key comes out, before the upload and without a second try.
  const running = await findBatch(session, mine)
  if (running && !options.anew) return { id: running.id, found: true }

  progress.say(`uploading ${options.input} (${bytes(size)})`)
  const file = await persistently(session, () => client.files.upload(options.input, { signal }), UPLOAD_TRIES)
  const batch = await persistently(session, async () => {
    // A try before this one may have come through without our getting to know.
    const started = await findBatch(session, one => mine(one) && one.input_file_id === file.id)
    if (started) return started
    return client.batches.create(
      {
        input_file_id: file.id,
        endpoint: options.endpoint,
        metadata: { [MARK]: sha256 },
        ...(options.maxCostUsd !== null && { max_cost_usd: options.maxCostUsd }),
      },
      { idempotencyKey: `sluice-cli-${file.id}`, signal },
    )
  })
  return { id: batch.id, found: false }
}

async function findBatch(session: Session, fits: (batch: OpenAIBatch) => boolean): Promise<OpenAIBatch | null> {
  const oldest = Date.now() / 1000 - OLDEST_SECONDS
  let after: string | undefined
  for (;;) {
    const page = await session.client.batches.list({ limit: 100, ...(after && { after }), signal: session.signal })
    if (!Array.isArray(page.data)) throw new Failure('that is no Sluice server (see --url)')
    const found = page.data.find(fits)
    if (found) return found
    const last = page.data.at(-1)
    if (!page.has_more || !last || last.created_at < oldest) return null
    after = last.id
  }
}

async function sizeOf(path: string): Promise<number> {
  const found = await stat(path)
  if (!found.isFile()) throw new Failure(`${path}: not a regular file`)
  if (found.size === 0) throw new Failure(`${path}: is empty`)
  return found.size
}

async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) {
    signal.throwIfAborted()
    hash.update(piece as Buffer)
  }
  return hash.digest('hex')
}

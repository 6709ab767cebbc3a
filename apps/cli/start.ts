import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { findBatch, findEarlier, marksOf } from './earlier.ts'
import { Failure } from './failure.ts'
import { persistently, type Session } from './session.ts'
import { bytes } from './words.ts'

const MOST_UPLOADS = 3

export type StartOptions = {
  input: string
  output: string
  endpoint: string
  maxCostUsd: number | null
  /** Also if one with the same input is under way or was not fetched. */
  anew: boolean
}

/** `ended`: its answers wait to be fetched. */
export type Started = { id: string; how: 'started' | 'running' | 'ended' }

/** Uploads the file and starts a batch; or comes back to the one that an earlier run started with the same file. */
export async function start(session: Session, options: StartOptions): Promise<Started> {
  const { client, signal, progress } = session
  const { endpoint, output, maxCostUsd } = options
  const size = await sizeOf(options.input)
  const sha256 = await sha256Of(options.input, signal)

  // Also the first contact: here a wrong address or key comes out, before the upload and without a second try.
  const earlier = await findEarlier(session, { sha256, endpoint, output })
  if (earlier && !options.anew) {
    if (!earlier.ended && maxCostUsd !== null) await checkLimit(session, earlier.id, maxCostUsd)
    return { id: earlier.id, how: earlier.ended ? 'ended' : 'running' }
  }

  progress.say(`uploading ${options.input} (${bytes(size)})`)
  const file = await persistently(session, () => client.files.upload(options.input, { signal }), MOST_UPLOADS)
  const batch = await persistently(session, async () => {
    // A try before this one may have come through without our getting to know.
    const started = await findBatch(session, one => one.input_file_id === file.id)
    if (started) return started
    return client.batches.create(
      {
        input_file_id: file.id,
        endpoint,
        metadata: marksOf({ sha256, output }),
        ...(maxCostUsd !== null && { max_cost_usd: maxCostUsd }),
      },
      { idempotencyKey: `sluice-cli-${file.id}`, signal },
    )
  })
  return { id: batch.id, how: 'started' }
}

/** One batch cannot have two limits, and the one that was asked for last must not be taken for the one that holds. */
async function checkLimit({ client, signal, command }: Session, id: string, maxCostUsd: number): Promise<void> {
  const { max_cost_usd } = await client.batches.get(id, { signal })
  if (max_cost_usd === maxCostUsd) return
  const limit = max_cost_usd === null ? 'no limit of its cost' : `--max-cost-usd ${max_cost_usd}`
  throw new Failure(
    `${id} is under way with this file already, with ${limit}: without --max-cost-usd you come back to it, ` +
      `\`${command(`cancel ${id}`)}\` stops it, --anew starts another beside it`,
  )
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

import { Failure } from './failure.ts'
import { findBatch, findEarlier, marksOf } from './find-batch.ts'
import { bytes } from './format.ts'
import { type Input, openInput } from './input.ts'
import { persistently, type Session } from './session.ts'

const MAX_UPLOADS = 3

export type StartOptions = {
  /** A path; `-`: standard input. */
  input: string
  /** A path; `-`: standard output. */
  output: string
  endpoint: string
  maxCostUsd: number | null
  /** Start a new batch even if one with the same input is running or was not downloaded. */
  anew: boolean
}

/** `ended`: the answers can be downloaded. */
export type Started = { id: string; how: 'started' | 'running' | 'ended' }

/** Uploads the input and starts a batch, or finds the batch that an earlier run started with the same file. */
export async function start(session: Session, options: StartOptions): Promise<Started> {
  const input = await openInput(options.input, session.stdin, session.signal)
  try {
    return await startWith(session, options, input)
  } finally {
    await input.close()
  }
}

async function startWith(session: Session, options: StartOptions, input: Input): Promise<Started> {
  const { client, signal, progress } = session
  const { endpoint, output, maxCostUsd } = options
  const { sha256, filename } = input

  // The first request: a wrong URL or key fails here, before the upload and without retries.
  const earlier = await findEarlier(session, { sha256, endpoint, output })
  if (earlier && !options.anew) {
    if (!earlier.ended && maxCostUsd !== null) await checkLimit(session, earlier.id, maxCostUsd)
    return { id: earlier.id, how: earlier.ended ? 'ended' : 'running' }
  }

  progress.say(`uploading ${input.label} (${bytes(input.size)})`)
  const upload = () => client.files.upload(input.read(), { filename, signal })
  const file = await persistently(session, upload, MAX_UPLOADS)
  const batch = await persistently(session, async () => {
    // An earlier try may have succeeded without an answer.
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

/** A running batch keeps its limit, so another one must not seem to apply. */
async function checkLimit({ client, signal, command }: Session, id: string, maxCostUsd: number): Promise<void> {
  const { max_cost_usd } = await client.batches.get(id, { signal })
  if (max_cost_usd === maxCostUsd) return
  const limit = max_cost_usd === null ? 'no cost limit' : `--max-cost-usd ${max_cost_usd}`
  throw new Failure(
    `${id} with this input is running already, with ${limit}. Resume it without --max-cost-usd, ` +
      `cancel it with \`${command(`cancel ${id}`)}\`, or start a new batch with --anew`,
  )
}

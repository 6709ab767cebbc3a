import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { cancelBatch } from '#shared/db/batches/cancel.ts'
import { type CreateOutcome, createBatch, type NewBatch, validationJob } from '#shared/db/batches/create.ts'
import { type BatchView, findBatch, readBatch } from '#shared/db/batches/read.ts'
import { type Db, isDuplicate, isUnavailable } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, newId } from '#shared/ids.ts'
import { targetProblem } from '#shared/webhooks/target.ts'
import type { ApiDeps } from '../deps.ts'
import { mayAccess } from '../http/auth.ts'
import { mismatch, requestHash } from '../http/idempotency.ts'
import { invalid } from '../http/receive-file.ts'
import { NO_TOKENS } from '../tasks/usage-json.ts'

/** Shared by the native and the OpenAI-compatible batch routes. */

type WithId = FastifyRequest<{ Params: { id: string } }>

/** The batch named in the path, if the key may see it. @throws SluiceError batch_not_found */
export async function ownBatch(deps: Pick<ApiDeps, 'db'>, request: WithId): Promise<BatchView> {
  const id = fromWire('batch', request.params.id)
  const batch = id && (await findBatch(deps.db, id))
  if (batch && mayAccess(request.apiKey, batch.api_key_id)) return batch
  const wire = request.params.id.slice(0, 100)
  throw new SluiceError('batch_not_found', `No batch found with id '${wire}'.`, { context: { field: '/id' } })
}

/** Cancels a batch. Repeating it succeeds. @throws SluiceError batch_not_found, batch_finished */
export async function cancelOwnBatch(deps: Pick<ApiDeps, 'db'>, request: WithId): Promise<BatchView> {
  const { id, status } = await ownBatch(deps, request)
  if ((await cancelBatch(deps.db, id)) === 'not_cancellable')
    throw new SluiceError('batch_finished', `The batch is ${status}.`, { context: { status } })
  return await ownBatch(deps, request)
}

/**
 * Inserts the batch, then dispatches its validation. The sweeper dispatches it if this fails.
 * @param once the Idempotency-Key, and an identifier of the input. A repeated request gets the existing batch in its present state.
 * @throws SluiceError idempotency_mismatch
 */
export async function acceptBatch(
  { db, producer, metrics }: Pick<ApiDeps, 'db' | 'producer' | 'metrics'>,
  batch: Omit<NewBatch, 'id' | 'idempotency'>,
  once: { key: string | null; input: string },
): Promise<BatchView> {
  const { inputFileId: _, traceparent: __, ...settings } = batch
  const hash = requestHash({ ...settings, input: once.input })
  const idempotency = once.key === null ? null : { key: once.key, requestHash: hash }
  const outcome = await createDespiteOutage(db, { ...batch, id: newId(), idempotency })
  if (outcome.kind === 'exists') {
    if (!outcome.requestHash.equals(hash)) throw mismatch()
    const earlier = await findBatch(db, outcome.id)
    if (!earlier) throw new SluiceError('batch_not_found')
    return earlier
  }
  const row = outcome.batch
  metrics.batchesAccepted.inc({ surface: batch.surface })
  producer.dispatch(validationJob(row)).catch(() => undefined)
  return {
    ...row,
    ...{ succeeded: 0, failed: 0, cancelled: 0, expired: 0, cost_usd: '0' },
    ...NO_TOKENS,
    rate: null,
    eta_seconds: null,
  }
}

const MAX_TRIES = 8
const RETRY_MS = 250

/**
 * Retries while Postgres is unavailable. An insert that was committed although its response was lost must not be reported as a
 * failure: the client would start a second batch and pay for the file twice.
 */
async function createDespiteOutage(db: Db, batch: NewBatch): Promise<CreateOutcome> {
  for (let tries = 1; ; tries++) {
    try {
      const outcome = await createBatch(db, batch)
      const own = outcome.kind === 'exists' && outcome.id === batch.id ? await readBatch(db, batch.id) : null
      return own ? { kind: 'created', batch: own } : outcome
    } catch (error) {
      const created = tries > 1 && isDuplicate(error) ? await readBatch(db, batch.id) : null
      if (created) return { kind: 'created', batch: created }
      if (tries === MAX_TRIES || !isUnavailable(error)) throw error
      await sleep(RETRY_MS)
    }
  }
}

/** The normalized webhook URL of a batch. @throws SluiceError invalid_request, naming `field` */
export function webhookTarget(
  { config }: Pick<ApiDeps, 'config'>,
  url: string | undefined,
  field: string,
): string | null {
  if (url === undefined) return null
  const wrong = targetProblem(url, config.webhookTargets)
  if (wrong) throw invalid(field, wrong)
  return new URL(url).href
}

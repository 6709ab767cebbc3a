import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import {
  type BatchView,
  type CreateOutcome,
  cancelBatch,
  createBatch,
  findBatch,
  type NewBatch,
  readBatch,
  validateJob,
} from '#shared/db/batches.ts'
import { type Db, isDuplicate, isUnavailable } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, newId } from '#shared/ids.ts'
import { assertTarget } from '#shared/webhooks/target.ts'
import type { ApiDeps } from './deps.ts'
import { mismatch, requestHash } from './idempotency.ts'
import { invalid } from './receive-file.ts'

/** What both surfaces of batches have in common. */

type WithId = FastifyRequest<{ Params: { id: string } }>

/** A batch that this key may see. @throws batch_not_found */
export async function ownBatch(deps: Pick<ApiDeps, 'db'>, request: WithId): Promise<BatchView> {
  const id = fromWire('batch', request.params.id)
  const batch = id && (await findBatch(deps.db, id))
  const { apiKey } = request
  if (batch && (batch.api_key_id === apiKey.id || apiKey.scopes.includes('admin'))) return batch
  const wire = request.params.id.slice(0, 100)
  throw new SluiceError('batch_not_found', `No batch found with id '${wire}'.`, { context: { field: '/id' } })
}

/** Stops a batch that is under way; one that is being cancelled stays so. @throws batch_not_found, batch_finished */
export async function cancelOwn(deps: Pick<ApiDeps, 'db'>, request: WithId): Promise<BatchView> {
  const { id, status } = await ownBatch(deps, request)
  if ((await cancelBatch(deps.db, id)) === 'not_cancellable')
    throw new SluiceError('batch_finished', `The batch is ${status}.`, { context: { status } })
  return await ownBatch(deps, request)
}

/**
 * The row first, then the queue; what does not reach the queue, the sweeper brings there.
 * @param once the Idempotency-Key of the request, and what tells its input from another: a repetition gets the batch that is
 * there, as it is now
 * @throws idempotency_mismatch
 */
export async function acceptBatch(
  { db, producer, metrics }: Pick<ApiDeps, 'db' | 'producer' | 'metrics'>,
  batch: Omit<NewBatch, 'id' | 'idempotency'>,
  once: { key: string | null; input: string },
): Promise<BatchView> {
  const { inputFileId: _, traceparent: __, ...asked } = batch
  const hash = requestHash({ ...asked, input: once.input })
  const idempotency = once.key === null ? null : { key: once.key, requestHash: hash }
  const outcome = await createSurely(db, { ...batch, id: newId(), idempotency })
  if (outcome.kind === 'exists') {
    if (!outcome.requestHash.equals(hash)) throw mismatch()
    const earlier = await findBatch(db, outcome.id)
    if (!earlier) throw new SluiceError('batch_not_found')
    return earlier
  }
  const row = outcome.batch
  metrics.batchesAccepted.inc({ surface: batch.surface })
  producer.dispatch(validateJob(row)).catch(() => undefined)
  return {
    ...row,
    ...{ succeeded: 0, failed: 0, cancelled: 0, expired: 0, input_tokens: 0, output_tokens: 0, cost_usd: '0' },
    rate: null,
    eta_seconds: null,
  }
}

const CREATE_TRIES = 8
const AGAIN_MS = 250

/**
 * What was committed although its answer was lost must not be told as a failure: the client would start another batch,
 * and pay for the file twice.
 */
async function createSurely(db: Db, batch: NewBatch): Promise<CreateOutcome> {
  for (let tries = 1; ; tries++) {
    try {
      const outcome = await createBatch(db, batch)
      const own = outcome.kind === 'exists' && outcome.id === batch.id ? await readBatch(db, batch.id) : null
      return own ? { kind: 'created', batch: own } : outcome
    } catch (error) {
      const made = tries > 1 && isDuplicate(error) ? await readBatch(db, batch.id) : null
      if (made) return { kind: 'created', batch: made }
      if (tries === CREATE_TRIES || !isUnavailable(error)) throw error
      await sleep(AGAIN_MS)
    }
  }
}

/** Where a batch's end is told, as it is stored. @throws invalid_request, naming `field` */
export function targetOf({ config }: Pick<ApiDeps, 'config'>, url: string | undefined, field: string): string | null {
  if (url === undefined) return null
  const wrong = assertTarget(url, config.webhookTargets)
  if (wrong) throw invalid(field, wrong)
  return new URL(url).href
}

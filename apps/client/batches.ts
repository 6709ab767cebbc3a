import { randomUUID } from 'node:crypto'
import { SluiceApiError } from './errors.ts'
import { query } from './files.ts'
import type { Http, RequestOptions } from './http.ts'
import type { Batch, BatchRequest, BatchStatus, OpenAIBatch, Page } from './types.ts'

export const batchHasEnded = (status: BatchStatus): boolean =>
  status === 'completed' || status === 'failed' || status === 'expired' || status === 'cancelled'

export function createBatches(http: Http) {
  const native = (id: string) => `/api/v1/batches/${encodeURIComponent(id)}`
  const openai = (id: string) => `/v1/batches/${encodeURIComponent(id)}`

  const retrieve = (id: string, { signal }: RequestOptions = {}) =>
    http.json<OpenAIBatch>({ method: 'GET', path: openai(id), repeatable: true, signal })

  return {
    /** Starts a batch. A repetition after a broken connection returns the same batch, by its Idempotency-Key. */
    create: (
      { completion_window = '24h', ...request }: BatchRequest,
      { idempotencyKey = randomUUID(), signal }: RequestOptions & { idempotencyKey?: string } = {},
    ) =>
      http.json<OpenAIBatch>({
        method: 'POST',
        path: '/v1/batches',
        json: { ...request, completion_window },
        headers: { 'idempotency-key': idempotencyKey },
        repeatable: true,
        signal,
      }),

    /** The batch with its progress. */
    get: (id: string, { signal }: RequestOptions = {}) =>
      http.json<Batch>({ method: 'GET', path: native(id), repeatable: true, signal }),

    /** The batch in the format of OpenAI's API, with its metadata. */
    retrieve,

    /** Lists batches, newest first. */
    list: ({ after, limit, signal }: RequestOptions & { after?: string; limit?: number } = {}) =>
      http.json<Page<OpenAIBatch>>({
        method: 'GET',
        path: `/v1/batches${query({ after, limit })}`,
        repeatable: true,
        signal,
      }),

    /** Cancels a batch; existing answers are kept. @throws SluiceApiError (409) if it has ended otherwise */
    async cancel(id: string, { signal }: RequestOptions = {}): Promise<OpenAIBatch> {
      try {
        return await http.json<OpenAIBatch>({ method: 'POST', path: `${openai(id)}/cancel`, repeatable: true, signal })
      } catch (error) {
        if (!(error instanceof SluiceApiError && error.status === 409)) throw error
        // A repetition of a cancellation whose answer was lost.
        const batch = await retrieve(id, { signal })
        if (batch.status !== 'cancelling' && batch.status !== 'cancelled') throw error
        return batch
      }
    },

    /** Runs the failed lines again. */
    retry: (id: string, { signal }: RequestOptions = {}) =>
      http.json<Batch>({ method: 'POST', path: `${native(id)}/retry`, repeatable: false, signal }),
  }
}

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
    /** Asked for again when the connection breaks, it is the same batch: by its Idempotency-Key. */
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

    /** With its progress. */
    get: (id: string, { signal }: RequestOptions = {}) =>
      http.json<Batch>({ method: 'GET', path: native(id), repeatable: true, signal }),

    /** As OpenAI's API has it, with its metadata. */
    retrieve,

    /** Newest first. */
    list: ({ after, limit, signal }: RequestOptions & { after?: string; limit?: number } = {}) =>
      http.json<Page<OpenAIBatch>>({
        method: 'GET',
        path: `/v1/batches${query({ after, limit })}`,
        repeatable: true,
        signal,
      }),

    /** Lines that have been answered keep their answers. @throws SluiceApiError (409) if it ended some other way before */
    async cancel(id: string, { signal }: RequestOptions = {}): Promise<OpenAIBatch> {
      try {
        return await http.json<OpenAIBatch>({ method: 'POST', path: `${openai(id)}/cancel`, repeatable: true, signal })
      } catch (error) {
        if (!(error instanceof SluiceApiError && error.status === 409)) throw error
        // A cancellation whose answer was lost on the way has been made again.
        const batch = await retrieve(id, { signal })
        if (batch.status !== 'cancelling' && batch.status !== 'cancelled') throw error
        return batch
      }
    },

    /** Runs the lines that failed once more. */
    retry: (id: string, { signal }: RequestOptions = {}) =>
      http.json<Batch>({ method: 'POST', path: `${native(id)}/retry`, repeatable: false, signal }),
  }
}

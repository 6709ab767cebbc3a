import { createBatches } from './batches.ts'
import { createFiles } from './files.ts'
import { type ClientOptions, createHttp } from './http.ts'
import { createTasks } from './tasks.ts'

/**
 * A client of Sluice's HTTP API, without dependencies. Errors are `SluiceApiError` and `SluiceConnectionError`. Requests
 * that are harmless to repeat are retried with backoff while the server is unavailable (no connection, 502 to 504); after
 * 429 every request is.
 */
export function createClient(options: ClientOptions) {
  const http = createHttp(options)
  return { tasks: createTasks(http), files: createFiles(http), batches: createBatches(http) }
}

export type Client = ReturnType<typeof createClient>

export { batchHasEnded } from './batches.ts'
export { SluiceApiError, SluiceConnectionError } from './errors.ts'
export type { UploadOptions } from './files.ts'
export type { ClientOptions, RequestOptions } from './http.ts'
export { hasEnded, type SubmitOptions } from './tasks.ts'
export type * from './types.ts'

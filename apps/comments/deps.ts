import type { FastifyBaseLogger } from 'fastify'
import type { Metrics } from './metrics.ts'
import type { Moderation } from './moderation.ts'
import type { Store } from './store.ts'

/** What the routes are made with. */
export type CommentsDeps = {
  store: Store
  moderation: Moderation
  metrics: Metrics
  log: FastifyBaseLogger
  stopping: AbortSignal
}

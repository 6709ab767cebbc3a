import type { Scale } from '#shared/autoscale/scale.ts'
import type { Cache } from '#shared/cache/cache.ts'
import type { Config } from '#shared/config.ts'
import type { Db } from '#shared/db/pool.ts'
import type { FinishTask } from '#shared/db/tasks/finish.ts'
import type { InsertOutcome } from '#shared/db/tasks/insert.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import type { TaskState, TaskView } from '#shared/db/tasks/read.ts'
import type { Notifications } from '#shared/events/notifications.ts'
import type { TaskWatcher } from '#shared/events/task-watcher.ts'
import type { FileStore } from '#shared/files/store.ts'
import type { Gate } from '#shared/gate/gate.ts'
import type { LimitsReader } from '#shared/gate/limits.ts'
import type { InputContext, JobKind } from '#shared/jobs/define.ts'
import type { Search } from '#shared/jobs/input-context.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { Prices } from '#shared/models/prices.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { Producer } from '#shared/queue/producer.ts'
import type { Redis } from '#shared/redis/connect.ts'
import type { RedisHealth } from '#shared/redis/health.ts'
import type { Take } from '#shared/redis/key-limiter.ts'
import type { AvailableProvider } from '#shared/routing.ts'
import type { ProviderRegistry } from '#shared/settings/merge.ts'
import type { Tracing } from '#shared/tracing/tracing.ts'
import type { BatchFeed } from './batches/batch-feed.ts'
import type { WriteCollection } from './collections/collection-concurrency.ts'
import type { Experiments } from './experiments/exposures.ts'
import type { ApiKeys } from './http/api-keys.ts'
import type { ResponseMemory } from './http/response-memory.ts'
import type { StreamLimit } from './http/stream-limit.ts'
import type { DirectLane } from './live/lane.ts'
import type { LiveClients } from './live/live-clients.ts'
import type { Retries } from './live/retries.ts'
import type { ProviderStatusReader } from './providers/provider-status.ts'
import type { Preflight } from './tasks/preflight.ts'
import type { Headroom } from './tasks/queue-headroom.ts'

/** Dependencies of routes and plugins, created in `server.ts`. */
export type ApiDeps = {
  config: Config
  db: Db
  redis: Redis
  /** `cache`: only if the cache has a Redis of its own. */
  redisHealth: { redis: RedisHealth; cache?: RedisHealth }
  jobs: ReadonlyMap<string, JobKind>
  insert(task: NewTask): Promise<InsertOutcome>
  /** @throws SluiceError server_busy, if its result is large */
  view(id: string): Promise<TaskView | null>
  responseMemory: ResponseMemory
  state(id: string): Promise<TaskState | null>
  finishTask: FinishTask
  /** @throws SluiceError server_busy */
  search: Search
  /** @throws SluiceError server_busy */
  writeCollection: WriteCollection
  /** The documents and databases that one submission of the key may refer to. */
  lookup(apiKeyId: string): InputContext
  producer: Producer
  headroom: Headroom
  cache: Pick<Cache, 'get'>
  preflight: Preflight
  /** The providers of the settings, with the models that their servers last listed. */
  available(): AvailableProvider[]
  providerRegistry: ProviderRegistry
  experiments: Experiments
  prices: Prices
  files: FileStore
  /** The API reads the gate and sets limits; it acquires no permits. */
  gate: Pick<Gate, 'describe' | 'targets' | 'setLimits'>
  limits: LimitsReader
  providerStatus: ProviderStatusReader
  /** Memory of each Redis. @throws if one does not answer */
  redisMemory(): Promise<{ redis: 'queue' | 'cache'; usedBytes: number; maxBytes: number; evicts: boolean }[]>
  scale: Scale
  notifications: Notifications
  watcher: TaskWatcher
  batchFeed: BatchFeed
  /** Limits the open event streams of this process. */
  streams: StreamLimit
  direct: DirectLane
  liveClients: LiveClients
  retries: Retries
  keys: ApiKeys
  take(keyId: string, limit: number): Promise<Take>
  metrics: Metrics
  tracing: Tracing | null
  logger: Logger
  /** Aborted when the server starts to stop: waiting requests then answer with the current state. */
  draining: AbortSignal
}

import type { Scale } from '#shared/autoscale/scale.ts'
import type { Cache } from '#shared/cache.ts'
import type { Config } from '#shared/config.ts'
import type { InsertOutcome, NewTask } from '#shared/db/insert.ts'
import type { Db } from '#shared/db/pool.ts'
import type { Ender } from '#shared/db/tasks.ts'
import type { TaskState, TaskView } from '#shared/db/views.ts'
import type { Hints } from '#shared/events/hints.ts'
import type { Watcher } from '#shared/events/watch.ts'
import type { FileStore } from '#shared/files/store.ts'
import type { Gate } from '#shared/gate/gate.ts'
import type { LimitsReader } from '#shared/gate/limits.ts'
import type { JobKind, Lookup } from '#shared/jobs/define.ts'
import type { Take } from '#shared/key-limiter.ts'
import type { Logger } from '#shared/logger.ts'
import type { Search } from '#shared/lookup.ts'
import type { Metrics } from '#shared/metrics.ts'
import type { Prices } from '#shared/models/prices.ts'
import type { Producer } from '#shared/queue/producer.ts'
import type { Redis } from '#shared/redis.ts'
import type { Tracing } from '#shared/tracing/tracing.ts'
import type { Afford } from './afford.ts'
import type { CollectionWrites } from './collection-writes.ts'
import type { Experiments } from './experiments.ts'
import type { Fleet } from './fleet.ts'
import type { KeyRing } from './key-ring.ts'
import type { Outbox } from './outbox.ts'
import type { Room } from './room.ts'

/** What the HTTP face works with. Made in `server.ts`; routes and plugins take what they need. */
export type ApiDeps = {
  config: Config
  db: Db
  redis: Redis
  jobs: ReadonlyMap<string, JobKind>
  insert(task: NewTask): Promise<InsertOutcome>
  /** @throws SluiceError server_busy, if its result is large */
  view(id: string): Promise<TaskView | null>
  outbox: Outbox
  state(id: string): Promise<TaskState | null>
  end: Ender
  /** @throws SluiceError server_busy */
  search: Search
  /** @throws SluiceError server_busy */
  writeCollection: CollectionWrites
  /** What inputs of a key may refer to, for one submission. */
  lookup(apiKeyId: string): Lookup
  producer: Producer
  room: Room
  cache: Pick<Cache, 'get'>
  afford: Afford
  experiments: Experiments
  prices: Prices
  files: FileStore
  /** The API makes no calls: it looks, and sets limits. */
  gate: Pick<Gate, 'describe' | 'targets' | 'setLimits'>
  limits: LimitsReader
  fleet: Fleet
  /** Of each Redis. @throws if one does not answer */
  redisMemory(): Promise<{ redis: 'queue' | 'cache'; usedBytes: number; maxBytes: number; evicts: boolean }[]>
  scale: Scale
  hints: Hints
  watcher: Watcher
  keys: KeyRing
  take(keyId: string, limit: number): Promise<Take>
  metrics: Metrics
  tracing: Tracing | null
  logger: Logger
  /** Aborted when the server begins to stop: whoever waits answers with what there is. */
  draining: AbortSignal
}

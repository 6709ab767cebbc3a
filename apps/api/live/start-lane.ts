import { hostname } from 'node:os'
import type { Config } from '#shared/config.ts'
import type { Core } from '#shared/core/core.ts'
import { createTaskRunners } from '#shared/core/task-runners.ts'
import { deregisterWorker } from '#shared/db/workers.ts'
import { createClaimRegistry } from '#shared/engine/claim-registry.ts'
import { newId } from '#shared/ids.ts'
import { startHeartbeat } from '#shared/process/heartbeat.ts'
import { type Lifecycle, withDeadline } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { createDirectLane, type DirectLane } from './lane.ts'

/**
 * Starts the engine in an API process. The process writes heartbeats like a worker, so that the sweeper hands its tasks to the queue
 * when it dies; it serves no queue.
 */
export async function startDirectLane({
  core,
  config,
  lifecycle,
  logger,
}: {
  core: Core
  config: Config
  lifecycle: Lifecycle
  logger: Logger
}): Promise<DirectLane> {
  const { db, notifications } = core
  const { liveness } = config
  const processId = newId()
  const claimRegistry = createClaimRegistry()
  const draining = () => lifecycle.stopping
  lifecycle.defer(
    'ended tasks',
    notifications.onEnded(id => claimRegistry.stop('lost', { id })),
  )
  const runners = createTaskRunners({
    core,
    config,
    lifecycle,
    logger,
    workerId: processId,
    claimRegistry,
    queries: null,
    demoMs: 0,
    draining,
    untilHealthy: () => heartbeat.untilHealthy(),
    continuesWithoutRedis: true,
  })
  const heartbeat = await startHeartbeat({
    db,
    held: claimRegistry,
    liveness,
    logger,
    describe: async () => ({
      id: processId,
      pid: process.pid,
      host: hostname(),
      queues: [],
      concurrency: 0,
      active: claimRegistry.size,
      metricsPort: null,
      providers: await runners.health.states(),
      fetchedAgoMs: null,
    }),
  })
  // Released after everything that claims: a process with claims must keep its heartbeat and its row.
  lifecycle.defer('heartbeat', async () => {
    await heartbeat.stop()
    if (claimRegistry.size === 0) await deregisterWorker(db, processId)
  })
  const lane = createDirectLane({ runNew: runners.runNew, slots: config.DIRECT_CONCURRENCY, draining })
  lifecycle.defer(
    'direct lane',
    async () => {
      // Their clients have had DRAIN_SECONDS; the tasks continue in the queue.
      claimRegistry.stop('drain')
      await withDeadline(lane.idle(), 5000)
    },
    6000,
  )
  return lane
}

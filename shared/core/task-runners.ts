import type { Config } from '#shared/config.ts'
import type { Core } from '#shared/core/core.ts'
import { createPrecomputedFinder } from '#shared/db/precomputed.ts'
import type { QueryDatabase } from '#shared/db/query-database.ts'
import { createFinisher, type FinishTask } from '#shared/db/tasks/finish.ts'
import { createFollower } from '#shared/db/tasks/follow.ts'
import { createInserter } from '#shared/db/tasks/insert.ts'
import { createTaskLoader } from '#shared/db/tasks/load.ts'
import { createAdmission } from '#shared/engine/admit.ts'
import { createAnswerMemory } from '#shared/engine/answer-memory.ts'
import { call } from '#shared/engine/call.ts'
import { check } from '#shared/engine/check.ts'
import { createClaimStage } from '#shared/engine/claim.ts'
import type { ClaimRegistry } from '#shared/engine/claim-registry.ts'
import { createCoalescing } from '#shared/engine/coalescing.ts'
import { createProcessLimits } from '#shared/engine/process-limits.ts'
import { createProviderHealth } from '#shared/engine/provider-health.ts'
import type { RunDeps } from '#shared/engine/run.ts'
import { createRunner } from '#shared/engine/runner.ts'
import { createSettle } from '#shared/engine/settle.ts'
import { MAX_NUMBERS } from '#shared/jobs/embed.ts'
import { jobs, resultsWithoutVerdict } from '#shared/jobs/index.ts'
import { createFetchImage } from '#shared/media/fetch-image.ts'
import { createInlineImages } from '#shared/media/inline-images.ts'
import { createModelLabel } from '#shared/metrics/model-label.ts'
import { createPrices } from '#shared/models/prices.ts'
import type { Lifecycle } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { DEAD_END_KINDS } from '#shared/providers/define.ts'
import { DEMO_PRICE, demo, demoWindow } from '#shared/providers/demo.ts'
import { createProviders } from '#shared/providers/index.ts'
import { declaredParts } from '#shared/settings/available.ts'
import { createAvailableProviders } from '../engine/available-providers.ts'
import { createRecovery } from '../engine/recovery.ts'
import { startScores } from '../engine/scores.ts'
import { createTracedRunner } from '../engine/traced-runner.ts'

/**
 * No client waits for a single batch line. Statements that gather lines for this time carry dozens of them instead of a few,
 * which halves the CPU per line, here and in Postgres.
 */
const LINE_LINGER_MS = 5

/** Numbers in vectors that one process may hold, at about 60 bytes each between a provider and Postgres. */
const MAX_VECTOR_NUMBERS = 4 * MAX_NUMBERS

export type TaskRunnersOptions = {
  core: Core
  config: Config
  lifecycle: Lifecycle
  logger: Logger
  workerId: string
  claimRegistry: ClaimRegistry
  queries: QueryDatabase | null
  /** How long the demo provider stands in while no other is available, milliseconds; 0: never. */
  demoMs: number
  draining: () => boolean
  untilHealthy: () => Promise<void>
  /** Without Redis, calls are made within the limits of each process, instead of waiting. */
  continuesWithoutRedis?: boolean
}

/**
 * Connects the engine to the providers. `run` runs a queued task, `runLine` a batch line, `runNew` a task that is not stored yet, for
 * a client that waits.
 */
export function createTaskRunners(options: TaskRunnersOptions) {
  const { core, config, lifecycle, logger, workerId, claimRegistry, queries, demoMs, draining, untilHealthy } = options
  const { db, redis, gate, producer, metrics, tracing, modelLists } = core
  const prefix = config.REDIS_PREFIX
  const registry = core.providerRegistry
  const pricesNow = () => (demoMs > 0 ? [...registry.current().prices, DEMO_PRICE] : registry.current().prices)
  const prices = createPrices(pricesNow())
  const modelLabel = createModelLabel(prices)
  const createAll = () => createProviders(registry.current().providers, config.proxies)
  const providers = createAll()
  /** Keeps providers that have been removed, for tasks that are about to call them. */
  const callable = new Map(demoMs > 0 ? [...providers, [demo.name, demo]] : providers)
  registry.onChange(() => {
    prices.replace(pricesNow())
    replaceEntries(providers, createAll())
    for (const [name, provider] of providers) callable.set(name, provider)
  })
  const wake = (ids: string[]) => producer.wake(ids)

  const recovery = createRecovery({ redis, prefix, providers, halfOpen: gate.halfOpen, wake, logger })
  const admission = createAdmission({
    gate,
    wake,
    park: recovery.park,
    processLimits: options.continuesWithoutRedis ? createProcessLimits(core.limits.of) : undefined,
    metrics,
    logger,
  })
  lifecycle.defer('admission', () => admission.stop())
  const scores = startScores({ gate, onStates: recovery.observe, logger })
  lifecycle.defer('scores', () => scores.stop())

  const configOf = (name: string) => registry.current().providers.find(one => one.name === name)
  const configured = () =>
    registry
      .current()
      .providers.filter(one => one.explicit)
      .map(one => one.name)
  const available = createAvailableProviders(providers, {
    lists: modelLists,
    declared: name => {
      const own = configOf(name)
      return own ? declaredParts(own, registry.current()) : {}
    },
    explicit: name => configOf(name)?.explicit ?? false,
    configuration: registry.current,
    ...(demoMs > 0 && { demo: demoWindow(demoMs) }),
  })
  const health = createProviderHealth({ configured, available })
  const answerMemory = createAnswerMemory(MAX_VECTOR_NUMBERS)
  const inlineImages = createInlineImages(createFetchImage({ policy: config.webhookTargets, proxies: config.proxies }))
  const callDeps = {
    providers: callable,
    redis,
    notifications: core.notifications,
    prefix,
    metrics,
    modelLabel,
    timeoutMs: config.CALL_TIMEOUT_SECONDS * 1000,
  }

  const create = (deps: RunDeps) =>
    tracing ? createTracedRunner(tracing, deps, () => registry.current().providers) : createRunner(deps)
  const runnerWith = (end: FinishTask, lingerMs: number) =>
    create({
      workerId,
      store: createInserter(db),
      answerMemory,
      jobs,
      load: createTaskLoader(db, DEAD_END_KINDS, lingerMs),
      available,
      inlineImages,
      reported: ({ provider, model }, signal) => callable.get(provider)?.capabilities?.(model, signal) ?? null,
      health,
      coalescing: createCoalescing({ cache: core.cache, follow: createFollower(db), metrics }),
      scores: scores.read,
      prices,
      admission,
      limitsOf: core.limits.of,
      precomputed: createPrecomputedFinder(db),
      claims: createClaimStage(db, workerId, claimRegistry, untilHealthy, lingerMs),
      call: input => call(callDeps, input),
      check,
      settle: createSettle({ db, workerId, end, producer, prices, modelLabel, metrics }),
      metrics,
      tools: { runQuery: queries ? queries.run : null },
      claimRegistry,
      draining,
      maxAttempts: config.MAX_ATTEMPTS,
      backoff: { baseMs: config.BACKOFF_BASE_MS, maxMs: config.BACKOFF_MAX_MS },
      logger,
    })

  const tasks = runnerWith(core.finishTask, 0)
  // Lines share statements with each other, not with a task whose client waits; no client waits for the end of one line.
  const lines = runnerWith(
    createFinisher(db, core.countEnded, { lingerMs: LINE_LINGER_MS, noVerdicts: resultsWithoutVerdict }),
    LINE_LINGER_MS,
  )
  return {
    run: tasks.run,
    runNew: tasks.runNew,
    runLine: lines.run,
    available,
    health,
    prices,
    providerNames: [...providers.keys()],
  }
}

function replaceEntries<K, V>(map: Map<K, V>, entries: ReadonlyMap<K, V>): void {
  map.clear()
  for (const [key, value] of entries) map.set(key, value)
}

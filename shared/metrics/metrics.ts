import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { batchMetrics } from './batch-metrics.ts'
import { deliveryMetrics } from './delivery-metrics.ts'
import { fleetMetrics } from './fleet-metrics.ts'
import { resourceMetrics } from './resource-metrics.ts'
import { taskMetrics } from './task-metrics.ts'

/** The stages of a task, in order. The provider call is measured separately. */
export const STAGES = ['accept', 'queue', 'gate', 'claim', 'check', 'settle'] as const

export type Metrics = ReturnType<typeof createMetrics>

/** All metrics of a process, on one private registry. Label values come from closed sets, never from ids or from clients. */
export function createMetrics(part: 'api' | 'worker') {
  const registry = new Registry()
  registry.setDefaultLabels({ part })
  collectDefaultMetrics({ register: registry })
  const registers: [Registry] = [registry]
  return {
    registry,
    ...taskMetrics(registers),
    ...fleetMetrics(registers),
    ...resourceMetrics(registers),
    ...batchMetrics(registers),
    ...deliveryMetrics(registers),
  }
}

/** The process that records each metric. */
export const METRIC_PROCESS = {
  httpSeconds: 'api',
  accepted: 'api',
  ended: 'both',
  taskSeconds: 'both',
  stageSeconds: 'both',
  answers: 'both',
  attempts: 'worker',
  callSeconds: 'worker',
  firstChunkSeconds: 'worker',
  tokens: 'worker',
  cost: 'worker',
  overReserved: 'worker',
  permitWaits: 'worker',
  cache: 'both',
  active: 'worker',
  lastFetch: 'worker',
  queueDepth: 'api',
  scaleWanted: 'api',
  fleetSlots: 'api',
  fleetWorkers: 'api',
  oldestWait: 'api',
  providerConfigLoads: 'both',
  fleetReplaced: 'api',
  budgetRemaining: 'api',
  budgetRatio: 'api',
  permits: 'api',
  limitUsed: 'api',
  redisBytes: 'api',
  redisEvicts: 'api',
  redisWritable: 'both',
  connections: 'both',
  breakerState: 'api',
  batchLines: 'worker',
  batchChunks: 'worker',
  batchesAccepted: 'api',
  batchesEnded: 'worker',
  batchesLive: 'api',
  dispatchedLater: 'both',
  webhookAttempts: 'worker',
  webhooksEnded: 'worker',
  webhooksPending: 'api',
  webhooksOverdue: 'api',
  spansDropped: 'both',
  swept: 'both',
} satisfies Record<Exclude<keyof Metrics, 'registry'>, 'api' | 'worker' | 'both'>

/** The metrics as a Markdown table, for docs/metrics.md. */
export function metricsTable(): string {
  const metrics = createMetrics('api')
  const typeOf = (metric: unknown) =>
    metric instanceof Counter ? 'counter' : metric instanceof Gauge ? 'gauge' : 'histogram'
  const rows = Object.entries(METRIC_PROCESS).map(([key, process]) => {
    const metric = metrics[key as keyof typeof METRIC_PROCESS]
    // prom-client declares neither, but keeps both as they were given.
    const { name, help, labelNames } = metric as unknown as { name: string; help: string; labelNames: string[] }
    const labels = labelNames.map(label => `\`${label}\``).join(', ')
    return `| \`${name}\` | ${typeOf(metric)} | ${labels} | ${process} | ${help}. |`
  })
  return ['| metric | type | labels | process | meaning |', '|---|---|---|---|---|', ...rows].join('\n')
}

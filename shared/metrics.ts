import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]

export type Metrics = ReturnType<typeof createMetrics>

/** One object on one private registry. Label values come from closed sets, never from ids or from clients. */
export function createMetrics(part: 'api' | 'worker') {
  const registry = new Registry()
  registry.setDefaultLabels({ part })
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  return {
    registry,
    httpSeconds: new Histogram({
      name: 'sluice_http_request_seconds',
      help: 'Time to answer HTTP requests; waits that a client asked for included',
      labelNames: ['method', 'route', 'status'] as const,
      buckets: SECONDS,
      registers,
    }),
    accepted: new Counter({
      name: 'sluice_tasks_accepted_total',
      help: 'Tasks that were committed and answered with 202',
      labelNames: ['kind'] as const,
      registers,
    }),
    ended: new Counter({
      name: 'sluice_tasks_ended_total',
      help: 'Tasks that this process brought to a terminal status',
      labelNames: ['kind', 'status', 'source'] as const,
      registers,
    }),
    answers: new Counter({
      name: 'sluice_answers_total',
      help: 'Tasks that this process answered, of the kinds that may say that they do not know: answered or no_answer',
      labelNames: ['kind', 'outcome'] as const,
      registers,
    }),
    attempts: new Counter({
      name: 'sluice_attempts_total',
      help: 'Provider calls by what came of them',
      labelNames: ['provider', 'outcome'] as const,
      registers,
    }),
    callSeconds: new Histogram({
      name: 'sluice_provider_call_seconds',
      help: 'Duration of provider calls',
      labelNames: ['provider'] as const,
      buckets: SECONDS,
      registers,
    }),
    tokens: new Counter({
      name: 'sluice_tokens_total',
      help: 'Tokens that providers reported',
      labelNames: ['provider', 'direction'] as const,
      registers,
    }),
    cost: new Counter({
      name: 'sluice_cost_usd_total',
      help: 'What settled calls cost, estimates included; the ledger has the exact figures',
      labelNames: ['provider'] as const,
      registers,
    }),
    overReserved: new Counter({
      name: 'sluice_settled_above_reservation_total',
      help: 'Calls that cost more than the most that they could have cost; must stay 0',
      labelNames: ['provider'] as const,
      registers,
    }),
    permitWaits: new Counter({
      name: 'sluice_permit_waits_total',
      help: 'Times that a task had to wait for a permit, by reason',
      labelNames: ['provider', 'reason'] as const,
      registers,
    }),
    cache: new Counter({
      name: 'sluice_cache_lookups_total',
      help: 'Tasks that were looked up in the cache: hit, miss, follow (the answer of an identical task under way)',
      labelNames: ['kind', 'outcome'] as const,
      registers,
    }),
    active: new Gauge({ name: 'sluice_worker_active', help: 'Tasks that this worker is running', registers }),
    lastFetch: new Gauge({
      name: 'sluice_worker_last_fetch_timestamp_seconds',
      help: 'When this worker last took a job from the queue',
      registers,
    }),
    queueDepth: new Gauge({
      name: 'sluice_queue_jobs',
      help: 'Jobs in the queue, by state',
      labelNames: ['queue', 'state'] as const,
      registers,
    }),
    scaleWanted: new Gauge({
      name: 'sluice_scale_wanted',
      help: 'Slots (tasks at a time) that a queue wants, as GET /scale says',
      labelNames: ['queue'] as const,
      registers,
    }),
    fleetSlots: new Gauge({
      name: 'sluice_fleet_slots',
      help: 'Slots that the live workers of a queue have',
      labelNames: ['queue'] as const,
      registers,
    }),
    fleetWorkers: new Gauge({
      name: 'sluice_fleet_workers',
      help: 'Live workers of a queue',
      labelNames: ['queue'] as const,
      registers,
    }),
    oldestWait: new Gauge({
      name: 'sluice_queue_oldest_wait_seconds',
      help: 'For how long the task that has waited longest for a worker has been due, counted in Postgres',
      labelNames: ['queue'] as const,
      registers,
    }),
    fleetReplaced: new Counter({
      name: 'sluice_fleet_replaced_total',
      help: 'Worker processes of npm start that were replaced: exited (it ended by itself), frozen, not_consuming (zombies), memory',
      labelNames: ['reason'] as const,
      registers,
    }),
    budgetRemaining: new Gauge({
      name: 'sluice_budget_remaining_usd',
      help: 'What is left in the present window of the budget that has least of its sort',
      labelNames: ['scope_kind', 'window'] as const,
      registers,
    }),
    breakerState: new Gauge({
      name: 'sluice_breaker_state',
      help: 'Circuit breaker of the provider, the worst of its models: 0 closed, 1 half-open, 2 open',
      labelNames: ['provider'] as const,
      registers,
    }),
    batchLines: new Counter({
      name: 'sluice_batch_lines_total',
      help: 'Lines of batches whose chunk was finished, by what became of them',
      labelNames: ['status'] as const,
      registers,
    }),
    batchChunks: new Counter({
      name: 'sluice_batch_chunks_total',
      help: 'Chunks of batches that this worker had in hand: done, given_back, failed (to be tried again) or given_up',
      labelNames: ['step', 'outcome'] as const,
      registers,
    }),
    batchesAccepted: new Counter({
      name: 'sluice_batches_accepted_total',
      help: 'Batches that this API process accepted',
      labelNames: ['surface'] as const,
      registers,
    }),
    batchesEnded: new Counter({
      name: 'sluice_batches_ended_total',
      help: 'Batches that this worker brought to an end',
      labelNames: ['status'] as const,
      registers,
    }),
    batchesLive: new Gauge({
      name: 'sluice_batches_live',
      help: 'Batches that have not ended, by status',
      labelNames: ['status'] as const,
      registers,
    }),
    dispatchedLater: new Counter({
      name: 'sluice_tasks_dispatched_from_backlog_total',
      help: 'Tasks that waited in the backlog of their key before they were handed to the queue',
      registers,
    }),
    webhookAttempts: new Counter({
      name: 'sluice_webhook_attempts_total',
      help: 'Events sent to webhooks: delivered, refused (another answer than 2xx), timeout, unreachable, forbidden (an address that is not allowed)',
      labelNames: ['outcome'] as const,
      registers,
    }),
    webhooksEnded: new Counter({
      name: 'sluice_webhook_deliveries_total',
      help: 'Events that were delivered, or given up (failed)',
      labelNames: ['status'] as const,
      registers,
    }),
    webhooksPending: new Gauge({
      name: 'sluice_webhook_deliveries_pending',
      help: 'Events that are still to be delivered, counted up to 10,000',
      registers,
    }),
    webhooksOverdue: new Gauge({
      name: 'sluice_webhook_overdue_seconds',
      help: 'For how long the event that has waited longest for a worker could have been sent',
      registers,
    }),
    swept: new Counter({
      name: 'sluice_swept_total',
      help: 'What the sweeper had to put right',
      labelNames: ['what'] as const,
      registers,
    }),
  }
}

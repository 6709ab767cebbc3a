import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
/** Those of OpenTelemetry’s semantic conventions for generative AI, as are the names and labels that begin with `gen_ai`. */
const GEN_AI_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]

/** What a task goes through, in this order; `call` is the provider’s, and is measured apart. */
export const STAGES = ['accept', 'queue', 'gate', 'claim', 'check', 'settle'] as const

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
    taskSeconds: new Histogram({
      name: 'sluice_task_seconds',
      help: 'From acceptance to the end of tasks that succeeded, failed or expired; lines of batches are not counted',
      labelNames: ['kind', 'status'] as const,
      buckets: SECONDS,
      registers,
    }),
    stageSeconds: new Histogram({
      name: 'sluice_stage_seconds',
      help: 'Time that tasks spend in a stage: accept (checks and commit), queue (due until a worker takes it), gate (until a permit, or until the place that was kept), claim, check, settle; lines of batches do not queue',
      labelNames: ['stage', 'kind'] as const,
      buckets: SECONDS,
      registers,
    }),
    answers: new Counter({
      name: 'sluice_answers_total',
      help: 'Tasks that this process ended with a result, of the kinds that may say that they do not know: answered or no_answer',
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
      name: 'gen_ai_client_operation_duration_seconds',
      help: 'Duration of provider calls; error_type is empty for those that brought an answer',
      labelNames: ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model', 'error_type'] as const,
      buckets: GEN_AI_SECONDS,
      registers,
    }),
    firstChunkSeconds: new Histogram({
      name: 'gen_ai_client_operation_time_to_first_chunk_seconds',
      help: 'From a call to the first piece of its answer, of calls whose text is streamed',
      labelNames: ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model'] as const,
      buckets: GEN_AI_SECONDS,
      registers,
    }),
    tokens: new Counter({
      name: 'sluice_tokens_total',
      help: 'Tokens that providers reported; what was read from their cache and written to it is part of the input',
      labelNames: ['provider', 'model', 'kind', 'direction'] as const,
      registers,
    }),
    cost: new Counter({
      name: 'sluice_cost_usd_total',
      help: 'What settled calls cost, estimates included; the ledger has the exact figures',
      labelNames: ['provider', 'model', 'kind'] as const,
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
      help: 'When this worker last took a job from a queue',
      labelNames: ['queue'] as const,
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
    budgetRatio: new Gauge({
      name: 'sluice_budget_remaining_ratio',
      help: 'What is left in the present window of the budget of its sort that has least of its limit left, as a part of that limit',
      labelNames: ['scope_kind', 'window'] as const,
      registers,
    }),
    permits: new Gauge({
      name: 'sluice_permits',
      help: 'Permits for calls to the provider, in the whole fleet: in_use, and waited_for',
      labelNames: ['provider', 'state'] as const,
      registers,
    }),
    limitUsed: new Gauge({
      name: 'sluice_limit_used_ratio',
      help: 'How much of a limit of the provider is used, of the model that uses most of its own; of the last minute, but for concurrency',
      labelNames: ['provider', 'limit'] as const,
      registers,
    }),
    redisBytes: new Gauge({
      name: 'sluice_redis_memory_bytes',
      help: 'Memory of Redis: used, and max (what it may use, 0: no bound)',
      labelNames: ['redis', 'what'] as const,
      registers,
    }),
    redisEvicts: new Gauge({
      name: 'sluice_redis_evicts',
      help: 'Whether Redis throws keys away when it is full: the queue must not (0), the cache must (1)',
      labelNames: ['redis'] as const,
      registers,
    }),
    connections: new Gauge({
      name: 'sluice_postgres_connections',
      help: 'The pool of this process: total and idle connections, and waiting for one',
      labelNames: ['state'] as const,
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
    spansDropped: new Counter({
      name: 'sluice_spans_dropped_total',
      help: 'Spans that the collector never got: queue_full (it is too slow, or hangs), export_failed (it refused them, or is away)',
      labelNames: ['reason'] as const,
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

import { Counter, Histogram, type Registry } from 'prom-client'

const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
/** Those of OpenTelemetry’s semantic conventions for generative AI, as are the names and labels that begin with `gen_ai`. */
const GEN_AI_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]

/** Tasks and provider calls. */
export const taskMetrics = (registers: [Registry]) => ({
  httpSeconds: new Histogram({
    name: 'sluice_http_request_seconds',
    help: 'Time to answer an HTTP request, including waits that the client requested',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: SECONDS,
    registers,
  }),
  accepted: new Counter({
    name: 'sluice_tasks_accepted_total',
    help: 'Tasks committed and answered with 202',
    labelNames: ['kind'] as const,
    registers,
  }),
  ended: new Counter({
    name: 'sluice_tasks_ended_total',
    help: 'Tasks that this process moved to a terminal status',
    labelNames: ['kind', 'status', 'source'] as const,
    registers,
  }),
  taskSeconds: new Histogram({
    name: 'sluice_task_seconds',
    help: 'Time from acceptance to the end of a task that succeeded, failed or expired, without batch lines',
    labelNames: ['kind', 'status'] as const,
    buckets: SECONDS,
    registers,
  }),
  stageSeconds: new Histogram({
    name: 'sluice_stage_seconds',
    help: 'Time that a task spends in a stage: accept (checks and commit), queue (from due until a worker takes it), gate (until a permit or a booked slot), claim, check, settle; batch lines do not queue',
    labelNames: ['stage', 'kind'] as const,
    buckets: SECONDS,
    registers,
  }),
  answers: new Counter({
    name: 'sluice_answers_total',
    help: 'Results of kinds that can report that they found no answer, by outcome: answered or no_answer; includes cached and shared answers',
    labelNames: ['kind', 'outcome'] as const,
    registers,
  }),
  attempts: new Counter({
    name: 'sluice_attempts_total',
    help: 'Provider calls by outcome',
    labelNames: ['provider', 'outcome'] as const,
    registers,
  }),
  callSeconds: new Histogram({
    name: 'gen_ai_client_operation_duration_seconds',
    help: 'Duration of provider calls; error_type is empty for calls that returned an answer',
    labelNames: ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model', 'error_type'] as const,
    buckets: GEN_AI_SECONDS,
    registers,
  }),
  firstChunkSeconds: new Histogram({
    name: 'gen_ai_client_operation_time_to_first_chunk_seconds',
    help: 'Time from the call to the first chunk of its answer, for streamed calls',
    labelNames: ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model'] as const,
    buckets: GEN_AI_SECONDS,
    registers,
  }),
  tokens: new Counter({
    name: 'sluice_tokens_total',
    help: 'Tokens that providers reported; the input includes cache reads and cache writes',
    labelNames: ['provider', 'model', 'kind', 'direction'] as const,
    registers,
  }),
  cost: new Counter({
    name: 'sluice_cost_usd_total',
    help: 'Cost of settled calls, including estimates; the ledger has the exact figures',
    labelNames: ['provider', 'model', 'kind'] as const,
    registers,
  }),
  overReserved: new Counter({
    name: 'sluice_settled_above_reservation_total',
    help: 'Calls that cost more than their reservation; must stay 0',
    labelNames: ['provider'] as const,
    registers,
  }),
  permitWaits: new Counter({
    name: 'sluice_permit_waits_total',
    help: 'Waits of tasks for a permit, by reason',
    labelNames: ['provider', 'reason'] as const,
    registers,
  }),
  cache: new Counter({
    name: 'sluice_cache_lookups_total',
    help: 'Cache lookups by outcome: hit, miss, follow (shares the call of an identical task in progress)',
    labelNames: ['kind', 'outcome'] as const,
    registers,
  }),
})

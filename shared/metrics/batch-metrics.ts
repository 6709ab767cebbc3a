import { Counter, Gauge, type Registry } from 'prom-client'

/** Batches and the backlog. */
export const batchMetrics = (registers: [Registry]) => ({
  batchLines: new Counter({
    name: 'sluice_batch_lines_total',
    help: 'Batch lines of finished chunks, by status',
    labelNames: ['status'] as const,
    registers,
  }),
  batchChunks: new Counter({
    name: 'sluice_batch_chunks_total',
    help: 'Batch chunks that this worker processed: done, given_back, failed (will be retried) or given_up',
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
    help: 'Batches that this worker ended, by status',
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
    help: 'Tasks that waited in the backlog of their key before they were dispatched to the queue',
    registers,
  }),
})

import { Counter, Gauge, type Registry } from 'prom-client'

/** Webhooks, spans and the sweeper. */
export const deliveryMetrics = (registers: [Registry]) => ({
  webhookAttempts: new Counter({
    name: 'sluice_webhook_attempts_total',
    help: 'Webhook requests by outcome: delivered, refused (a status other than 2xx), timeout, unreachable, forbidden (an address that is not allowed)',
    labelNames: ['outcome'] as const,
    registers,
  }),
  webhooksEnded: new Counter({
    name: 'sluice_webhook_deliveries_total',
    help: 'Webhook events by final status: delivered or failed',
    labelNames: ['status'] as const,
    registers,
  }),
  webhooksPending: new Gauge({
    name: 'sluice_webhook_deliveries_pending',
    help: 'Webhook events that are not delivered yet, counted up to 10,000',
    registers,
  }),
  webhooksOverdue: new Gauge({
    name: 'sluice_webhook_overdue_seconds',
    help: 'Time for which the oldest due webhook event has waited for a worker',
    registers,
  }),
  spansDropped: new Counter({
    name: 'sluice_spans_dropped_total',
    help: 'Spans that did not reach the collector: queue_full (the collector is too slow) or export_failed (the collector refused them or is unreachable)',
    labelNames: ['reason'] as const,
    registers,
  }),
  swept: new Counter({
    name: 'sluice_swept_total',
    help: 'Rows that the sweeper repaired or deleted, by what it did',
    labelNames: ['what'] as const,
    registers,
  }),
})

import { Counter, Gauge, type Registry } from 'prom-client'

/** Workers and queues. */
export const fleetMetrics = (registers: [Registry]) => ({
  active: new Gauge({ name: 'sluice_worker_active', help: 'Tasks that this worker is running', registers }),
  lastFetch: new Gauge({
    name: 'sluice_worker_last_fetch_timestamp_seconds',
    help: 'Time at which this worker last took a job from a queue',
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
    help: 'Slots (concurrent tasks) that a queue needs, as reported by GET /scale',
    labelNames: ['queue'] as const,
    registers,
  }),
  fleetSlots: new Gauge({
    name: 'sluice_fleet_slots',
    help: 'Slots of the live workers of a queue',
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
    help: 'Time for which the oldest due task has waited for a worker, read from Postgres',
    labelNames: ['queue'] as const,
    registers,
  }),
  providerConfigLoads: new Counter({
    name: 'sluice_provider_config_loads_total',
    help: 'Changes of the provider configuration that this process read, by source (file: PROVIDERS_FILE, api) and result. After rejected, the last valid one stays in effect',
    labelNames: ['source', 'result'] as const,
    registers,
  }),
  fleetReplaced: new Counter({
    name: 'sluice_fleet_replaced_total',
    help: 'Worker processes that npm start restarted, by reason: exited (the process ended by itself), frozen (three probes in a row got no answer, about 30 s), not_consuming (it took no jobs although there were some)',
    labelNames: ['reason'] as const,
    registers,
  }),
})

import type { Dashboard } from './build.ts'
import { quantile, RATE } from './promql.ts'

export const queues: Dashboard = {
  uid: 'sluice-queues',
  title: 'Sluice: queues and workers',
  about: 'Waiting tasks, live workers, and repairs.',
  rows: [
    [
      'Queues',
      [
        {
          title: 'Jobs in the queues',
          about: 'delayed: waiting for a provider’s limits, a backoff or a budget.',
          unit: 'short',
          queries: [['max by (queue, state) (sluice_queue_jobs)', '{{queue}} {{state}}']],
        },
        {
          title: 'Wait of the oldest task',
          about: 'Read from Postgres, so it includes lost jobs and the backlogs of keys.',
          unit: 's',
          queries: [['max by (queue) (sluice_queue_oldest_wait_seconds)', '{{queue}}']],
        },
        {
          title: 'Wait for a worker, p95',
          about: 'From due until a worker took the task.',
          unit: 's',
          queries: [[quantile(0.95, 'sluice_stage_seconds', 'kind', '{stage="queue"}'), '{{kind}}']],
        },
      ],
    ],
    [
      'Workers',
      [
        {
          title: 'Slots, wanted and live',
          about: 'Slots that the queues need by GET /scale, and slots of live workers.',
          unit: 'short',
          queries: [
            ['max by (queue) (sluice_scale_wanted)', '{{queue}} wanted'],
            ['max by (queue) (sluice_fleet_slots)', '{{queue}} live'],
          ],
        },
        {
          title: 'Running tasks',
          about: 'By worker.',
          unit: 'short',
          stacked: true,
          queries: [['sum by (instance) (sluice_worker_active)', '{{instance}}']],
        },
        {
          title: 'Since the last fetch',
          about:
            'By queue, for the last worker that took a job. A long time while jobs wait means that no worker takes them.',
          unit: 's',
          queries: [
            ['time() - max by (queue) (sluice_worker_last_fetch_timestamp_seconds{part="worker"})', '{{queue}}'],
          ],
        },
      ],
    ],
    [
      'Processes',
      [
        {
          title: 'Lag of the event loop, p99',
          about: 'Above a tenth of a second, requests wait for a computation.',
          unit: 's',
          queries: [['max by (job, instance) (nodejs_eventloop_lag_p99_seconds)', '{{job}} {{instance}}']],
        },
        {
          title: 'Memory',
          about: 'Resident, by process.',
          unit: 'bytes',
          queries: [
            ['max by (job, instance) (process_resident_memory_bytes{job=~"sluice.*"})', '{{job}} {{instance}}'],
          ],
        },
        {
          title: 'CPU',
          about: 'Cores, by process.',
          unit: 'short',
          queries: [
            [
              `sum by (job, instance) (rate(process_cpu_seconds_total{job=~"sluice.*"}[${RATE}]))`,
              '{{job}} {{instance}}',
            ],
          ],
        },
      ],
    ],
    [
      'Postgres and Redis',
      [
        {
          title: 'Waiting for a connection',
          about: 'If several wait for a long time, Postgres is slow or DB_POOL is too small.',
          unit: 'short',
          queries: [['sum by (job, instance) (sluice_postgres_connections{state="waiting"})', '{{job}} {{instance}}']],
        },
        {
          title: 'Memory of Redis',
          about: 'The memory of the queue must stay well below its limit.',
          unit: 'bytes',
          queries: [['max by (redis, what) (sluice_redis_memory_bytes)', '{{redis}} {{what}}']],
        },
        {
          title: 'Repairs by the sweeper',
          about: 'taken_over: workers died. redispatched: the queue had lost jobs. expired: deadlines passed.',
          unit: 'reqps',
          queries: [[`sum by (what) (rate(sluice_swept_total[${RATE}]))`, '{{what}}']],
        },
      ],
    ],
    [
      'Batches and webhooks',
      [
        {
          title: 'Lines a second',
          about: 'Batch lines, by status.',
          unit: 'reqps',
          stacked: true,
          queries: [[`sum by (status) (rate(sluice_batch_lines_total[${RATE}]))`, '{{status}}']],
        },
        {
          title: 'Batches that have not ended',
          about: 'By status.',
          unit: 'short',
          queries: [['max by (status) (sluice_batches_live)', '{{status}}']],
        },
        {
          title: 'Webhooks, by outcome',
          about: 'Delivery attempts.',
          unit: 'reqps',
          queries: [[`sum by (outcome) (rate(sluice_webhook_attempts_total[${RATE}]))`, '{{outcome}}']],
        },
        {
          title: 'Webhooks that are late',
          about: 'Time for which the oldest due event has waited for a worker.',
          unit: 's',
          queries: [['max(sluice_webhook_overdue_seconds)', 'overdue']],
        },
      ],
    ],
  ],
}

import type { Dashboard } from './build.ts'
import { quantile, RATE } from './promql.ts'

export const queues: Dashboard = {
  uid: 'sluice-queues',
  title: 'Sluice: queues and workers',
  about: 'What waits, who works, and what had to be put right.',
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
          about: 'Counted in Postgres: also what the queue has lost, and backlogs of keys.',
          unit: 's',
          queries: [['max by (queue) (sluice_queue_oldest_wait_seconds)', '{{queue}}']],
        },
        {
          title: 'Wait for a worker, p95',
          about: 'Due until a worker took it.',
          unit: 's',
          queries: [[quantile(0.95, 'sluice_stage_seconds', 'kind', '{stage="queue"}'), '{{kind}}']],
        },
      ],
    ],
    [
      'Workers',
      [
        {
          title: 'Slots, wanted and there',
          about: 'What the queues want by GET /scale, and what live workers have.',
          unit: 'short',
          queries: [
            ['max by (queue) (sluice_scale_wanted)', '{{queue}} wanted'],
            ['max by (queue) (sluice_fleet_slots)', '{{queue}} there'],
          ],
        },
        {
          title: 'Tasks in hand',
          about: 'By worker.',
          unit: 'short',
          stacked: true,
          queries: [['sum by (instance) (sluice_worker_active)', '{{instance}}']],
        },
        {
          title: 'Since the last fetch',
          about: 'By queue, of the worker that took one last. Long while jobs wait: nobody takes them.',
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
          about: 'Above a tenth of a second everything waits for something that computes.',
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
          about: 'More than a few for long: Postgres is slow, or DB_POOL too small.',
          unit: 'short',
          queries: [['sum by (job, instance) (sluice_postgres_connections{state="waiting"})', '{{job}} {{instance}}']],
        },
        {
          title: 'Memory of Redis',
          about: 'Where it has a bound, the queue’s must not come near it.',
          unit: 'bytes',
          queries: [['max by (redis, what) (sluice_redis_memory_bytes)', '{{redis}} {{what}}']],
        },
        {
          title: 'What the sweeper put right',
          about: 'taken_over: workers died. redispatched: the queue had lost tasks. expired: deadlines passed.',
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
          about: 'Lines of batches, by how they ended.',
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
          about: 'Tries to deliver an event.',
          unit: 'reqps',
          queries: [[`sum by (outcome) (rate(sluice_webhook_attempts_total[${RATE}]))`, '{{outcome}}']],
        },
        {
          title: 'Webhooks that are late',
          about: 'How long the event could have been sent that waits longest for a worker.',
          unit: 's',
          queries: [['max(sluice_webhook_overdue_seconds)', 'overdue']],
        },
      ],
    ],
  ],
}

import type { Dashboard } from './build.ts'
import { quantile, RATE } from './promql.ts'

export const overview: Dashboard = {
  uid: 'sluice-overview',
  title: 'Sluice: overview',
  about: 'Tasks accepted and finished, their speed and their quality.',
  rows: [
    [
      'Now',
      [
        {
          title: 'Accepted',
          about: 'Tasks committed and answered with 202.',
          unit: 'reqps',
          stat: true,
          queries: [[`sum(rate(sluice_tasks_accepted_total[${RATE}]))`]],
        },
        {
          title: 'Succeeded',
          about: 'Share of the tasks that ended without cancellation.',
          unit: 'percentunit',
          stat: true,
          queries: [
            [
              `sum(rate(sluice_tasks_ended_total{status="succeeded"}[${RATE}])) / sum(rate(sluice_tasks_ended_total{status!="cancelled"}[${RATE}]))`,
            ],
          ],
        },
        {
          title: 'Time of a task, p99',
          about: 'From acceptance to the end, without batch lines.',
          unit: 's',
          stat: true,
          queries: [[quantile(0.99, 'sluice_task_seconds')]],
        },
        {
          title: 'Waiting',
          about: 'Jobs in the queues that no worker has taken.',
          unit: 'short',
          stat: true,
          queries: [['sum(max by (queue, state) (sluice_queue_jobs{state=~"waiting|prioritized"}))']],
        },
        {
          title: 'Workers',
          about: 'Worker processes that can be scraped.',
          unit: 'short',
          stat: true,
          queries: [['sum(up{job="sluice-worker"})']],
        },
        {
          title: 'Cost of the last hour',
          about: 'Cost of settled calls, including estimates.',
          unit: 'currencyUSD',
          stat: true,
          queries: [['sum(increase(sluice_cost_usd_total[1h]))']],
        },
        {
          title: 'Alerts',
          about: 'Alerts that are firing.',
          unit: 'short',
          stat: true,
          queries: [['count(ALERTS{alertstate="firing"}) or vector(0)']],
        },
      ],
    ],
    [
      'Tasks',
      [
        {
          title: 'Accepted and ended',
          about: 'While ended stays below accepted, a backlog grows.',
          unit: 'reqps',
          queries: [
            [`sum(rate(sluice_tasks_accepted_total[${RATE}]))`, 'accepted'],
            [`sum by (status) (rate(sluice_tasks_ended_total[${RATE}]))`, '{{status}}'],
          ],
        },
        {
          title: 'Time of a task',
          about: 'From acceptance to the end of tasks that succeeded, failed or expired.',
          unit: 's',
          queries: [0.5, 0.95, 0.99].map(q => [quantile(q, 'sluice_task_seconds'), `p${q * 100}`]),
        },
        {
          title: 'Failed and expired, by kind',
          about: 'Share of the tasks of the kind.',
          unit: 'percentunit',
          queries: [
            [
              `sum by (kind) (rate(sluice_tasks_ended_total{status=~"failed|expired"}[${RATE}])) / sum by (kind) (rate(sluice_tasks_ended_total{status!="cancelled"}[${RATE}]))`,
              '{{kind}}',
            ],
          ],
        },
        {
          title: 'Sources of results',
          about:
            'Answers from a model, the cache, precomputed answers or rules. A high share of the last three means that models are unavailable.',
          unit: 'reqps',
          stacked: true,
          queries: [[`sum by (source) (rate(sluice_tasks_ended_total{status="succeeded"}[${RATE}]))`, '{{source}}']],
        },
        {
          title: 'No answer',
          about: 'Share of the results of kinds that can report that they found no answer.',
          unit: 'percentunit',
          queries: [
            [
              `sum by (kind) (rate(sluice_answers_total{outcome="no_answer"}[${RATE}])) / sum by (kind) (rate(sluice_answers_total[${RATE}]))`,
              '{{kind}}',
            ],
          ],
        },
        {
          title: 'Cache',
          about: 'Hits, and tasks that shared the call of an identical task, as shares of all lookups.',
          unit: 'percentunit',
          queries: [
            [
              `sum by (outcome) (rate(sluice_cache_lookups_total{outcome!="miss"}[${RATE}])) / on () group_left sum(rate(sluice_cache_lookups_total[${RATE}]))`,
              '{{outcome}}',
            ],
          ],
        },
      ],
    ],
    [
      'Where the time goes',
      [
        {
          title: 'Stages, p95',
          about:
            'accept: until 202. queue: due until a worker takes it: more workers. gate: waiting for a provider’s limits: more workers do not help. claim, settle: Postgres.',
          unit: 's',
          queries: [[quantile(0.95, 'sluice_stage_seconds', 'stage'), '{{stage}}']],
        },
        {
          title: 'Provider calls, p95',
          about: 'The time outside Sluice.',
          unit: 's',
          queries: [
            [
              quantile(0.95, 'gen_ai_client_operation_duration_seconds', 'gen_ai_provider_name'),
              '{{gen_ai_provider_name}}',
            ],
          ],
        },
      ],
    ],
    [
      'HTTP',
      [
        {
          title: 'Requests, by status',
          about: '429: a key exceeds its own limit. 503: Postgres is unavailable, or the process is stopping.',
          unit: 'reqps',
          stacked: true,
          queries: [[`sum by (status) (rate(sluice_http_request_seconds_count[${RATE}]))`, '{{status}}']],
        },
        {
          title: 'Time to answer, p99, by route',
          about: 'The ten slowest routes, including waits that the client requested.',
          unit: 's',
          queries: [[`topk(10, ${quantile(0.99, 'sluice_http_request_seconds', 'route')})`, '{{route}}']],
        },
      ],
    ],
  ],
}

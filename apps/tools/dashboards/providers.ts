import type { Dashboard } from './build.ts'
import { quantile, RATE } from './promql.ts'

export const providers: Dashboard = {
  uid: 'sluice-providers',
  title: 'Sluice: providers',
  about: 'Answers of the providers, and the reasons that delay calls.',
  rows: [
    [
      'Calls',
      [
        {
          title: 'Calls, by provider',
          about: 'Settled attempts.',
          unit: 'reqps',
          stacked: true,
          queries: [[`sum by (provider) (rate(sluice_attempts_total[${RATE}]))`, '{{provider}}']],
        },
        {
          title: 'Calls without a usable answer',
          about:
            'rate_limited: the limits set here are above the provider’s. rejected: answers that failed their check. timeout, server_error, overloaded: the provider.',
          unit: 'reqps',
          queries: [
            [
              `sum by (provider, outcome) (rate(sluice_attempts_total{outcome!~"succeeded|aborted"}[${RATE}]))`,
              '{{provider}} {{outcome}}',
            ],
          ],
        },
        {
          title: 'Usable answers',
          about: 'Share of the calls that Sluice did not abort.',
          unit: 'percentunit',
          max: 1,
          queries: [
            [
              `sum by (provider) (rate(sluice_attempts_total{outcome="succeeded"}[${RATE}])) / sum by (provider) (rate(sluice_attempts_total{outcome!="aborted"}[${RATE}]))`,
              '{{provider}}',
            ],
          ],
        },
      ],
    ],
    [
      'Speed',
      [
        {
          title: 'Duration of calls, p50',
          about: 'By model.',
          unit: 's',
          queries: [
            [
              quantile(0.5, 'gen_ai_client_operation_duration_seconds', 'gen_ai_request_model'),
              '{{gen_ai_request_model}}',
            ],
          ],
        },
        {
          title: 'Duration of calls, p99',
          about: 'By model.',
          unit: 's',
          queries: [
            [
              quantile(0.99, 'gen_ai_client_operation_duration_seconds', 'gen_ai_request_model'),
              '{{gen_ai_request_model}}',
            ],
          ],
        },
        {
          title: 'Time to the first chunk, p95',
          about: 'For streamed calls.',
          unit: 's',
          queries: [
            [
              quantile(0.95, 'gen_ai_client_operation_time_to_first_chunk_seconds', 'gen_ai_request_model'),
              '{{gen_ai_request_model}}',
            ],
          ],
        },
      ],
    ],
    [
      'What keeps calls back',
      [
        {
          title: 'Circuit breakers',
          about: 'The worst model of each provider: 0 closed, 1 half-open, 2 open.',
          unit: 'short',
          max: 2,
          queries: [['max by (provider) (sluice_breaker_state)', '{{provider}}']],
        },
        {
          title: 'Limits in use',
          about: 'At 100%, tasks wait for the limit; more workers do not help.',
          unit: 'percentunit',
          queries: [['max by (provider, limit) (sluice_limit_used_ratio)', '{{provider}} {{limit}}']],
        },
        {
          title: 'Permits',
          about: 'Running calls, and tasks that wait for a permit.',
          unit: 'short',
          queries: [['max by (provider, state) (sluice_permits)', '{{provider}} {{state}}']],
        },
        {
          title: 'Waits for a permit',
          about: 'By reason: the exhausted limit, or the open breaker.',
          unit: 'reqps',
          queries: [
            [`sum by (provider, reason) (rate(sluice_permit_waits_total[${RATE}]))`, '{{provider}} {{reason}}'],
          ],
        },
      ],
    ],
  ],
}

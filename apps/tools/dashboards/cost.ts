import type { Dashboard } from './build.ts'
import { RATE } from './promql.ts'

const perHour = (by: string) => `sum by (${by}) (rate(sluice_cost_usd_total[${RATE}])) * 3600`

export const cost: Dashboard = {
  uid: 'sluice-cost',
  title: 'Sluice: cost',
  about:
    'Cost of calls by purpose, and the remaining budgets. The ledger (GET /api/v1/analytics/costs) has the exact figures.',
  rows: [
    [
      'Sums',
      [
        {
          title: 'Last hour',
          about: 'Including estimates: a call with an unknown cost counts at its reservation.',
          unit: 'currencyUSD',
          stat: true,
          queries: [['sum(increase(sluice_cost_usd_total[1h]))']],
        },
        {
          title: 'Last 24 hours',
          about: 'Including estimates.',
          unit: 'currencyUSD',
          stat: true,
          queries: [['sum(increase(sluice_cost_usd_total[24h]))']],
        },
        {
          title: 'A thousand tasks',
          about: 'Cost of the last hour divided by the tasks that succeeded in it, including cached ones.',
          unit: 'currencyUSD',
          stat: true,
          queries: [
            [
              '1000 * sum(increase(sluice_cost_usd_total[1h])) / sum(increase(sluice_tasks_ended_total{status="succeeded"}[1h]))',
            ],
          ],
        },
        {
          title: 'Answered without a call',
          about: 'Share of the tasks of the last hour that succeeded.',
          unit: 'percentunit',
          stat: true,
          queries: [
            [
              'sum(increase(sluice_tasks_ended_total{status="succeeded", source!="ai"}[1h])) / sum(increase(sluice_tasks_ended_total{status="succeeded"}[1h]))',
            ],
          ],
        },
        {
          title: 'Above their reservation',
          about: 'Calls that cost more than their reservation. Must be 0; otherwise a budget may be exceeded.',
          unit: 'short',
          stat: true,
          queries: [['sum(sluice_settled_above_reservation_total) or vector(0)']],
        },
      ],
    ],
    [
      'Dollars an hour',
      [
        {
          title: 'By provider',
          about: 'At the current rate.',
          unit: 'currencyUSD',
          stacked: true,
          queries: [[perHour('provider'), '{{provider}}']],
        },
        {
          title: 'By model',
          about: 'At the current rate.',
          unit: 'currencyUSD',
          stacked: true,
          queries: [[perHour('model'), '{{model}}']],
        },
        {
          title: 'By kind',
          about: 'At the current rate.',
          unit: 'currencyUSD',
          stacked: true,
          queries: [[perHour('kind'), '{{kind}}']],
        },
      ],
    ],
    [
      'Tokens',
      [
        {
          title: 'Tokens a second',
          about: 'The input includes cache reads and cache writes of the provider.',
          unit: 'short',
          queries: [
            [`sum by (provider, direction) (rate(sluice_tokens_total[${RATE}]))`, '{{provider}} {{direction}}'],
          ],
        },
        {
          title: 'Tokens of a call',
          about: 'Growing prompts show here first.',
          unit: 'short',
          queries: [
            [
              `sum by (direction) (rate(sluice_tokens_total[${RATE}])) / on () group_left sum(rate(sluice_attempts_total{outcome="succeeded"}[${RATE}]))`,
              '{{direction}}',
            ],
          ],
        },
      ],
    ],
    [
      'Budgets',
      [
        {
          title: 'Left of the limit',
          about:
            'For each scope kind and window, the budget with the lowest share left. At 0, tasks wait, use a fallback or fail.',
          unit: 'percentunit',
          max: 1,
          queries: [
            [
              'min by (scope_kind, window) (sluice_budget_remaining_ratio{window!="request"})',
              '{{scope_kind}} per {{window}}',
            ],
          ],
        },
        {
          title: 'Left, in dollars',
          about: 'For each scope kind and window, the budget with the lowest amount left.',
          unit: 'currencyUSD',
          queries: [
            [
              'min by (scope_kind, window) (sluice_budget_remaining_usd{window!="request"})',
              '{{scope_kind}} per {{window}}',
            ],
          ],
        },
      ],
    ],
  ],
}

import type { Dashboard } from './build.ts'
import { RATE } from './promql.ts'

const perHour = (by: string) => `sum by (${by}) (rate(sluice_cost_usd_total[${RATE}])) * 3600`

export const cost: Dashboard = {
  uid: 'sluice-cost',
  title: 'Sluice: cost',
  about: 'What calls cost, for what, and what is left. The ledger (GET /api/v1/analytics/costs) has the exact figures.',
  rows: [
    [
      'Sums',
      [
        {
          title: 'Last hour',
          about: 'Estimates included: what nobody knows the cost of counts at its reservation.',
          unit: 'currencyUSD',
          stat: true,
          queries: [['sum(increase(sluice_cost_usd_total[1h]))']],
        },
        {
          title: 'Last 24 hours',
          about: 'Estimates included.',
          unit: 'currencyUSD',
          stat: true,
          queries: [['sum(increase(sluice_cost_usd_total[24h]))']],
        },
        {
          title: 'A thousand tasks',
          about: 'Cost of the last hour by the tasks that succeeded in it, cached ones included.',
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
          about: 'Of the tasks of the last hour that succeeded.',
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
          about: 'Calls that cost more than was reserved for them. Must be 0: budgets could be overshot.',
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
          about: 'At the present pace.',
          unit: 'currencyUSD',
          stacked: true,
          queries: [[perHour('provider'), '{{provider}}']],
        },
        {
          title: 'By model',
          about: 'At the present pace.',
          unit: 'currencyUSD',
          stacked: true,
          queries: [[perHour('model'), '{{model}}']],
        },
        {
          title: 'By kind',
          about: 'At the present pace.',
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
          about: 'What was read from a provider’s cache and written to it is part of the input.',
          unit: 'short',
          queries: [
            [`sum by (provider, direction) (rate(sluice_tokens_total[${RATE}]))`, '{{provider}} {{direction}}'],
          ],
        },
        {
          title: 'Tokens of a call',
          about: 'A prompt that grows shows here first.',
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
          about: 'Of each sort, the budget that has least of its limit left. At 0 tasks wait, fall back or fail.',
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
          about: 'Of each sort, the budget that has least left.',
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

import { renderDashboard } from './build.ts'
import { cost } from './cost.ts'
import { overview } from './overview.ts'
import { providers } from './providers.ts'
import { queues } from './queues.ts'

/** The dashboards in `prometheus/dashboards/`, by file name. */
export const dashboards = (): [file: string, text: string][] =>
  [overview, cost, providers, queues].map(one => [`${one.uid}.json`, renderDashboard(one)])

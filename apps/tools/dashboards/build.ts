import { LegendDisplayMode, LegendPlacement, TooltipDisplayMode } from '@grafana/grafana-foundation-sdk/common'
import { DashboardBuilder, DatasourceVariableBuilder, RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries'

/** One line of a panel, or one per set of labels: PromQL and its legend (`{{label}}`). */
export type Query = [expr: string, legend?: string]
export type Panel = {
  title: string
  /** How to read the panel. */
  about: string
  /** A Grafana unit: https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit */
  unit: string
  queries: Query[]
  /** Show the last value instead of lines. */
  stat?: true
  /** Stack the lines, if their sum has a meaning. */
  stacked?: true
  max?: number
}
export type Dashboard = { uid: string; title: string; about: string; rows: [title: string, panels: Panel[]][] }

const WIDTH = 24
const DATASOURCE = { type: 'prometheus', uid: `\${datasource}` }

/** Width of a panel: numbers side by side, two or three graphs per row. */
const spanOf = (panels: Panel[]): number =>
  panels.every(one => one.stat) ? Math.floor(WIDTH / panels.length) : panels.length % 3 === 0 ? WIDTH / 3 : WIDTH / 2

const targetsOf = (panel: Panel) =>
  panel.queries.map(([expr, legend], n) => {
    const query = new DataqueryBuilder().refId(String.fromCharCode(65 + n)).expr(expr)
    return panel.stat ? query.instant() : query.range().legendFormat(legend ?? '__auto')
  })

function build(panel: Panel) {
  if (panel.stat) {
    return new StatBuilder()
      .title(panel.title)
      .description(panel.about)
      .datasource(DATASOURCE)
      .unit(panel.unit)
      .targets(targetsOf(panel))
      .height(4)
  }
  const made = new TimeseriesBuilder()
    .title(panel.title)
    .description(panel.about)
    .datasource(DATASOURCE)
    .unit(panel.unit)
    .targets(targetsOf(panel))
    .min(0)
    .fillOpacity(panel.stacked ? 30 : 5)
    .lineWidth(1)
    .legend({
      build: () => ({
        displayMode: LegendDisplayMode.List,
        placement: LegendPlacement.Bottom,
        showLegend: true,
        calcs: [],
      }),
    })
    .tooltip({ build: () => ({ mode: TooltipDisplayMode.Multi, sort: 'desc' as never }) })
    .height(8)
  if (panel.max !== undefined) made.max(panel.max)
  if (panel.stacked) made.stacking({ build: () => ({ mode: 'normal' as never, group: 'A' }) })
  return made
}

/** The JSON that Grafana reads. */
export function renderDashboard({ uid, title, about, rows }: Dashboard): string {
  const made = new DashboardBuilder(title)
    .uid(uid)
    .description(about)
    .tags(['sluice'])
    .editable()
    .refresh('30s')
    .time({ from: 'now-6h', to: 'now' })
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
  for (const [name, panels] of rows) {
    made.withRow(new RowBuilder(name))
    const span = spanOf(panels)
    for (const panel of panels) made.withPanel(build(panel).span(span))
  }
  return `${JSON.stringify(made.build(), null, 2)}\n`
}

/** The fields of a dashboard file that tests read. */
export type Rendered = { panels?: { title?: string; targets?: { expr: string }[] }[] }

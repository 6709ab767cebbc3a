import { LegendDisplayMode, LegendPlacement, TooltipDisplayMode } from '@grafana/grafana-foundation-sdk/common'
import { DashboardBuilder, DatasourceVariableBuilder, RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries'

/** What one line, or one for each set of labels, of a panel is: PromQL, and how Grafana is to call it (`{{label}}`). */
export type Query = [expr: string, legend?: string]
export type Panel = {
  title: string
  /** What somebody on call should read from it. */
  about: string
  /** A unit of Grafana's: https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit */
  unit: string
  queries: Query[]
  /** The last value, large, instead of lines. */
  stat?: true
  /** Lines that add up to something are laid on top of each other. */
  stacked?: true
  max?: number
}
export type Dashboard = { uid: string; title: string; about: string; rows: [title: string, panels: Panel[]][] }

const WIDTH = 24
const DATASOURCE = { type: 'prometheus', uid: `\${datasource}` }

/** Of a row: numbers side by side, lines two in a row, or three. */
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

/** As Grafana reads it from a file. */
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

/** What a test needs to know of a file. */
export type Rendered = { panels?: { title?: string; targets?: { expr: string }[] }[] }

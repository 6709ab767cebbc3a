import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DAY, DAY_SECONDS, type Sample, simulate, smallestFixed } from '#shared/testing/autoscale-simulation.ts'

/** `node bench/autoscale.ts` draws the simulated day as docs/scaling-day.svg and prints the figures of docs/scaling.md. */

const [WIDTH, LEFT, RIGHT, BAND, GAP, TOP] = [960, 56, 16, 130, 46, 34]
/** One point per pixel: the maximum of its seconds. */
const STEP = DAY_SECONDS / (WIDTH - LEFT - RIGHT)

type Line = { of: (sample: Sample) => number; color: string; name: string }
type Band = { title: string; top: number; lines: Line[]; level?: { value: number; name: string } }

export function draw(samples: Sample[], fixed: number): string {
  const maxWorkers = Math.max(fixed, ...samples.map(one => one.workers))
  const bands: Band[] = [
    {
      title: 'submitted tasks per second',
      top: 120,
      lines: [{ of: one => one.arrived, color: '#64748b', name: 'arrivals' }],
    },
    {
      title: 'workers',
      top: maxWorkers * 1.1,
      lines: [{ of: one => one.workers, color: '#2563eb', name: 'by the policy' }],
      level: { value: fixed, name: `smallest fixed fleet: ${fixed}` },
    },
    {
      title: 'oldest wait, seconds (drawn up to 40)',
      top: 40,
      lines: [{ of: one => one.oldestWait, color: '#dc2626', name: 'oldest wait' }],
      level: { value: DAY.targetSeconds, name: `target: ${DAY.targetSeconds} s` },
    },
  ]
  const height = TOP + bands.length * (BAND + GAP)
  const x = (at: number) => (LEFT + (at / DAY_SECONDS) * (WIDTH - LEFT - RIGHT)).toFixed(1)
  const shade = ({ from, to }: { from: number; to: number }, name: string) =>
    `<rect x="${x(from)}" y="${TOP}" width="${(Number(x(to)) - Number(x(from))).toFixed(1)}" height="${height - TOP - GAP}" fill="#fde68a" opacity="0.6"/>
<text x="${x((from + to) / 2)}" y="${TOP - 18}" text-anchor="middle">${name}</text>`
  const hours = Array.from(
    { length: 9 },
    (_, n) => `<text x="${x(n * 10_800)}" y="${height - 26}" text-anchor="middle">${n * 3}:00</text>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" fill="#334155">
<title>A simulated day: submitted tasks, workers, and the oldest wait</title>
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
${shade(DAY.outage, 'outage')}
${shade(DAY.storm, 'refusals')}
${bands.map((band, index) => drawBand(band, TOP + index * (BAND + GAP), samples, x)).join('\n')}
${hours.join('\n')}
</svg>
`
}

function drawBand(band: Band, y0: number, samples: Sample[], x: (at: number) => string): string {
  const y = (value: number) => (y0 + BAND - (Math.min(value, band.top) / band.top) * BAND).toFixed(1)
  const parts = [
    `<text x="${LEFT}" y="${y0 - 5}" font-weight="bold">${band.title}</text>`,
    `<path d="M${LEFT} ${y0}V${y0 + BAND}H${WIDTH - RIGHT}" fill="none" stroke="#94a3b8"/>`,
    ...[0, 0.5, 1].map(share => {
      const value = Math.round(band.top * share)
      return `<text x="${LEFT - 6}" y="${Number(y(value)) + 4}" text-anchor="end">${value}</text>`
    }),
    ...band.lines.map(({ of, color }) => {
      const points: string[] = []
      for (let from = 0; from < samples.length; from += STEP) {
        const within = samples.slice(Math.floor(from), Math.floor(from + STEP))
        points.push(`${x(from)} ${y(Math.max(...within.map(of)))}`)
      }
      return `<path d="M${points.join('L')}" fill="none" stroke="${color}" stroke-width="1.2"/>`
    }),
  ]
  if (band.level) {
    const at = y(band.level.value)
    parts.push(
      `<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#16a34a" stroke-dasharray="5 4" fill="none"/>`,
      `<text x="${WIDTH - RIGHT}" y="${Number(at) - 4}" text-anchor="end" fill="#16a34a">${band.level.name}</text>`,
    )
  }
  return parts.join('\n')
}

if (import.meta.main) {
  const scaled = simulate(DAY, null)
  const fixed = smallestFixed(DAY, 0.95)
  const file = join(import.meta.dirname, '../docs/scaling-day.svg')
  writeFileSync(file, draw(scaled.samples, fixed.workers))
  const row = (name: string, held: number, minutes: number) =>
    `${name}: target held ${(held * 100).toFixed(1)}% of the day, ${Math.round(minutes)} worker-minutes`
  console.log(row('policy', scaled.held, scaled.workerMinutes))
  console.log(row(`fixed fleet of ${fixed.workers}`, fixed.outcome.held, fixed.outcome.workerMinutes))
}

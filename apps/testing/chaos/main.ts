import { randomInt } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Row } from './judge.ts'
import type { ChaosOptions } from './plan.ts'
import { type ChaosReport, commandOf, runChaos } from './run.ts'

/** `npm run chaos -- --faults 100 --tasks 10000 [--seed S] [--seconds 300] [--json FILE]` */
const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '100' },
    tasks: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    seconds: { type: 'string', default: '300' },
    json: { type: 'string' },
  },
})

function whole(name: 'faults' | 'tasks' | 'seed' | 'seconds', least: number): number {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= least) return value
  process.stderr.write(`chaos: --${name} must be a whole number of at least ${least}\n`)
  process.exit(2)
}

const options: ChaosOptions = {
  faults: whole('faults', 0),
  tasks: whole('tasks', 1),
  seconds: whole('seconds', 20),
  seed: values.seed === undefined ? randomInt(1, 1_000_000) : whole('seed', 0),
}

const from = performance.now()
const log = (line: string) =>
  process.stderr.write(`chaos: ${((performance.now() - from) / 1000).toFixed(1).padStart(6)} s  ${line}\n`)

// However this process ends, its children end with it.
const stopping = new AbortController()
const stop = (why: string) => {
  if (stopping.signal.aborted) return
  log(`stopping (${why})`)
  stopping.abort(new Error(why))
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
if (process.channel) {
  process.on('disconnect', () => stop('disconnect'))
  process.channel.unref()
}

function table({ rows, evidence, command, seconds }: ChaosReport): string {
  const line = ({ what, value, wanted, ok }: Row) => `| ${ok ? '' : '**WRONG** '}${what} | ${value} | ${wanted ?? ''} |`
  const proof = Object.entries(evidence).flatMap(([what, some]) => [
    '',
    `${what}:`,
    ...some.map(one => JSON.stringify(one)),
  ])
  return [
    `\`${command}\`, ${seconds} s`,
    '',
    '| what | measured | wanted |',
    '|---|---|---|',
    ...rows.map(line),
    ...proof,
    '',
  ].join('\n')
}

log(commandOf(options))
try {
  const report = await runChaos(options, { log, signal: stopping.signal })
  process.stdout.write(table(report))
  if (values.json) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`)
  process.exitCode = report.ok ? 0 : 1
} catch (error) {
  if (!stopping.signal.aborted) log((error as Error).stack ?? String(error))
  process.exitCode = stopping.signal.aborted ? 130 : 1
}

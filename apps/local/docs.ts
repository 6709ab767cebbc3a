import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { settingsTable } from '#shared/config.ts'
import { dashboards } from './dashboards/index.ts'

const DASHBOARDS = join(import.meta.dirname, '../../prometheus/dashboards')
const README = join(import.meta.dirname, '../../README.md')
const [START, END] = ['<!-- settings:start -->', '<!-- settings:end -->']

/** The text with the table between the markers replaced; null if a marker is missing. */
export function withSettings(text: string, table: string): string | null {
  const [start, end] = [text.indexOf(START), text.indexOf(END)]
  if (start < 0 || end < start) return null
  return `${text.slice(0, start + START.length)}\n${table}\n${text.slice(end)}`
}

function fail(line: string): never {
  process.stderr.write(`sluice: ${line}\n`)
  process.exit(1)
}

if (import.meta.main) {
  let text: string
  try {
    text = readFileSync(README, 'utf8')
  } catch {
    fail('README.md is missing')
  }
  const current = withSettings(text, settingsTable()) ?? fail(`README.md has no ${START} … ${END}`)
  if (process.argv.includes('--check')) {
    if (current !== text) fail('the settings in README.md are out of date: run `npm run docs`')
  } else if (current !== text) {
    writeFileSync(README, current)
    process.stdout.write('README.md: settings brought up to date\n')
  }
  for (const [file, text] of dashboards()) {
    const path = join(DASHBOARDS, file)
    if (existsSync(path) && readFileSync(path, 'utf8') === text) continue
    if (process.argv.includes('--check')) fail(`prometheus/dashboards/${file} is out of date: run \`npm run docs\``)
    writeFileSync(path, text)
    process.stdout.write(`prometheus/dashboards/${file}: brought up to date\n`)
  }
}

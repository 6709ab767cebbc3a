import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { settingsTable } from '#shared/config.ts'

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
}

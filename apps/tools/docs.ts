import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REQUEST_ERRORS } from '#shared/errors/request-errors.ts'
import { TASK_ERRORS } from '#shared/errors/task-errors.ts'
import { errorsTable } from '#shared/errors.ts'
import { metricsTable } from '#shared/metrics/metrics.ts'
import { providersFile } from '#shared/settings/endpoint-schema.ts'
import { settingsTable } from '#shared/settings/settings.ts'
import { dashboards } from './dashboards/index.ts'
import { lossesTable } from './losses-table.ts'

const ROOT = join(import.meta.dirname, '../..')

/** The generated tables of each page, by the name in their markers. */
const PAGES: Record<string, Record<string, () => string>> = {
  'docs/configuration.md': { settings: settingsTable },
  'docs/errors.md': {
    'request-errors': () => errorsTable(REQUEST_ERRORS),
    'task-errors': () => errorsTable(TASK_ERRORS),
  },
  'docs/metrics.md': { metrics: metricsTable },
  'docs/anthropic.md': { 'messages-losses': () => lossesTable('anthropic-messages') },
  'docs/openai.md': {
    'chat-losses': () => lossesTable('openai-chat'),
    'responses-losses': () => lossesTable('openai-responses'),
  },
}

/** The text with the part between `<!-- name:start -->` and `<!-- name:end -->` replaced; null if a marker is missing. */
export function withTable(text: string, name: string, table: string): string | null {
  const [startMarker, endMarker] = [`<!-- ${name}:start -->`, `<!-- ${name}:end -->`]
  const [start, end] = [text.indexOf(startMarker), text.indexOf(endMarker)]
  if (start < 0 || end < start) return null
  return `${text.slice(0, start + startMarker.length)}\n${table}\n${text.slice(end)}`
}

/**
 * Finds the generated files that are stale. @returns their current text, by path
 * @param read returns the text of a file, by its path from the root; null: the file does not exist
 * @throws if a page or the markers of a table are missing
 */
export function staleFiles(read: (path: string) => string | null): [path: string, text: string][] {
  const pages = Object.entries(PAGES).map(([page, tables]): [string, string] => {
    let text = read(page)
    if (text === null) throw new Error(`${page} is missing`)
    for (const [name, table] of Object.entries(tables)) {
      text = withTable(text, name, table())
      if (text === null) throw new Error(`${page} has no <!-- ${name}:start --> … <!-- ${name}:end -->`)
    }
    return [page, text]
  })
  const boards = dashboards().map(([file, text]): [string, string] => [`prometheus/dashboards/${file}`, text])
  const schema: [string, string] = [
    'docs/providers.schema.json',
    `${JSON.stringify({ $schema: 'http://json-schema.org/draft-07/schema#', ...providersFile }, null, 2)}\n`,
  ]
  return [...pages, ...boards, schema].filter(([path, text]) => read(path) !== text)
}

function fail(line: string): never {
  process.stderr.write(`sluice: ${line}\n`)
  process.exit(1)
}

const readFromRoot = (path: string) => (existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), 'utf8') : null)

if (import.meta.main) {
  let stale: [path: string, text: string][]
  try {
    stale = staleFiles(readFromRoot)
  } catch (error) {
    fail((error as Error).message)
  }
  for (const [path, text] of stale) {
    if (process.argv.includes('--check')) fail(`${path} is out of date: run \`npm run docs\``)
    writeFileSync(join(ROOT, path), text)
    process.stdout.write(`${path}: updated\n`)
  }
}

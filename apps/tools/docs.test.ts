import { expect, test } from 'vitest'
import { ERRORS, errorsTable } from '#shared/errors.ts'
import { createMetrics, metricsTable } from '#shared/metrics/metrics.ts'
import { settings, settingsTable } from '#shared/settings/settings.ts'
import { staleFiles, withTable } from './docs.ts'
import { lossesTable } from './losses-table.ts'

const page = 'before\n<!-- settings:start -->\nold\n<!-- settings:end -->\nafter\n'

test('only the text between the markers is replaced', () => {
  expect(withTable(page, 'settings', 'new')).toBe(
    'before\n<!-- settings:start -->\nnew\n<!-- settings:end -->\nafter\n',
  )
})

test('replacing twice changes nothing', () => {
  const once = withTable(page, 'settings', 'new') ?? ''
  expect(withTable(once, 'settings', 'new')).toBe(once)
})

test('a page without the markers of a table is refused', () => {
  expect(withTable('before', 'settings', 'new')).toBeNull()
  expect(withTable(page, 'metrics', 'new')).toBeNull()
})

test('every setting, error and metric has a row', async () => {
  for (const name of Object.keys(settings)) expect(settingsTable()).toContain(`\`${name}\``)
  for (const code of Object.keys(ERRORS)) expect(errorsTable(ERRORS)).toContain(`| \`${code}\` |`)
  const { registry } = createMetrics('api')
  const ours = (await registry.getMetricsAsJSON()).filter(({ name }) => /^(sluice|gen_ai)_/.test(name))
  for (const { name, type } of ours) expect(metricsTable()).toContain(`| \`${name}\` | ${type} |`)
})

test('losses are listed for providers that do not speak the format', () => {
  expect(lossesTable('openai-chat')).toMatch(/^\| parameter +\| (Anthropic \| )?Ollama \|\n/)
  expect(lossesTable('openai-chat')).toMatch(/^\| `n` above 1 +\|.* lost +\|$/m)
  expect(lossesTable('openai-responses')).toContain('Nothing is lost of: function tools;')
})

test('the text of a cell cannot break the table', () => {
  const row = { status: 400, retryable: false, title: 'a | b', advice: 'Send <key>, not `<key>`.' }
  expect(errorsTable({ x: row })).toContain('| `x` | 400 | no | a \\| b. | Send \\<key>, not `<key>`. |')
})

const markers = (...names: string[]) =>
  names.map(name => `<!-- ${name}:start -->\nold\n<!-- ${name}:end -->`).join('\n')
const stored = (): Record<string, string> => ({
  'docs/configuration.md': markers('settings'),
  'docs/errors.md': markers('request-errors', 'task-errors'),
  'docs/metrics.md': markers('metrics'),
  'docs/anthropic.md': markers('messages-losses'),
  'docs/openai.md': markers('chat-losses', 'responses-losses'),
})

test('a stale page is reported with its current text, and a current one is not', () => {
  const files = stored()
  const stale = staleFiles(path => files[path] ?? null)
  expect(stale.map(([path]) => path)).toEqual(expect.arrayContaining(Object.keys(files)))
  for (const [path, text] of stale) files[path] = text
  expect(staleFiles(path => files[path] ?? null)).toEqual([])
  files['docs/metrics.md'] = files['docs/metrics.md']!.replace('| counter |', '| gauge |')
  expect(staleFiles(path => files[path] ?? null).map(([path]) => path)).toEqual(['docs/metrics.md'])
})

test('a missing page and a missing table are named', () => {
  const files = stored()
  expect(() => staleFiles(path => (path === 'docs/errors.md' ? null : files[path]!))).toThrow(
    'docs/errors.md is missing',
  )
  files['docs/errors.md'] = markers('request-errors')
  expect(() => staleFiles(path => files[path]!)).toThrow('docs/errors.md has no <!-- task-errors:start -->')
})

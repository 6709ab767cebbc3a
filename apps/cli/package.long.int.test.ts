import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ADMIN, startStack } from '#shared/testing/stack.ts'
import { sluice } from './testing/sluice.ts'

/** The package as its users get it: packed, installed into an empty directory, and run there. */

const ROOT = resolve(import.meta.dirname, '../..')
const stack = startStack()
let dir: string
let tarball: string

/** The user's Node if npm runs the tests. It may be older than the Node of this repository. */
// biome-ignore lint/style/noProcessEnv: npm sets this variable for its scripts.
const node = process.env.npm_node_execpath ?? process.execPath
const run = promisify(execFile)
const inDir = (name: string) => join(dir, name)

/** The dependencies of these packages, direct and transitive, from our node_modules. */
function closure(names: string[], found = new Set<string>()): Set<string> {
  for (const name of names) {
    if (found.has(name)) continue
    found.add(name)
    const { dependencies = {} } = JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8'))
    closure(Object.keys(dependencies), found)
  }
  return found
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-package-'))
  const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', dir], { cwd: ROOT })
  tarball = inDir(stdout.trim().split('\n').at(-1)!)
  writeFileSync(inDir('package.json'), JSON.stringify({ private: true, type: 'module' }))
  // Offline: the dependencies come from our node_modules.
  const needed = [...closure(['cli-progress', 'commander'])].map(name => join(ROOT, 'node_modules', name))
  const options = ['--offline', '--install-links', '--no-audit', '--no-fund', '--loglevel=error']
  await run('npm', ['install', ...options, tarball, ...needed], { cwd: dir })
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

it('the package holds JavaScript and types of the CLI and the client, and nothing else', async () => {
  const { stdout } = await run('tar', ['-tf', tarball])
  const files = stdout.trim().split('\n')
  expect(files).toContain('package/cli/main.js')
  expect(files).toContain('package/client/index.d.ts')
  const others = files.filter(file => !/^package\/(cli|client)\/[\w-]+\.(js|d\.ts)$/.test(file))
  expect(others.toSorted()).toEqual(['package/LICENSE', 'package/package.json'])
  const installed = JSON.parse(readFileSync(inDir('node_modules/sluice/package.json'), 'utf8'))
  expect(Object.keys(installed.dependencies)).toEqual(['cli-progress', 'commander'])
})

const request = (custom_id: string, body: object = {}) =>
  `${JSON.stringify({
    custom_id,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'claude-haiku-4-5', messages: [{ role: 'user', content: `[[${custom_id}]]` }], ...body },
  })}\n`
/** The answers in a file, by the line's name. */
const answers = (name: string) =>
  Object.fromEntries(
    readFileSync(inDir(name), 'utf8')
      .trimEnd()
      .split('\n')
      .map(line => {
        const { custom_id, response } = JSON.parse(line)
        return [custom_id, response]
      }),
  )
const runBatch = (input: string) => {
  writeFileSync(inDir('in.jsonl'), input)
  return sluice(['batch', 'run', 'in.jsonl', '-o', 'out.jsonl', '--url', `http://127.0.0.1:${stack.api.port}`], {
    cwd: dir,
    env: { SLUICE_API_KEY: ADMIN },
    node,
    main: inDir('node_modules/.bin/sluice'),
  }).ended
}

it('the CLI runs a batch and fetches its answers', async () => {
  const { code, stderr } = await runBatch(request('one') + request('two'))
  expect(stderr).toContain('completed: 2 lines, 2 succeeded')
  expect(code).toBe(0)
  const found = answers('out.jsonl')
  expect(Object.keys(found).toSorted()).toEqual(['one', 'two'])
  expect(found.one).toMatchObject({
    status_code: 200,
    body: { choices: [{ message: { content: 'Hello from upstream.' } }] },
  })
  expect(existsSync(inDir('out.errors.jsonl'))).toBe(false)
  expect(stack.upstream.markers()).toEqual({ one: 1, two: 1 })
})

it('the CLI ends with 1 if a line failed, with its error in a file', async () => {
  const { code, stderr } = await runBatch(request('one') + request('tools', { tools: [{}] }))
  expect(stderr).toContain('completed: 2 lines, 1 succeeded, 1 failed')
  expect(code).toBe(1)
  expect(Object.keys(answers('out.jsonl'))).toEqual(['one'])
  expect(answers('out.errors.jsonl')).toMatchObject({
    tools: { status_code: 400, body: { error: { code: 'unsupported_parameter', param: 'tools' } } },
  })
})

it('the CLI ends with 2 if the file is invalid, and names the line', async () => {
  const { code, stderr } = await runBatch(`${request('one')}{`)
  expect(stderr).toMatch(/line 2: invalid_json_line: /)
  expect(code).toBe(2)
})

const CONSUMER = `
import { type Client, createClient, SluiceApiError, type Task } from 'sluice'

const client: Client = createClient({ baseUrl: process.env.URL!, apiKey: process.env.KEY! })
const accepted = await client.tasks.submit('generate', {
  input: { prompt: 'Say hello' },
  options: { stream: true, priority: 'interactive' },
})
// @ts-expect-error there is no such priority
void (() => client.tasks.submit('generate', { input: {}, options: { priority: 'urgent' } }))
let seen = ''
for await (const event of client.tasks.events(accepted.task_id)) {
  if (event.event === 'delta') seen += event.data.text
  // @ts-expect-error only \`done\` carries the task
  else if (event.event === 'status') void event.data.task_id
}
const task: Task<{ text: string }> = await client.tasks.wait<{ text: string }>(accepted.task_id)
const error: unknown = await client.files.get('file_1').catch((reason: unknown) => reason)
const status: number | null = error instanceof SluiceApiError ? error.status : null
console.log(JSON.stringify({ same: seen === task.result?.text, status }))
`

it('a program is checked against the types of the client and runs against the API', async () => {
  writeFileSync(inDir('consumer.ts'), CONSUMER)
  const compilerOptions = {
    ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true },
    ...{ target: 'es2022', module: 'nodenext', types: ['node'] },
  }
  writeFileSync(inDir('tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }))
  symlinkSync(join(ROOT, 'node_modules/@types'), inDir('node_modules/@types'))
  symlinkSync(join(ROOT, 'node_modules/undici-types'), inDir('node_modules/undici-types'))
  const checked = await run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.'], {
    cwd: dir,
  }).catch((error: { stdout: string }) => error)
  expect(checked.stdout).toBe('')
  const env = { URL: `http://127.0.0.1:${stack.api.port}`, KEY: ADMIN }
  const { stdout } = await run(process.execPath, ['consumer.ts'], { cwd: dir, env })
  expect(JSON.parse(stdout)).toEqual({ same: true, status: 404 })
})

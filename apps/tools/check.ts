import { type ChildProcess, spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { exitOf, settlesWithin } from '#apps/local/process.ts'
import { cruise } from './cruise.ts'
import { checkWallClock } from './wall-clock.ts'

export type Counts = { passed: number; failed: number }

/**
 * `npm test`: runs the suites that the arguments name, `short` by default. Every step runs, also after a failed one, and
 * each static step counts as one test.
 */
const ROOT = resolve(import.meta.dirname, '../..')
const running = new Set<ChildProcess>()

type RunOptions = { env?: Record<string, string>; onMessage?: (message: unknown) => void }

async function run(args: string[], { env = {}, onMessage = () => {} }: RunOptions = {}): Promise<boolean> {
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  running.add(child)
  child.on('message', onMessage)
  const { code } = await exitOf(child)
  running.delete(child)
  return code === 0
}

const bin = (path: string) => join(ROOT, 'node_modules', path)
const one = (ok: boolean): Counts => ({ passed: ok ? 1 : 0, failed: ok ? 0 : 1 })

/** @param files run only files whose path contains one of these */
async function tests(project: string, files: string[] = [], env: Record<string, string> = {}): Promise<Counts> {
  let counts: Counts | null = null
  const ok = await run(
    [
      bin('vitest/vitest.mjs'),
      'run',
      `--project=${project}`,
      ...files,
      '--reporter=default',
      '--reporter=apps/testing/setup/reporter.ts',
    ],
    {
      env,
      onMessage: message => {
        const { type, passed, failed } = message as Counts & { type: unknown }
        if (type === 'counts') counts = { passed, failed }
      },
    },
  )
  const { passed, failed } = counts ?? { passed: 0, failed: 0 }
  // vitest fails without a failed test when it or its setup crashes, or when no test matches.
  return { passed, failed: failed === 0 && (!ok || passed === 0) ? 1 : failed }
}

/** Code that uses Redis directly, and the API. */
const USES_REDIS = [
  'shared/cache',
  'shared/events',
  'shared/gate',
  'shared/queue',
  'shared/redis',
  'workers/',
  'apps/api/tasks',
]

type Step = [name: string, run: () => Promise<Counts>]
const SUITES: Record<string, Step[]> = {
  short: [
    ['types', async () => one(await run([bin('typescript/bin/tsc'), '-p', '.']))],
    ['lint', async () => one(await run([bin('@biomejs/biome/bin/biome'), 'check', '.']))],
    ['dependency rules', async () => one(await cruise(ROOT))],
    ['clocks', async () => one(await checkWallClock(ROOT))],
    ['docs', async () => one(await run([join(ROOT, 'apps/tools/docs.ts'), '--check']))],
    ['unit tests', () => tests('unit')],
    ['integration tests', () => tests('int')],
  ],
  long: [
    ['long tests', () => tests('long')],
    ['integration tests on a Redis Cluster', () => tests('int', USES_REDIS, { TEST_REDIS: 'cluster' })],
  ],
}

let quitting = false
/** vitest skips its teardown when it is killed. Watchdogs end the servers of the tests. */
async function quit() {
  if (quitting) return
  quitting = true
  const ended = Promise.all([...running].map(exitOf))
  for (const child of running) child.kill('SIGTERM')
  await settlesWithin(ended, 15_000)
  process.exit(130)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, quit)
if (process.channel) {
  process.on('disconnect', quit)
  process.channel.unref()
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : ['short']
for (const name of wanted)
  if (!Object.hasOwn(SUITES, name)) throw new Error(`No suite "${name}": use ${Object.keys(SUITES).join(', ')}`)

const lines: string[] = []
const print = ({ passed, failed }: Counts) => console.log(`${passed} passed, ${failed} failed`)
const add = (a: Counts, b: Counts): Counts => ({ passed: a.passed + b.passed, failed: a.failed + b.failed })

async function runStep([name, step]: Step): Promise<Counts> {
  console.log(`\n== ${name}`)
  const began = performance.now()
  const counts = await step().catch((error: Error) => {
    console.error(error)
    return one(false)
  })
  lines.push(`${counts.failed ? 'FAILED' : 'ok    '}  ${name}  ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return counts
}

let total: Counts = { passed: 0, failed: 0 }
for (const name of wanted) {
  let counts: Counts = { passed: 0, failed: 0 }
  for (const step of SUITES[name]!) counts = add(counts, await runStep(step))
  console.log(`\n${lines.splice(0).join('\n')}\n`)
  print(counts)
  total = add(total, counts)
}
if (wanted.length > 1) {
  console.log('\nBoth suites:')
  print(total)
}
process.exitCode = total.failed ? 1 : 0

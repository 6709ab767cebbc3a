import { type ChildProcess, spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { cruise } from './cruise.ts'
import { exitOf, settlesWithin } from './process.ts'

export type Counts = { passed: number; failed: number }

/** `npm test`: every step runs, whatever failed before it, and each static one counts as one test. */
const ROOT = resolve(import.meta.dirname, '../..')
const running = new Set<ChildProcess>()

async function run(args: string[], onMessage: (message: unknown) => void = () => {}): Promise<boolean> {
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  running.add(child)
  child.on('message', onMessage)
  const { code } = await exitOf(child)
  running.delete(child)
  return code === 0
}

const bin = (path: string) => join(ROOT, 'node_modules', path)
const one = (ok: boolean): Counts => ({ passed: ok ? 1 : 0, failed: ok ? 0 : 1 })

async function suite(): Promise<Counts> {
  let counts: Counts | null = null
  const ok = await run(
    [bin('vitest/vitest.mjs'), 'run', '--reporter=default', '--reporter=apps/local/testing/reporter.ts'],
    message => {
      const { type, passed, failed } = message as Counts & { type: unknown }
      if (type === 'counts') counts = { passed, failed }
    },
  )
  const { passed, failed } = counts ?? { passed: 0, failed: 0 }
  // It fails without a failed test when it crashes, when its setup does, and when it finds nothing to run.
  return { passed, failed: failed === 0 && (!ok || passed === 0) ? 1 : failed }
}

const STEPS: [string, () => Promise<Counts>][] = [
  ['types', async () => one(await run([bin('typescript/bin/tsc'), '-p', '.']))],
  ['lint', async () => one(await run([bin('@biomejs/biome/bin/biome'), 'check', '.']))],
  ['dependency rules', async () => one(await cruise(ROOT))],
  ['docs', async () => one(await run([join(ROOT, 'apps/local/docs.ts'), '--check']))],
  ['tests', suite],
]

let quitting = false
/** vitest skips its teardown then; the watchdogs of the servers that the tests run see to those. */
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

const total: Counts = { passed: 0, failed: 0 }
const lines: string[] = []
for (const [name, step] of STEPS) {
  console.log(`\n== ${name}`)
  const began = performance.now()
  const { passed, failed } = await step().catch((error: Error) => {
    console.error(error)
    return one(false)
  })
  total.passed += passed
  total.failed += failed
  lines.push(`${failed ? 'FAILED' : 'ok    '}  ${name}  ${((performance.now() - began) / 1000).toFixed(1)} s`)
}
console.log(`\n${lines.join('\n')}\n`)
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed ? 1 : 0

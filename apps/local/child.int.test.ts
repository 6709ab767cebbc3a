import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type ChildError, startChild } from './child.ts'
import { commandOf, exitOf, signalIfAlive } from './process.ts'
import { stopAfterTest, temporaryDirectory } from './testing/temporary.ts'
import { startWatchdog } from './watchdog.ts'

const start = (code: string, o: { drainMs?: number; signal?: AbortSignal } = {}) =>
  startChild({ args: ['-e', code], cwd: '/', env: process.env, drainMs: 5000, ...o })

const READY = "process.send({ type: 'ready', port: 4711 });"
const STAY = 'setInterval(() => {}, 1000);'

test('a child has started once it says so, with the port that it says', async () => {
  const child = stopAfterTest(await start(READY + STAY))
  expect(child.port).toBe(4711)
})

test('a child that ends before it is ready fails with its exit code', async () => {
  await expect(start('process.exit(78)')).rejects.toMatchObject({ code: 78 } satisfies Partial<ChildError>)
})

test('a start that is given up takes the child along', async () => {
  const cancel = new AbortController()
  const starting = start(STAY, { signal: cancel.signal })
  cancel.abort()
  await expect(starting).rejects.toThrow('told to stop')
})

test('a child that is told to stop may drain', async () => {
  const child = await start(`process.on('SIGTERM', () => process.exit(7));${READY}${STAY}`)
  await child.stop()
  expect(await child.exited).toEqual({ code: 7, signal: null })
})

test('a child that does not end in time is killed', async () => {
  const child = await start(`process.on('SIGTERM', () => {});${READY}${STAY}`, { drainMs: 50 })
  await child.stop()
  expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' })
})

/** Something with a pid file, and a watchdog over it. */
function watched() {
  const dir = temporaryDirectory()
  const server = spawn('sleep', ['600'])
  const pid = server.pid ?? 0
  const exited = exitOf(server)
  const kill = () => signalIfAlive(pid, 'SIGKILL')
  stopAfterTest({ pid, exited, stop: async () => kill(), kill })
  const pidFile = join(dir, 'server.pid')
  writeFileSync(pidFile, `${pid}\n`)
  return { pid, exited, held: startWatchdog({ pidFiles: [pidFile] }).held }
}

test('the watchdog ends the servers when the last process that needs them is gone, not before', async () => {
  const [needed, unneeded] = [watched(), watched()]
  const child = stopAfterTest(
    await startChild({ args: ['-e', READY + STAY], cwd: '/', env: process.env, drainMs: 5000, held: needed.held }),
  )
  // Our own ends, as our death would close them; end() would close the child's as well.
  for (const { held } of [needed, unneeded]) held.destroy()
  expect(await unneeded.exited).toEqual({ code: null, signal: 'SIGINT' })
  expect(commandOf(needed.pid)).toContain('sleep')
  child.kill()
  expect(await needed.exited).toEqual({ code: null, signal: 'SIGINT' })
})

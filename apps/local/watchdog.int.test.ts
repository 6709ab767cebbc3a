import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { stopAfterTest, temporaryDirectory } from '#apps/testing/setup/temporary.ts'
import { startChild } from './child.ts'
import { commandOf, exitOf, readPid, signalIfAlive } from './process.ts'
import { startWatchdog } from './watchdog.ts'

const STAY = 'setInterval(() => {}, 1000);'

/** Starts a process of that name, and writes its pid file. */
function startAs(name: string, dir: string) {
  const command = join(dir, name)
  symlinkSync(process.execPath, command)
  const child = spawn(command, ['-e', STAY], { stdio: 'ignore' })
  const pid = child.pid ?? 0
  const exited = exitOf(child)
  const kill = () => signalIfAlive(pid, 'SIGKILL')
  stopAfterTest({ pid, exited, stop: async () => kill(), kill })
  const pidFile = join(dir, `${name}.pid`)
  writeFileSync(pidFile, `${pid}\n`)
  return { pid, exited, pidFile }
}

function watch(...pidFiles: string[]) {
  const pidFile = join(temporaryDirectory(), 'watchdog.pid')
  const watchdog = startWatchdog({ pidFiles, pidFile })
  onTestFinished(() => watchdog.dismiss())
  return { watchdog, pidOf: () => readPid(pidFile) ?? 0 }
}

const startHolding = async (held: ReturnType<typeof startWatchdog>['held']) =>
  stopAfterTest(
    await startChild({
      args: ['-e', `process.send({ type: 'ready', port: 4711 });${STAY}`],
      cwd: '/',
      env: process.env,
      drainMs: 5000,
      held,
    }),
  )

test('the watchdog ends the servers when the last process that needs them is gone', async () => {
  const [needed, unneeded] = ['redis-server', 'redis-server'].map(name => startAs(name, temporaryDirectory()))
  const [ofNeeded, ofUnneeded] = [watch(needed!.pidFile), watch(unneeded!.pidFile)]
  const child = await startHolding(ofNeeded.watchdog.held)
  // Closes only our ends, as our death would; end() would close those of the child, too.
  for (const { watchdog } of [ofNeeded, ofUnneeded]) watchdog.held.destroy()
  expect(await unneeded!.exited).toEqual({ code: null, signal: 'SIGINT' })
  expect(commandOf(needed!.pid)).toContain('redis-server')
  child.kill()
  expect(await needed!.exited).toEqual({ code: null, signal: 'SIGINT' })
})

test('a watchdog that is killed is started again', async () => {
  const server = startAs('valkey-server', temporaryDirectory())
  const { watchdog, pidOf } = watch(server.pidFile)
  const [first, held] = [pidOf(), watchdog.held]
  signalIfAlive(first, 'SIGKILL')
  await once(held, 'close')
  await startHolding(watchdog.held)
  await expect.poll(() => watchdog.held.destroyed).toBe(false)
  expect(pidOf()).not.toBe(first)
  const child = await startHolding(watchdog.held)
  watchdog.held.destroy()
  child.kill()
  expect(await server.exited).toEqual({ code: null, signal: 'SIGINT' })
})

test('a process with the pid of a stale pid file is left alone', async () => {
  const dir = temporaryDirectory()
  const [stranger, server] = [startAs('editor', dir), startAs('postgres', dir)]
  watch(stranger.pidFile, server.pidFile).watchdog.held.destroy()
  // The watchdog processes the files in order.
  expect(await server.exited).toEqual({ code: null, signal: 'SIGINT' })
  expect(commandOf(stranger.pid)).toContain('editor')
})

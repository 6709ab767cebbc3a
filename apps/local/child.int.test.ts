import { expect, test } from 'vitest'
import { stopAfterTest } from '#apps/testing/setup/temporary.ts'
import { type ChildError, startChild } from './child.ts'

const start = (code: string, o: { drainMs?: number; signal?: AbortSignal } = {}) =>
  startChild({ args: ['-e', code], cwd: '/', env: process.env, drainMs: 5000, ...o })

const READY = "process.send({ type: 'ready', port: 4711 });"
const STAY = 'setInterval(() => {}, 1000);'

test('a child has started when it sends its ready message with its port', async () => {
  const child = stopAfterTest(await start(READY + STAY))
  expect(child.port).toBe(4711)
})

test('a child that exits before it is ready fails with its exit code', async () => {
  await expect(start('process.exit(78)')).rejects.toMatchObject({ code: 78 } satisfies Partial<ChildError>)
})

test('a start that is given up stops the child', async () => {
  const cancel = new AbortController()
  const starting = start(STAY, { signal: cancel.signal })
  cancel.abort()
  await expect(starting).rejects.toThrow('told to stop')
})

test('a child drains when it is told to stop', async () => {
  const child = await start(`process.on('SIGTERM', () => process.exit(7));${READY}${STAY}`)
  await child.stop()
  expect(await child.exited).toEqual({ code: 7, signal: null })
})

test('a child that does not exit in time is killed', async () => {
  const child = await start(`process.on('SIGTERM', () => {});${READY}${STAY}`, { drainMs: 50 })
  await child.stop()
  expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' })
})

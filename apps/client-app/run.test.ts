import { EventEmitter } from 'node:events'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createLog } from './log.ts'
import { stopOnSignal } from './run.ts'

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A process whose signals the test sends, and a service that stops when the test says so. */
function harness() {
  const exits: unknown[] = []
  const face = Object.assign(new EventEmitter(), { exit: (code: number) => exits.push(code) })
  const { promise, resolve } = Promise.withResolvers<void>()
  stopOnSignal(face as unknown as NodeJS.Process, { stop: () => promise }, createLog('test', 'silent'))
  return { exits, stopped: resolve, send: (event: string) => face.emit(event) }
}

it.each(['SIGTERM', 'SIGINT', 'disconnect'])('stops on %s, then exits with 0', async signal => {
  const { exits, stopped, send } = harness()
  send(signal)
  await pass(0)
  expect(exits).toEqual([])
  stopped()
  await pass(0)
  expect(exits).toEqual([0])
})

it('takes a Ctrl-C that comes twice for one, and ends on a later one', async () => {
  const { exits, send } = harness()
  send('SIGINT')
  await pass(4)
  send('SIGINT')
  await pass(496)
  send('SIGINT')
  expect(exits).toEqual([])
  await pass(1)
  send('SIGINT')
  expect(exits).toEqual([1])
})

it('goes on to stop in good order however often SIGTERM comes, but not for ever', async () => {
  const { exits, send } = harness()
  for (let n = 0; n < 9; n++) {
    send('SIGTERM')
    await pass(1000)
  }
  send('disconnect')
  expect(exits).toEqual([])
  await pass(1000)
  expect(exits).toEqual([1])
})

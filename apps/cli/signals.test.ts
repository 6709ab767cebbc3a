import { EventEmitter } from 'node:events'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Interrupted } from './failure.ts'
import { stopSignal } from './signals.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A process whose signals the test sends. */
function harness() {
  const exits: unknown[] = []
  const face = Object.assign(new EventEmitter(), { exit: (code: number) => exits.push(code) })
  const signal = stopSignal(face as unknown as NodeJS.Process)
  return { signal, exits, send: (name: NodeJS.Signals) => face.emit(name) }
}

it.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)('stops in good order on %s', (name, exitCode) => {
  const { signal, exits, send } = harness()
  send(name)
  expect(signal.reason).toBeInstanceOf(Interrupted)
  expect(signal.reason).toMatchObject({ exitCode })
  expect(exits).toEqual([])
})

it('a Ctrl-C that arrives twice counts once; a later one exits', () => {
  const { exits, send } = harness()
  send('SIGINT')
  vi.advanceTimersByTime(4)
  send('SIGINT')
  vi.advanceTimersByTime(496)
  send('SIGINT')
  expect(exits).toEqual([])
  vi.advanceTimersByTime(1)
  send('SIGINT')
  expect(exits).toEqual([130])
})

it('a repeated SIGTERM or SIGHUP does not exit', () => {
  const { exits, send } = harness()
  send('SIGTERM')
  vi.advanceTimersByTime(10_000)
  send('SIGTERM')
  send('SIGHUP')
  expect(exits).toEqual([])
})

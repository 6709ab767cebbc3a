import { expect, test } from 'vitest'
import type { Exit, Running } from './process.ts'
import { supervise } from './supervise.ts'

/** A process that exits when the test says so. */
function fakeProcess(pid: number) {
  const { promise: exited, resolve: die } = Promise.withResolvers<Exit>()
  const calls: string[] = []
  const end = (call: string) => {
    calls.push(call)
    die({ code: 0, signal: null })
  }
  const running: Running = { pid, exited, stop: async () => end('stop'), kill: () => end('kill') }
  return { running, calls, crash: (code = 1) => die({ code, signal: null }) }
}

/** A supervisor with the clock, the waits and the starts of the test. */
function harness() {
  const lines: string[] = []
  const waits: number[] = []
  let now = 0
  let changed = () => {}
  const starts: (() => Promise<Running>)[] = []
  const first = fakeProcess(1)
  const supervised = supervise({
    name: 'api',
    first: first.running,
    start: async signal => {
      const next = starts.shift()
      changed()
      if (next) return next()
      const { promise, reject } = Promise.withResolvers<Running>()
      signal.addEventListener('abort', () => reject(new Error('told to stop')))
      return promise
    },
    log: line => {
      lines.push(line)
      changed()
    },
    now: () => now,
    wait: async ms => {
      waits.push(ms)
    },
  })
  /** Resolves once the condition holds after a log line or a start. */
  const until = (condition: () => boolean) =>
    new Promise<void>(resolve => {
      changed = () => condition() && resolve()
      changed()
    })
  const isBack = (times: number) => until(() => lines.filter(line => line === 'api is back').length === times)
  return { supervised, first, starts, lines, waits, until, isBack, advance: (ms: number) => (now += ms) }
}

test('a process that exits is started again after 200 ms', async () => {
  const { supervised, first, starts, lines, waits, isBack } = harness()
  starts.push(async () => fakeProcess(2).running)
  first.crash(3)
  await isBack(1)
  expect(waits).toEqual([200])
  expect(lines[0]).toBe('api exited with code 3; starting it again in 200 ms')
  await supervised.stop()
})

test('the backoff doubles with every failed start, up to 10 s', async () => {
  const { supervised, first, starts, waits, isBack } = harness()
  for (let failures = 0; failures < 8; failures++) starts.push(() => Promise.reject(new Error('no')))
  starts.push(async () => fakeProcess(2).running)
  first.crash()
  await isBack(1)
  expect(waits).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000])
  await supervised.stop()
})

test('a crash loop keeps its backoff; a life of 30 s resets it', async () => {
  const { supervised, first, starts, waits, isBack, advance } = harness()
  const [second, third, fourth] = [fakeProcess(2), fakeProcess(3), fakeProcess(4)]
  for (const { running } of [second, third, fourth]) starts.push(async () => running)
  first.crash()
  await isBack(1)
  advance(29_999)
  second.crash()
  await isBack(2)
  advance(30_000)
  third.crash()
  await isBack(3)
  expect(waits).toEqual([200, 400, 200])
  await supervised.stop()
})

test('a process that was told to stop is not started again', async () => {
  const { supervised, first, lines } = harness()
  await supervised.stop()
  expect(first.calls).toContain('stop')
  expect(lines).toEqual([])
})

test('a stop gives up a start in progress', async () => {
  const { supervised, first, waits, until, lines } = harness()
  first.crash()
  await until(() => waits.length === 1)
  await supervised.stop()
  expect(lines).toHaveLength(1)
})

test('a process that comes up during the stop is stopped', async () => {
  const { supervised, first, starts, until } = harness()
  const second = fakeProcess(2)
  const { promise, resolve } = Promise.withResolvers<Running>()
  starts.push(() => promise)
  first.crash()
  await until(() => starts.length === 0)
  const stopped = supervised.stop()
  resolve(second.running)
  await stopped
  expect(second.calls).toContain('stop')
})

test('a kill does not wait', () => {
  const { supervised, first } = harness()
  supervised.kill()
  expect(first.calls).toEqual(['kill'])
})

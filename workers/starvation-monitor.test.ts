import { expect, onTestFinished, test } from 'vitest'
import { createLogger } from '#shared/process/logger.ts'
import { STARVED_MS, startStarvationMonitor } from './starvation-monitor.ts'

/** A worker of one queue, whose clock the test advances. */
function worker() {
  const state = { now: 0, idle: 0, waiting: 0, away: false }
  const watch = startStarvationMonitor({
    idleMs: () => new Map([['default', state.idle]]),
    waiting: async () => (state.away ? Promise.reject(new Error('away')) : state.waiting),
    logger: createLogger({ level: 'silent', name: 'test' }),
    now: () => state.now,
  })
  onTestFinished(() => watch.stop())
  return {
    state,
    /** Polls every two seconds for `ms`. */
    async pass(ms: number, idle = true) {
      for (const end = state.now + ms; state.now < end; ) {
        state.now += 2000
        state.idle = idle ? state.idle + 2000 : 0
        await watch.poll()
      }
      return watch.starved()
    },
  }
}

test('a worker that takes no job for twenty seconds while jobs wait is starved', async () => {
  const { state, pass } = worker()
  state.waiting = 3
  expect(await pass(STARVED_MS)).toEqual([])
  expect(await pass(4000)).toEqual(['default'])
  expect(await pass(2000, false)).toEqual([])
})

test('a worker of an empty queue is never starved', async () => {
  const { state, pass } = worker()
  expect(await pass(600_000)).toEqual([])
  state.waiting = 1
  expect(await pass(STARVED_MS)).toEqual([])
  expect(await pass(4000)).toEqual(['default'])
})

test('a worker that takes jobs, or has no free slot, is not starved however many jobs wait', async () => {
  const { state, pass } = worker()
  state.waiting = 1000
  expect(await pass(120_000, false)).toEqual([])
})

test('no worker is starved while Redis is unavailable, and the time starts anew afterwards', async () => {
  const { state, pass } = worker()
  state.waiting = 5
  await pass(STARVED_MS)
  state.away = true
  expect(await pass(60_000)).toEqual([])
  state.away = false
  expect(await pass(STARVED_MS)).toEqual([])
  expect(await pass(4000)).toEqual(['default'])
})

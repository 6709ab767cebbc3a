import { expect, onTestFinished, test } from 'vitest'
import { createLogger } from '#shared/logger.ts'
import { STARVED_MS, watchConsumption } from './consumption.ts'

/** A worker of one queue whose time the test moves. */
function worker() {
  const state = { now: 0, hungry: 0, waiting: 0, away: false }
  const watch = watchConsumption({
    hungryMs: () => new Map([['default', state.hungry]]),
    waiting: async () => (state.away ? Promise.reject(new Error('away')) : state.waiting),
    logger: createLogger({ level: 'silent', name: 'test' }),
    now: () => state.now,
  })
  onTestFinished(() => watch.stop())
  return {
    state,
    /** Looks every two seconds for so long. */
    async pass(ms: number, hungry = true) {
      for (const end = state.now + ms; state.now < end; ) {
        state.now += 2000
        state.hungry = hungry ? state.hungry + 2000 : 0
        await watch.look()
      }
      return watch.starved()
    },
  }
}

test('one that takes nothing for twenty seconds, though there always was something, is starved', async () => {
  const { state, pass } = worker()
  state.waiting = 3
  expect(await pass(STARVED_MS)).toEqual([])
  expect(await pass(4000)).toEqual(['default'])
  expect(await pass(2000, false)).toEqual([])
})

test('one without anything to take is idle, for as long as it likes', async () => {
  const { state, pass } = worker()
  expect(await pass(600_000)).toEqual([])
  state.waiting = 1
  expect(await pass(STARVED_MS)).toEqual([])
  expect(await pass(4000)).toEqual(['default'])
})

test('one that is taking, or has no hand free, is not starved however much waits', async () => {
  const { state, pass } = worker()
  state.waiting = 1000
  expect(await pass(120_000, false)).toEqual([])
})

test('while Redis is away nobody is to blame, and the time begins anew', async () => {
  const { state, pass } = worker()
  state.waiting = 5
  await pass(STARVED_MS)
  state.away = true
  expect(await pass(60_000)).toEqual([])
  state.away = false
  expect(await pass(STARVED_MS)).toEqual([])
  expect(await pass(4000)).toEqual(['default'])
})

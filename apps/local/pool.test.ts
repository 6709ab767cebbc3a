import { expect, test } from 'vitest'
import type { Reason } from '#shared/process/parent-ipc.ts'
import type { Child } from './child.ts'
import { createPool } from './pool.ts'
import type { Exit } from './process.ts'

/** A child that does nothing by itself. */
function fakeChild(pid: number) {
  const { promise: exited, resolve } = Promise.withResolvers<Exit>()
  const calls: string[] = []
  const sent: object[] = []
  const die = (exit: Partial<Exit> = {}) => resolve({ code: 0, signal: null, ...exit })
  const child: Child = {
    pid,
    port: 0,
    exited,
    send: message => void sent.push(message),
    stop: async () => {
      calls.push('stop')
      die()
    },
    kill: () => {
      calls.push('kill')
      die({ code: null, signal: 'SIGKILL' })
    },
  }
  return { child, calls, sent, die }
}

/** A pool of 1 to 3 processes. Its backoff takes no time, and a start fails if the test said so. */
async function harness() {
  const lines: string[] = []
  const replaced: Reason[] = []
  const started: (ReturnType<typeof fakeChild> & { index: number })[] = []
  const failures: string[] = []
  /** Of the liveness probes; after the last, a probe waits. */
  const answers: number[] = []
  const taken = new Set<number>()
  const pool = createPool({
    name: 'worker',
    min: 1,
    max: 3,
    retireMs: 60_000,
    log: line => void lines.push(line),
    now: () => 0,
    wait: async () => {},
    takeIndex() {
      let index = 0
      while (taken.has(index)) index++
      taken.add(index)
      return index
    },
    freeIndex: index => void taken.delete(index),
    probe: async () => answers.shift() ?? new Promise<null>(() => {}),
    onReplaced: reason => void replaced.push(reason),
    async start({ index }) {
      const failure = failures.shift()
      if (failure) throw new Error(failure)
      const fake = fakeChild(1000 + started.length)
      started.push({ ...fake, index })
      return fake.child
    },
  })
  await pool.open((_, start) => start(new AbortController().signal))
  return { pool, lines, replaced, started, failures, answers }
}

/** Everything that was begun without waiting is done. */
const settled = () => new Promise(resolve => setImmediate(resolve))

test('a pool grows and shrinks between its bounds, the youngest process first', async () => {
  const { pool, started, lines } = await harness()
  expect(started).toHaveLength(1)
  pool.resize(9)
  await settled()
  expect(started.map(one => one.index)).toEqual([0, 1, 2])

  pool.resize(2)
  expect(started.map(one => one.sent)).toEqual([[], [], [{ type: 'retire' }]])
  // It finishes its calls and is not told to stop meanwhile.
  await settled()
  expect(started[2]!.calls).toEqual([])
  started[2]!.die()
  await settled()
  pool.resize(0)
  expect(started.map(one => one.sent)).toEqual([[], [{ type: 'retire' }], [{ type: 'retire' }]])
  expect(lines).toEqual(['worker: 1 -> 3 processes', 'worker: 3 -> 2 processes', 'worker: 2 -> 1 processes'])
  await pool.stop()
})

test('a process that leaves keeps its number until it has exited', async () => {
  const { pool, started } = await harness()
  pool.resize(2)
  await settled()
  pool.resize(0)
  pool.resize(2)
  await settled()
  expect(started.map(one => one.index)).toEqual([0, 1, 2])
  started[1]!.die()
  await settled()
  pool.resize(3)
  await settled()
  expect(started.map(one => one.index)).toEqual([0, 1, 2, 1])
  await pool.stop()
})

test('a further process that does not start is started again with backoff, and does not count as restarted', async () => {
  const { pool, started, failures, lines, replaced } = await harness()
  failures.push('no port', 'no port')
  pool.resize(2)
  await settled()
  for (const ms of [200, 400])
    expect(lines).toContain(`worker 2 did not start (no port); starting it again in ${ms} ms`)
  expect(started.map(one => one.index)).toEqual([0, 1])
  expect(replaced).toEqual([])
  await pool.stop()
})

test('a process that leaves before it has started is not started', async () => {
  const { pool, started, failures } = await harness()
  failures.push('no port')
  pool.resize(2)
  pool.resize(1)
  await settled()
  expect(started).toHaveLength(1)
  await pool.stop()
})

test('a process that exits is started again and counted', async () => {
  const { pool, started, replaced, lines } = await harness()
  started[0]!.die({ code: 1 })
  await settled()
  expect(started).toHaveLength(2)
  expect(started[1]!.index).toBe(0)
  expect(replaced).toEqual(['exited'])
  expect(lines).toContain('worker 1 is back')
  await pool.stop()
})

test('a process that takes no jobs is stopped, started again and counted', async () => {
  const { pool, started, replaced, answers } = await harness()
  answers.push(503)
  pool.resize(2)
  await settled()
  expect(started.map(one => [one.index, one.calls])).toEqual([
    [0, []],
    [1, ['stop']],
    [1, []],
  ])
  expect(replaced).toEqual(['not_consuming'])
  await pool.stop()
})

test('a pool that stops does not wait for processes that leave, and stays stopped', async () => {
  const { pool, started } = await harness()
  pool.resize(2)
  await settled()
  pool.resize(0)
  await pool.stop()
  expect(started.map(one => one.calls)).toEqual([['stop'], ['stop']])
  pool.resize(3)
  await settled()
  expect(started).toHaveLength(2)
})

test('a kill reaches processes that leave, too', async () => {
  const { pool, started } = await harness()
  pool.resize(2)
  await settled()
  pool.resize(0)
  pool.kill()
  expect(started.map(one => one.calls)).toEqual([['kill'], ['kill']])
})

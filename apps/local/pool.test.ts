import { expect, test } from 'vitest'
import type { Pulse, Reason } from '#shared/parent.ts'
import type { Child } from './child.ts'
import { createPool, FROZEN_MS, type PoolBounds, planFor } from './pool.ts'
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

type Started = ReturnType<typeof fakeChild> & {
  index: number
  tasks: number
  pulse: (more?: Partial<Pulse>) => void
}

const BOUNDS: PoolBounds = { min: 1, max: 3, tasks: { min: 10, max: 40 } }

/** A pool whose clock the test holds, and whose starts succeed unless the test has said why not. */
async function harness(more: { bounds?: PoolBounds; maxMb?: number } = {}) {
  const lines: string[] = []
  const replaced: Reason[] = []
  const started: Started[] = []
  const failures: string[] = []
  const taken = new Set<number>()
  let now = 0
  const pool = createPool({
    name: 'worker',
    bounds: more.bounds ?? BOUNDS,
    maxMb: more.maxMb ?? 0,
    retireMs: 60_000,
    log: line => void lines.push(line),
    now: () => now,
    wait: async () => {},
    takeIndex() {
      let index = 0
      while (taken.has(index)) index++
      taken.add(index)
      return index
    },
    freeIndex: index => void taken.delete(index),
    onReplaced: reason => void replaced.push(reason),
    async start({ index, tasks, onMessage }) {
      const failure = failures.shift()
      if (failure) throw new Error(failure)
      const fake = fakeChild(1000 + started.length)
      const pulse = (pulse: Partial<Pulse> = {}) =>
        onMessage({ type: 'pulse', consuming: true, rssMb: 200, ...pulse } satisfies Pulse)
      started.push({ ...fake, index, tasks, pulse })
      return fake.child
    },
  })
  await pool.open(start => start())
  return {
    pool,
    lines,
    replaced,
    started,
    failures,
    advance: (ms: number) => (now += ms),
    /** Looks every two seconds for so long, while those that `speak` say do. */
    async pass(ms: number, speak: (one: Started) => boolean = () => true) {
      for (let past = 0; past < ms; past += 2000) {
        now += 2000
        for (const one of started) if (speak(one)) one.pulse()
        pool.inspect()
        await settled()
      }
    },
  }
}

/** What was begun without any waiting is done. */
const settled = () => new Promise(resolve => setImmediate(resolve))

test.each([
  { slots: 0, plan: { processes: 1, tasks: 10 } },
  { slots: 10, plan: { processes: 1, tasks: 10 } },
  { slots: 11, plan: { processes: 1, tasks: 11 } },
  { slots: 40, plan: { processes: 1, tasks: 40 } },
  { slots: 41, plan: { processes: 2, tasks: 21 } },
  { slots: 100, plan: { processes: 3, tasks: 34 } },
  { slots: 1000, plan: { processes: 3, tasks: 40 } },
])('$slots slots are $plan.processes processes of $plan.tasks', ({ slots, plan }) => {
  expect(planFor(slots, BOUNDS)).toEqual(plan)
})

test('a pool without any process stays without', () => {
  expect(planFor(100, { ...BOUNDS, min: 0, max: 0 })).toMatchObject({ processes: 0 })
})

test('it grows by concurrency, then by processes, and shrinks the other way, the youngest first', async () => {
  const { pool, started, lines } = await harness()
  expect(started.map(one => one.tasks)).toEqual([10])
  pool.resize(30)
  expect(started[0]!.sent).toEqual([{ type: 'concurrency', tasks: 30 }])
  expect(lines).toEqual([])

  pool.resize(120)
  await settled()
  expect(started.map(({ index, tasks }) => ({ index, tasks }))).toEqual([
    { index: 0, tasks: 10 },
    { index: 1, tasks: 40 },
    { index: 2, tasks: 40 },
  ])
  expect(started[0]!.sent.at(-1)).toEqual({ type: 'concurrency', tasks: 40 })
  expect(pool.size()).toEqual({ processes: 3, tasks: 40, leaving: 0 })

  pool.resize(50)
  expect(started[2]!.sent).toEqual([{ type: 'retire' }])
  expect(pool.size()).toEqual({ processes: 2, tasks: 25, leaving: 1 })
  // It finishes what it has, and nobody tells it to stop before it is done.
  await settled()
  expect(started[2]!.calls).toEqual([])
  started[2]!.die()
  await settled()
  expect(pool.size()).toEqual({ processes: 2, tasks: 25, leaving: 0 })
  expect(started.slice(0, 2).map(one => one.sent.at(-1))).toEqual([
    { type: 'concurrency', tasks: 25 },
    { type: 'concurrency', tasks: 25 },
  ])
  expect(lines).toEqual(['worker: 1 -> 3 processes', 'worker: 3 -> 2 processes'])
  await pool.stop()
})

test('one that was starting when the plan changed runs as many tasks as the others', async () => {
  const { pool, started } = await harness()
  pool.resize(41)
  pool.resize(1000)
  await settled()
  expect(started[1]).toMatchObject({ tasks: 21, sent: [{ type: 'concurrency', tasks: 40 }] })
  await pool.stop()
})

test('one that leaves keeps its number until it is gone', async () => {
  const { pool, started } = await harness()
  pool.resize(80)
  await settled()
  pool.resize(0)
  pool.resize(80)
  await settled()
  expect(started.map(one => one.index)).toEqual([0, 1, 2])
  started[1]!.die()
  await settled()
  pool.resize(120)
  await settled()
  expect(started.map(one => one.index)).toEqual([0, 1, 2, 1])
  await pool.stop()
})

test('what does not start is tried again at growing distances', async () => {
  const { pool, started, failures, lines, advance } = await harness()
  const tries = async () => {
    pool.resize(80)
    await settled()
  }
  failures.push('no port', 'no port', 'no port')
  await tries()
  expect(lines.at(-1)).toBe('another worker did not start (no port); trying again in 500 ms')
  advance(499)
  await tries()
  expect(failures).toHaveLength(2)
  advance(1)
  await tries()
  expect(lines.at(-1)).toBe('another worker did not start (no port); trying again in 1000 ms')
  advance(1000)
  await tries()
  expect(lines.at(-1)).toBe('another worker did not start (no port); trying again in 2000 ms')
  expect(started).toHaveLength(1)
  advance(2000)
  await tries()
  expect(started).toHaveLength(2)
  // The next failure is the first one again.
  failures.push('no memory')
  pool.resize(120)
  await settled()
  expect(lines.at(-1)).toBe('another worker did not start (no memory); trying again in 500 ms')
  await pool.stop()
})

test('one that died is started again, and counted', async () => {
  const { pool, started, replaced, lines } = await harness()
  started[0]!.die({ code: 1 })
  await settled()
  expect(started).toHaveLength(2)
  expect(started[1]!.index).toBe(0)
  expect(replaced).toEqual(['exited'])
  expect(lines).toContain('worker 1 is back')
  await pool.stop()
})

test('one that is silent for longer than 15 s is killed and started again, the others are let alone', async () => {
  const { pool, started, replaced, lines, pass } = await harness({ bounds: { ...BOUNDS, min: 2 } })
  await pass(FROZEN_MS - 1000, one => one !== started[0])
  expect(started[0]!.calls).toEqual([])
  await pass(4000, one => one !== started[0])
  expect(started.slice(0, 2).map(one => one.calls)).toEqual([['kill'], []])
  expect(started).toHaveLength(3)
  expect(started[2]!.index).toBe(0)
  expect(replaced).toEqual(['frozen'])
  expect(lines[0]).toBe('worker 1 has been silent for 15 s: killing it')
  await pass(60_000)
  expect(started).toHaveLength(3)
  await pool.stop()
})

test('nobody is silent because this process slept', async () => {
  const { pool, started, advance } = await harness()
  started[0]!.pulse()
  advance(3_600_000)
  pool.inspect()
  expect(started[0]!.calls).toEqual([])
  await pool.stop()
})

test('one that takes no jobs goes once there is another', async () => {
  const { pool, started, failures, replaced, lines, advance } = await harness()
  failures.push('no port')
  started[0]!.pulse({ consuming: false })
  pool.inspect()
  await settled()
  expect(started[0]!.sent).toEqual([])
  // There is no other yet, and no use in trying on without a pause.
  pool.inspect()
  await settled()
  expect(started).toHaveLength(1)
  advance(500)
  pool.inspect()
  pool.inspect()
  await settled()
  expect(started).toHaveLength(2)
  expect(started[0]!.sent).toEqual([{ type: 'retire' }])
  expect(pool.size()).toMatchObject({ processes: 1, leaving: 1 })
  expect(lines[0]).toBe('worker 1 takes no jobs, though there are some; replacing it')
  expect(replaced).toEqual(['not_consuming'])
  await pool.stop()
})

test('one that occupies too much goes, unless it does so from the start', async () => {
  const { pool, started, replaced, lines, advance } = await harness({ maxMb: 500 })
  const look = async (rssMb: number) => {
    for (const one of started) one.pulse({ rssMb })
    pool.inspect()
    await settled()
  }
  await look(501)
  expect(started).toHaveLength(1)
  advance(60_001)
  await look(500)
  expect(started).toHaveLength(1)
  await look(501)
  expect(started).toHaveLength(2)
  expect(started[0]!.sent).toEqual([{ type: 'retire' }])
  expect(lines).toEqual(['worker 1 occupies 501 MB; replacing it'])
  expect(replaced).toEqual(['memory'])
  await pool.stop()
})

test('who retires is not waited for once everything is to stop', async () => {
  const { pool, started } = await harness()
  pool.resize(80)
  await settled()
  pool.resize(0)
  await pool.stop()
  expect(started.map(one => one.calls)).toEqual([['stop'], ['stop']])
  pool.resize(120)
  await settled()
  expect(started).toHaveLength(2)
})

test('killing is for those that leave, too', async () => {
  const { pool, started } = await harness()
  pool.resize(80)
  await settled()
  pool.resize(0)
  pool.kill()
  expect(started.map(one => one.calls)).toEqual([['kill'], ['kill']])
})

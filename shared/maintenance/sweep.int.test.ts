import { expect, it, vi } from 'vitest'
import { createFollower } from '#shared/db/tasks/follow.ts'
import { createInserter } from '#shared/db/tasks/insert.ts'
import { startDispatcher } from '#shared/dispatch/dispatcher.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { LIVENESS } from '#shared/process/liveness.ts'
import { createLogger } from '#shared/process/logger.ts'
import { ask, fileDatabase, newTask } from '#shared/testing/postgres.ts'
import { startSweeper } from './sweep.ts'

const database = fileDatabase()
/** A queue that has all that is dispatched; `asked` about once a round, or more often. */
const reachable = (asked: () => void) =>
  ({
    ready: () => {
      asked()
      return true
    },
    missing: async () => [],
    dispatch: async () => {},
  }) as never

it('files are swept while a dispatcher works, until nothing is left, and then at the next housekeeping', async () => {
  const logger = createLogger({ level: 'silent', name: 'test' })
  const metrics = createMetrics('api')
  const [db] = database.dbs
  const stopDispatcher = startDispatcher({ db, producer: { ready: () => true } as never, metrics, logger })
  const held = `SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()`
  await vi.waitFor(async () => expect(await db.query({ name: 'held', text: held })).toHaveLength(1), 10_000)
  const answers = [true, true, true, false]
  let asked = 0
  const sweep = vi.fn(async () => answers[asked++] ?? false)
  let rounds = 0
  const stop = startSweeper({
    db,
    end: async () => ({ ended: false }) as never,
    producer: reachable(() => rounds++),
    files: { sweep },
    liveness: LIVENESS,
    resultRetentionDays: 0,
    metrics,
    logger,
  })
  try {
    await vi.waitFor(() => expect(asked).toBe(answers.length), 10_000)
    const then = rounds
    await vi.waitFor(() => expect(rounds).toBeGreaterThan(then + 1), 10_000)
    expect(asked).toBe(answers.length)
  } finally {
    await Promise.all([stop(), stopDispatcher()])
  }
})

it('one process sweeps at a time, for several seconds', async () => {
  const rounds = [0, 0, 0]
  const stops = rounds.map((_, index) =>
    startSweeper({
      db: database.dbs[0],
      end: async () => ({ ended: false }) as never,
      producer: reachable(() => rounds[index]!++),
      files: { sweep: async () => false },
      liveness: LIVENESS,
      resultRetentionDays: 0,
      metrics: createMetrics('api'),
      logger: createLogger({ level: 'silent', name: 'test' }),
    }),
  )
  try {
    // In its second round it is still the only one.
    await vi.waitFor(() => expect(Math.max(...rounds)).toBeGreaterThan(4), 10_000)
    expect(rounds.filter(count => count > 0)).toHaveLength(1)
  } finally {
    await Promise.all(stops.map(stop => stop()))
  }
})

it('a process that cannot reach the queue leaves the sweep to others', async () => {
  const swept = { with: 0, without: 0 }
  const start = (how: keyof typeof swept, producer: never) =>
    startSweeper({
      db: database.dbs[0],
      end: async () => ({ ended: false }) as never,
      producer,
      files: { sweep: async () => false },
      liveness: LIVENESS,
      resultRetentionDays: 0,
      metrics: createMetrics('api'),
      logger: createLogger({ level: 'silent', name: how }),
    })
  const unreachable = { ready: () => ++swept.without < 0 } as never
  const stops = [start('without', unreachable)]
  await vi.waitFor(() => expect(swept.without).toBeGreaterThan(0), 10_000)
  stops.push(
    start(
      'with',
      reachable(() => swept.with++),
    ),
  )
  try {
    await vi.waitFor(() => expect(swept.with).toBeGreaterThan(9), 20_000)
  } finally {
    await Promise.all(stops.map(stop => stop()))
  }
})

it('a process that cannot reach the queue leaves the dispatch to others', async () => {
  const asked = { with: 0, without: 0 }
  const start = (how: keyof typeof asked, ready: boolean) =>
    startDispatcher({
      db: database.dbs[0],
      producer: {
        ready() {
          asked[how]++
          return ready
        },
      } as never,
      metrics: createMetrics('api'),
      logger: createLogger({ level: 'silent', name: how }),
    })
  const stops = [start('without', false)]
  await vi.waitFor(() => expect(asked.without).toBeGreaterThan(0), 10_000)
  stops.push(start('with', true))
  try {
    await vi.waitFor(() => expect(asked.with).toBeGreaterThan(9), 20_000)
  } finally {
    await Promise.all(stops.map(stop => stop()))
  }
})

it('a follower whose leader ended unnoticed is released into the backlog', async () => {
  const [db] = database.dbs
  const [leader, follower] = [newTask(), newTask()]
  for (const task of [leader, follower]) await createInserter(db)(task)
  expect(await createFollower(db)({ id: follower.id, epoch: 0, leaderId: leader.id })).toBe(true)
  // As a process that dies between the ending and the release of the followers leaves it.
  await ask(db, `UPDATE tasks SET status = 'failed', finished_at = now() WHERE id = $1`, [leader.id])
  const metrics = createMetrics('api')
  const stop = startSweeper({
    db,
    end: async () => ({ ended: false }) as never,
    producer: reachable(() => {}),
    files: { sweep: async () => false },
    liveness: LIVENESS,
    resultRetentionDays: 0,
    metrics,
    logger: createLogger({ level: 'silent', name: 'test' }),
  })
  try {
    const seen = () =>
      ask(db, 'SELECT status, leader_id, dispatched_at IS NULL AS backlog FROM tasks WHERE id = $1', [follower.id])
    await vi.waitFor(
      async () => expect(await seen()).toEqual([{ status: 'queued', leader_id: null, backlog: true }]),
      10_000,
    )
    const swept = await metrics.swept.get()
    expect(swept.values).toContainEqual(expect.objectContaining({ labels: { what: 'followers' }, value: 1 }))
  } finally {
    await stop()
  }
})

it('the holder of a lock sends a query now and then, because Postgres releases the lock of a silent connection', async () => {
  const [db] = database.dbs
  const holder = `SELECT query FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()`
  const work = async () => {
    await vi.waitFor(
      async () => expect(await db.query({ name: 'holder', text: holder })).toEqual([{ query: 'SELECT 1' }]),
      10_000,
    )
    return 'done'
  }
  expect(await db.withLock(1, work)).toBe('done')
})

import { expect, it, vi } from 'vitest'
import { startDispatcher } from './dispatcher.ts'
import { createLogger } from './logger.ts'
import { createMetrics } from './metrics.ts'
import { startSweeper } from './sweep.ts'
import { fileDatabase } from './testing/postgres.ts'

const database = fileDatabase()

it('files are swept beside a dispatcher at work, until there is no more to do, and then not before the next housekeeping', async () => {
  const logger = createLogger({ level: 'silent', name: 'test' })
  const metrics = createMetrics('api')
  const idle = { ready: () => false, dispatch: async () => {}, missing: async () => [] } as never
  const [db] = database.dbs
  const stopDispatcher = startDispatcher({ db, producer: idle, metrics, logger })
  const held = `SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()`
  await vi.waitFor(async () => expect(await db.query({ name: 'held', text: held })).toHaveLength(1), 10_000)
  const answers = [true, true, true, false]
  let asked = 0
  const sweep = vi.fn(async () => answers[asked++] ?? false)
  let rounds = 0
  const stop = startSweeper({
    db: {
      ...db,
      withLock: (key, work) => db.withLock(key, work).finally(() => rounds++),
    },
    end: async () => ({ ended: false }) as never,
    producer: idle,
    files: { sweep },
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

import { expect, it, vi } from 'vitest'
import { createLogger } from './logger.ts'
import { createMetrics } from './metrics.ts'
import { startSweeper } from './sweep.ts'
import { fileDatabase } from './testing/postgres.ts'

const database = fileDatabase()

it('files are swept until there is no more to do, and then not before the next housekeeping', async () => {
  const answers = [true, true, true, false]
  let asked = 0
  const sweep = vi.fn(async () => answers[asked++] ?? false)
  let rounds = 0
  const stop = startSweeper({
    db: {
      ...database.dbs[0],
      withLock: (key, work) => database.dbs[0].withLock(key, work).finally(() => rounds++),
    },
    end: async () => ({ ended: false }) as never,
    producer: { ready: () => false, dispatch: async () => {}, missing: async () => [] } as never,
    files: { sweep },
    resultRetentionDays: 0,
    metrics: createMetrics('api'),
    logger: createLogger({ level: 'silent', name: 'test' }),
  })
  try {
    await vi.waitFor(() => expect(asked).toBe(answers.length), 10_000)
    const then = rounds
    await vi.waitFor(() => expect(rounds).toBeGreaterThan(then + 1), 10_000)
    expect(asked).toBe(answers.length)
  } finally {
    await stop()
  }
})

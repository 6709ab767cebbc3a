import { expect, inject, it, onTestFinished, vi } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import { createLifecycle } from '#shared/process/lifecycle.ts'
import { createLogger } from '#shared/process/logger.ts'
import { createTestDatabase, testPrefix } from '#shared/testing/database.ts'
import { ask, connect } from '#shared/testing/postgres.ts'
import { startCore } from './core.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

async function start(setUp = 'SELECT 1', settings: Record<string, string> = {}, log = logger) {
  const { url, drop } = await createTestDatabase()
  const db = connect(url, 1)
  onTestFinished(async () => {
    await db.close()
    await drop()
  })
  await ask(db, setUp)
  const lifecycle = createLifecycle(log)
  const config = parseConfig({
    DATABASE_URL: url,
    REDIS_URL: inject('redisUrl'),
    REDIS_PREFIX: testPrefix(),
    ...settings,
  })
  return {
    lifecycle,
    starting: startCore({ part: 'worker', config, logger: log, lifecycle }),
    connections: async () =>
      (await ask(db, `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`))
        .length,
  }
}

it('a core that is stopped leaves no connection to Postgres or Redis', async () => {
  const { lifecycle, starting, connections } = await start()
  const { redis } = await starting
  expect(await connections()).toBeGreaterThan(0)
  await lifecycle.stop()
  await vi.waitFor(async () => expect(await connections()).toBe(0), 10_000)
  await vi.waitFor(() => expect(redis.status).toBe('end'), 10_000)
})

it('a core whose start fails half way releases the parts that had been started', async () => {
  const { lifecycle, starting, connections } = await start('DROP TABLE provider_limits')
  await expect(starting).rejects.toThrow('provider_limits')
  await lifecycle.stop()
  await vi.waitFor(async () => expect(await connections()).toBe(0), 10_000)
})

it('a process with shortened liveness warns that this is for tests', async () => {
  const lines: string[] = []
  const log = createLogger({ level: 'warn', name: 'test' }, { write: line => void lines.push(JSON.parse(line).msg) })
  for (const scale of ['1', '0.5']) {
    const { lifecycle, starting } = await start('SELECT 1', { LIVENESS_SCALE: scale }, log)
    await starting
    await lifecycle.stop()
  }
  expect(lines).toEqual([expect.stringContaining('LIVENESS_SCALE is set')])
})

import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { migrate } from '#shared/db/migrate.ts'
import { startPostgres } from '../postgres.ts'
import { startRedis } from '../redis.ts'
import { startRedisCluster } from '../redis-cluster.ts'
import { startWatchdog } from '../watchdog.ts'

const TEMPLATE = 'sluice_template'

/**
 * One Postgres, one queue Redis and one cache Redis for all integration tests, gone when they are done. With TEST_REDIS=cluster the
 * queue Redis is a cluster of three masters.
 */
export default async function setup(project: TestProject) {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  // Root's Postgres runs as another user, who must pass through.
  chmodSync(dir, 0o711)
  const redisDirs = ['redis', 'cache', ...[0, 1, 2].map(n => `redis/${n}`)]
  const pidFiles = ['postgres/data/postmaster.pid', ...redisDirs.map(name => `${name}/redis.pid`)].map(file =>
    join(dir, file),
  )
  const watchdog = startWatchdog({ pidFiles, remove: dir })
  const servers = await Promise.all([
    startPostgres({ dir: join(dir, 'postgres'), durable: false }),
    process.env.TEST_REDIS === 'cluster'
      ? startRedisCluster({ dir: join(dir, 'redis') })
      : startRedis({ dir: join(dir, 'redis'), role: 'queue' }),
    startRedis({ dir: join(dir, 'cache'), role: 'cache', maxMemoryMb: 32 }),
  ])
  const [postgres, redis, cache] = servers
  await createTemplate(postgres.url)
  project.provide('databaseUrl', postgres.url)
  project.provide('redisUrl', redis.url)
  project.provide('cacheRedisUrl', cache.url)
  project.provide('template', TEMPLATE)

  return async () => {
    await Promise.all(servers.map(server => server.stop()))
    watchdog.dismiss()
    rmSync(dir, { recursive: true, force: true })
  }
}

async function createTemplate(databaseUrl: string) {
  const admin = new pg.Client({ connectionString: databaseUrl })
  await admin.connect()
  await admin.query(`create database ${TEMPLATE}`)
  await admin.end()
  const url = new URL(databaseUrl)
  url.pathname = `/${TEMPLATE}`
  await migrate(url.href)
}

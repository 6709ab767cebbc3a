import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { findPgBouncer } from '#apps/local/find-pgbouncer.mjs'
import { startPostgres } from '#apps/local/postgres.ts'
import { startRedis } from '#apps/local/redis.ts'
import { startRedisCluster } from '#apps/testing/setup/redis-cluster.ts'
import { migrate } from '#shared/db/migrate.ts'
import { type Closers, closeAll, serverDirectory } from './servers.ts'

const TEMPLATE = 'sluice_template'

/**
 * One Postgres, one queue Redis and one cache Redis for all integration tests, stopped at the end. With TEST_REDIS=cluster the
 * queue Redis is a cluster of three masters.
 */
export default async function setup(project: TestProject) {
  const closers: Closers = []
  const { dir } = serverDirectory(closers)
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
  project.provide('pgbouncer', findPgBouncer())

  return async () => {
    await Promise.all(servers.map(server => server.stop()))
    await closeAll(closers)
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

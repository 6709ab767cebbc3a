import { expect, test } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import { ownServers } from './start.ts'

const DATABASE_URL = 'postgresql://db/sluice'
const REDIS_URL = 'redis://queue:6379'
const CACHE_REDIS_URL = 'redis://cache:6379'

test.each([
  [{}, ['postgres/data/postmaster.pid', 'redis/redis.pid', 'cache/redis.pid']],
  [{ DATABASE_URL }, ['redis/redis.pid', 'cache/redis.pid']],
  [{ CACHE_REDIS_URL }, ['postgres/data/postmaster.pid', 'redis/redis.pid']],
  [{ REDIS_URL }, ['postgres/data/postmaster.pid']],
  [{ DATABASE_URL, REDIS_URL }, []],
])('with %j, npm start runs the servers with the pid files %j', (env, files) => {
  const servers = ownServers(parseConfig(env), '/data', () => {})
  expect(servers.map(server => server.pidFile)).toEqual(files.map(file => `/data/${file}`))
})

import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'

// What the global setup of the tests provides.
declare module 'vitest' {
  interface ProvidedContext {
    /** An admin's connection to a server whose databases are clones of `template`. */
    databaseUrl: string
    redisUrl: string
    cacheRedisUrl: string
    template: string
  }
}

export type TestDatabase = {
  url: string
  /** Also ends the connections that are still open. */
  drop(): Promise<void>
}

/** An empty database of the test's own with the newest schema. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  await asAdmin(`create database ${name} template ${inject('template')}`)
  const url = new URL(inject('databaseUrl'))
  url.pathname = `/${name}`
  return { url: url.href, drop: () => asAdmin(`drop database if exists ${name} with (force)`) }
}

/** A Redis key prefix of the test's own, as the tests share the servers. */
export const testPrefix = (): string => `test-${randomUUID()}`

async function asAdmin(statement: string) {
  const client = new pg.Client({ connectionString: inject('databaseUrl') })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'

// Values that the global setup of the tests provides.
declare module 'vitest' {
  interface ProvidedContext {
    /** URL of an admin's connection. The databases of tests are clones of `template`. */
    databaseUrl: string
    redisUrl: string
    cacheRedisUrl: string
    template: string
    /** null: PgBouncer is not installed. */
    pgbouncer: { command: string; libraries: string } | null
  }
}

export type TestDatabase = {
  url: string
  /** Also closes open connections. */
  drop(): Promise<void>
}

/** Creates an empty database with the latest schema, for one test or file. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  await asAdmin(`create database ${name} template ${inject('template')}`)
  const url = new URL(inject('databaseUrl'))
  url.pathname = `/${name}`
  return { url: url.href, drop: () => asAdmin(`drop database if exists ${name} with (force)`) }
}

/** A unique Redis key prefix, because the tests share the servers. */
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

import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, inject, test, vi } from 'vitest'
import { ConfigError } from '#shared/config.ts'
import { ask, connect } from '#shared/testing/postgres.ts'
import { LEGACY_LOCKS, LOCK_NAMESPACE, LOCKS } from './locks.ts'
import { migrate } from './migrate.ts'
import type { Db } from './pool.ts'

let folder: string
let url: string
let db: Db

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-migrations-'))
  const name = `test_${randomUUID().replaceAll('-', '')}`
  const admin = connect(inject('databaseUrl'))
  await ask(admin, `create database ${name}`)
  await admin.close()
  url = Object.assign(new URL(inject('databaseUrl')), { pathname: `/${name}` }).href
  db = connect(url)
  write(['CREATE TABLE things (id int, name text)'])
  await migrate(url, { folder })
})

afterEach(async () => {
  await db.close()
  const admin = connect(inject('databaseUrl'))
  await ask(admin, `drop database if exists ${new URL(url).pathname.slice(1)} with (force)`)
  await admin.close()
  rmSync(folder, { recursive: true })
})

/** The migrations of a version, one file each. */
function write(migrations: string[]) {
  mkdirSync(join(folder, 'meta'), { recursive: true })
  const entries = migrations.map((sql, idx) => {
    writeFileSync(join(folder, `${idx}.sql`), sql)
    return { idx, tag: String(idx), when: Date.UTC(2030, 0, 1 + idx) }
  })
  writeFileSync(join(folder, 'meta/_journal.json'), JSON.stringify({ entries }))
}

const TABLE = 'CREATE TABLE things (id int, name text)'
const applied = async () =>
  (await ask<{ n: number }>(db, 'SELECT count(*)::int AS n FROM drizzle.__drizzle_migrations'))[0]?.n
const columns = async () =>
  (
    await ask<{ name: string }>(
      db,
      `SELECT column_name AS name FROM information_schema.columns WHERE table_name = 'things'`,
    )
  ).map(row => row.name)

test('a database with unknown migrations is refused, and the error names them', async () => {
  write([TABLE, 'ALTER TABLE things ADD COLUMN later text'])
  await migrate(url, { folder })
  write([TABLE])
  const refused = migrate(url, { folder })
  await expect(refused).rejects.toThrow(ConfigError)
  await expect(refused).rejects.toThrow(/newer than this version: 1 of its migrations .* made at 2030-01-02/)
  expect(await applied()).toBe(2)
})

test('a migration merged with an earlier time than the applied ones is applied', async () => {
  write([TABLE, 'ALTER TABLE things ADD COLUMN late text', 'ALTER TABLE things ADD COLUMN later text'])
  await ask(db, `INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('x', ${Date.UTC(2030, 0, 3)})`)
  await migrate(url, { folder })
  expect(await columns()).toEqual(['id', 'name', 'late'])
})

test('a failing migration leaves nothing behind, and the ones before it stay', async () => {
  write([
    TABLE,
    'ALTER TABLE things ADD COLUMN good text',
    'ALTER TABLE things ADD COLUMN bad text;--> statement-breakpoint\nSELECT 1/0',
  ])
  await expect(migrate(url, { folder })).rejects.toThrow(/division by zero/)
  expect(await columns()).toEqual(['id', 'name', 'good'])
  expect(await applied()).toBe(2)
})

test('a migration that waits for a table does not block it, and continues once it is free', async () => {
  write([TABLE, 'ALTER TABLE things ADD COLUMN more text'])
  const reader = connect(url, 1)
  await ask(reader, 'BEGIN')
  await ask(reader, 'SELECT FROM things')
  const migrated = migrate(url, { folder, lockTimeoutMs: 50, pauseMs: 50 })
  const waiting = `SELECT FROM pg_locks WHERE relation = 'things'::regclass AND NOT granted`
  await vi.waitUntil(async () => (await ask(db, waiting)).length > 0, { timeout: 20_000, interval: 5 })
  // These wait behind it for the lock. They would never return if it did not give up its place.
  await Promise.all([1, 2, 3].map(id => ask(db, `INSERT INTO things (id) VALUES (${id})`)))
  expect(await columns()).not.toContain('more')
  await ask(reader, 'COMMIT')
  await migrated
  expect(await columns()).toContain('more')
  await reader.close()
})

test('two concurrent migrations build an index once, without a deadlock', async () => {
  write([TABLE, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS "things_id" ON "things" ("id")'])
  await Promise.all([1, 2, 3].map(() => migrate(url, { folder })))
  expect(await applied()).toBe(2)
})

test('an index that was interrupted is built again', async () => {
  write([TABLE, 'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "things_id" ON "things" ("id")'])
  await ask(db, 'INSERT INTO things (id) VALUES (1), (1)')
  await expect(migrate(url, { folder })).rejects.toThrow(/could not create unique index/)
  const valid = `SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = 'things_id'::regclass`
  expect(await ask(db, valid)).toEqual([{ valid: false }])
  await ask(db, 'DELETE FROM things')
  await migrate(url, { folder })
  expect(await ask(db, valid)).toEqual([{ valid: true }])
})

test.each([
  ['of this version', `SELECT pg_advisory_lock(${LOCK_NAMESPACE}, ${LOCKS.migrate})`],
  ['of the version before', `SELECT pg_advisory_lock(${LEGACY_LOCKS.migrate})`],
])('a migration waits for a migrating process %s', async (_, lock) => {
  write([TABLE, 'ALTER TABLE things ADD COLUMN more text'])
  const other = connect(url, 1)
  await ask(other, lock)
  let done = false
  const migrated = migrate(url, { folder }).then(() => (done = true))
  const query = `SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_xact_lock(%' AND state = 'idle in transaction' AND datname = current_database()`
  await vi.waitUntil(async () => (await ask(db, query)).length > 0, { timeout: 20_000, interval: 5 })
  expect(done).toBe(false)
  expect(await columns()).not.toContain('more')
  await other.close()
  await migrated
  expect(await columns()).toContain('more')
})

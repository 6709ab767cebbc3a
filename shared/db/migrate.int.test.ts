import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api'
import { expect, inject, it, onTestFinished } from 'vitest'
import { createTestDatabase } from '#shared/testing/database.ts'
import { ask, connect } from '#shared/testing/postgres.ts'
import { migrate } from './migrate.ts'
import * as schema from './schema/index.ts'
import { schemaIsCurrent } from './schema-version.ts'

const folder = new URL('../../drizzle/meta/', import.meta.url)
const read = (file: string) => JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Record<string, unknown>
const prefixOf = (index: number) => String(index).padStart(4, '0')

it('the migrations make exactly the declared schema', async () => {
  const { entries } = read('_journal.json') as { entries: { idx: number }[] }
  const newest = read(`${prefixOf(entries.at(-1)!.idx)}_snapshot.json`) as Parameters<typeof generateMigration>[0]
  expect(await generateMigration(newest, generateDrizzleJson(schema, newest.id))).toEqual([])
})

it('many processes that migrate an empty database at once bring it to the newest schema, once', async () => {
  const name = `test_${randomUUID().replaceAll('-', '')}`
  const admin = connect(inject('databaseUrl'))
  onTestFinished(async () => {
    await ask(admin, `drop database if exists ${name} with (force)`)
    await admin.close()
  })
  await ask(admin, `create database ${name}`)
  const url = new URL(inject('databaseUrl'))
  url.pathname = `/${name}`
  await Promise.all(Array.from({ length: 4 }, () => migrate(url.href)))
  const db = connect(url.href)
  try {
    expect(await schemaIsCurrent(db)).toBe(true)
    const { entries } = read('_journal.json') as { entries: unknown[] }
    expect(await ask(db, 'SELECT count(*)::int AS n FROM drizzle.__drizzle_migrations')).toEqual([
      { n: entries.length },
    ])
  } finally {
    await db.close()
  }
})

it('a database that lacks the newest migration, or every one, is not current', async () => {
  const database = await createTestDatabase()
  onTestFinished(database.drop)
  const db = connect(database.url)
  try {
    expect(await schemaIsCurrent(db)).toBe(true)
    await ask(db, 'UPDATE drizzle.__drizzle_migrations SET created_at = created_at - 1')
    expect(await schemaIsCurrent(db)).toBe(false)
    await ask(db, 'DELETE FROM drizzle.__drizzle_migrations')
    expect(await schemaIsCurrent(db)).toBe(false)
    await ask(db, 'DROP SCHEMA drizzle CASCADE')
    expect(await schemaIsCurrent(db)).toBe(false)
  } finally {
    await db.close()
  }
})

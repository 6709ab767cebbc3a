import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect, inject, onTestFinished, test } from 'vitest'
import { ask, connect, newTask } from '#shared/testing/postgres.ts'
import { migrate } from './migrate.ts'
import { schemaIsCurrent } from './schema-version.ts'
import { createInserter } from './tasks/insert.ts'

const docs = readFileSync(new URL('../../docs/deploy.md', import.meta.url), 'utf8')

test('the grants of docs/deploy.md suffice for a role that owns nothing and cannot create anything', async () => {
  const name = randomUUID().replaceAll('-', '')
  const [owner, app] = [`owner_${name}`, `app_${name}`]
  const admin = connect(inject('databaseUrl'))
  for (const role of [owner, app]) await ask(admin, `CREATE ROLE ${role} LOGIN PASSWORD 'a'`)
  await ask(admin, `CREATE DATABASE test_${name} OWNER ${owner}`)
  const url = (username: string) =>
    Object.assign(new URL(inject('databaseUrl')), { username, password: 'a', pathname: `/test_${name}` }).href
  const [asOwner, asApp] = [connect(url(owner)), connect(url(app))]
  onTestFinished(async () => {
    await asOwner.close()
    await asApp.close()
    await ask(admin, `DROP DATABASE test_${name} WITH (FORCE)`)
    for (const role of [owner, app]) await ask(admin, `DROP ROLE ${role}`)
    await admin.close()
  })

  const grants = /```sql\n(GRANT[^`]*)```/.exec(docs)?.[1]?.replaceAll('sluice_app', app).split(';\n').filter(Boolean)
  expect(grants).toHaveLength(4)
  for (const grant of grants!) await ask(asOwner, grant)
  await migrate(url(owner))

  expect(await schemaIsCurrent(asApp)).toBe(true)
  await expect(createInserter(asApp)(newTask())).resolves.toBeDefined()
  // There is nothing to migrate, so that a start with migration works too.
  await migrate(url(app))
  await expect(ask(asApp, 'CREATE TABLE own (id int)')).rejects.toThrow(/permission denied/)
  await expect(ask(asApp, 'DROP TABLE tasks')).rejects.toThrow(/must be owner/)
  // Every table and sequence created by a migration.
  const tables = `SELECT c.relname AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND NOT (
    CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE')
      WHEN 'r' THEN has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
      ELSE true END)`
  expect(await ask(asApp, tables)).toEqual([])
})

import { expect, test } from 'vitest'
import { readMigrations } from '#shared/db/migrate.ts'
import { migrationProblems } from './migration-safety.ts'

/** Migrations from before the first release: no earlier version could run beside them. */
const EXEMPT = ['0000_init', '0001_backlog', '0002_spending', '0003_batches', '0004_programs', '0005_experiments']

const migrations = readMigrations()

test.each(migrations.filter(({ tag }) => !EXEMPT.includes(tag)).map(one => [one.tag, one] as const))(
  '%s can run while the previous version serves',
  async (_, { statements }) => {
    expect(await migrationProblems(statements.join('--> statement-breakpoint'))).toEqual([])
  },
)

test('the exempt migrations exist and precede all others', () => {
  expect(migrations.slice(0, EXEMPT.length).map(({ tag }) => tag)).toEqual(EXEMPT)
})

test('migrations are listed in order of creation, and no two have the same time', () => {
  const times = migrations.map(({ when }) => when)
  expect(times).toEqual([...new Set(times)].toSorted((a, b) => a - b))
})

const SAFE = [
  'CREATE TABLE "new" ("id" uuid PRIMARY KEY, "other" uuid NOT NULL)',
  'CREATE TABLE "new" ("id" uuid);--> statement-breakpoint\nCREATE INDEX "new_id" ON "new" ("id")',
  'ALTER TABLE "tasks" ADD COLUMN "note" text',
  'ALTER TABLE "tasks" ADD COLUMN "tries" smallint DEFAULT 0 NOT NULL',
  'ALTER TABLE "tasks" ADD COLUMN "seen_at" timestamptz DEFAULT now() NOT NULL',
  `ALTER TABLE "tasks" ALTER COLUMN "note" SET DEFAULT 'x'`,
  'ALTER TABLE "tasks" ALTER COLUMN "note" DROP NOT NULL',
  'ALTER TABLE "tasks" ADD CONSTRAINT "c" CHECK (tries >= 0) NOT VALID',
  'ALTER TABLE "tasks" VALIDATE CONSTRAINT "c"',
  'ALTER TABLE "tasks" ADD CONSTRAINT "u" UNIQUE USING INDEX "tasks_u"',
  'CREATE INDEX CONCURRENTLY IF NOT EXISTS "tasks_note" ON "tasks" ("note")',
  'DROP INDEX CONCURRENTLY IF EXISTS "tasks_note"',
  '-- contract: nothing since 0.3.0 reads it\nALTER TABLE "tasks" DROP COLUMN "note"',
  '-- contract: nothing since 0.3.0 reads it\nDROP TABLE "tasks"',
]
test.each(SAFE)('%s is safe', async sql => {
  expect(await migrationProblems(sql)).toEqual([])
})

const UNSAFE: [sql: string, problem: RegExp][] = [
  ['DROP TABLE "tasks"', /DROP TABLE: the version before uses it/],
  ['ALTER TABLE "tasks" DROP COLUMN "note"', /^tasks: DROP COLUMN/],
  ['ALTER TABLE "tasks" RENAME COLUMN "note" TO "text"', /RENAME/],
  ['ALTER TABLE "tasks" RENAME TO "jobs"', /RENAME/],
  ['ALTER TABLE "tasks" ADD COLUMN "note" text NOT NULL', /NOT NULL without a DEFAULT/],
  ['ALTER TABLE "tasks" ADD COLUMN "id2" uuid DEFAULT gen_random_uuid()', /differs by row/],
  ['ALTER TABLE "tasks" ADD COLUMN "n" bigserial', /not known|differs|DEFAULT/],
  ['ALTER TABLE "tasks" ADD COLUMN "note" text UNIQUE', /CONSTR_UNIQUE on a new column/],
  ['ALTER TABLE "tasks" ALTER COLUMN "note" SET NOT NULL', /SET NOT NULL/],
  ['ALTER TABLE "tasks" ALTER COLUMN "note" DROP DEFAULT', /DROP DEFAULT/],
  ['ALTER TABLE "tasks" ALTER COLUMN "n" SET DATA TYPE bigint', /rewrites the whole table/],
  ['ALTER TABLE "tasks" ADD CONSTRAINT "c" CHECK (n > 0)', /NOT VALID/],
  ['ALTER TABLE "tasks" ADD CONSTRAINT "f" FOREIGN KEY ("k") REFERENCES "keys" ("id")', /NOT VALID/],
  ['ALTER TABLE "tasks" ADD CONSTRAINT "u" UNIQUE ("note")', /USING INDEX/],
  ['ALTER TABLE "tasks" DROP CONSTRAINT "u"', /ON CONFLICT/],
  ['CREATE INDEX "tasks_note" ON "tasks" ("note")', /CONCURRENTLY, in a migration of its own/],
  ['CREATE INDEX CONCURRENTLY "tasks_note" ON "tasks" ("note")', /IF NOT EXISTS/],
  ['DROP INDEX "tasks_note"', /DROP INDEX waits/],
  [
    'ALTER TABLE "tasks" ADD COLUMN "x" text;--> statement-breakpoint\nCREATE INDEX CONCURRENTLY IF NOT EXISTS "i" ON "tasks" ("x")',
    /a migration of its own/,
  ],
  [`UPDATE "tasks" SET "note" = ''`, /fill in slices/],
  ['DELETE FROM "tasks"', /fill in slices/],
  ['TRUNCATE "tasks"', /TruncateStmt is not known/],
  ['ALTER TABLE "tasks" SET UNLOGGED', /not known to be safe/],
  ['-- contract: nothing since 0.3.0 reads it\nCREATE INDEX "i" ON "tasks" ("x")', /CONCURRENTLY/],
  ['-- contract:\nALTER TABLE "tasks" DROP COLUMN "note"', /DROP COLUMN/],
]
test.each(UNSAFE)('%s is reported', async (sql, problem) => {
  expect((await migrationProblems(sql)).join('\n')).toMatch(problem)
})

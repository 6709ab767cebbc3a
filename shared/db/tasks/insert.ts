import { coalesce } from '#shared/concurrency/coalesce.ts'
import { type Column, defineColumns } from '../columns.ts'
import { rememberIdempotencyKeys } from '../idempotency.ts'
import { idempotencyLock } from '../locks.ts'
import { DatabaseUnavailable, type Db, splitOnError } from '../pool.ts'
import { insertWebhooks } from '../webhooks/insert.ts'
import { DEADLINE, type NewTask, type SerializedTask, SUBMITTED, SUBMITTED_COLUMNS, serializeTask } from './new-task.ts'

export type InsertOutcome =
  | { kind: 'inserted'; createdAt: Date }
  /** The Idempotency-Key was used before, for this task and with this request. */
  | { kind: 'exists'; taskId: string; requestHash: Buffer }
  /** A concurrent request with the same Idempotency-Key is being accepted. */
  | { kind: 'in_flight' }

/** Characters of JSON that may wait for Postgres in one process. */
const MAX_WAITING = 64_000_000

const COLUMNS: readonly Column<SerializedTask>[] = [
  ['id', 'uuid', one => one.id],
  ['kind', 'text', one => one.kind],
  ['api_key_id', 'uuid', one => one.apiKeyId],
  ...SUBMITTED_COLUMNS,
  DEADLINE,
  ['dispatched', 'boolean', one => one.dispatched],
  ['result', 'json', one => one.result],
  ['provider', 'text', one => one.answer?.provider ?? null],
  ['model', 'text', one => one.answer?.model ?? null],
  ['finish_reason', 'text', one => one.answer?.finishReason ?? null],
]
const KEY: Column<SerializedTask> = ['key', 'text', one => one.idempotency!.key]
const plainColumns = defineColumns(COLUMNS)
const idempotentColumns = defineColumns([
  ...COLUMNS,
  KEY,
  ['request_hash', 'bytea', one => one.idempotency!.requestHash],
])
const keyColumns = defineColumns<SerializedTask>([['api_key_id', 'uuid', one => one.apiKeyId], KEY])

const insertTasks = (from: string) => `INSERT INTO tasks
  (${SUBMITTED}, run_at, dispatched_at, deadline_at, created_at, status, result, provider, model, finish_reason, source, quality,
    started_at, finished_at)
  SELECT ${SUBMITTED}, now(), CASE WHEN dispatched THEN now() END, now() + make_interval(secs => deadline_seconds), now(),
    CASE WHEN result IS NULL THEN 'queued' ELSE 'succeeded' END, result, provider, model, finish_reason,
    CASE WHEN result IS NOT NULL THEN 'cache' END, CASE WHEN result IS NOT NULL THEN 'high' END,
    CASE WHEN result IS NOT NULL THEN now() END, CASE WHEN result IS NOT NULL THEN now() END
  FROM ${from} RETURNING id, api_key_id, status, webhook_url`

/** Tasks that were inserted with an answer have ended. */
const notify = insertWebhooks('task', 'inserted')

const plainStatement = {
  name: 'tasks_insert',
  text: `WITH inserted AS (
      ${insertTasks(plainColumns.unnest('i', 1))}
    ), notified AS (
      ${notify}
    ) SELECT now() AS created_at`,
}

/**
 * Does not wait for a key that another transaction is inserting, because that would delay the whole statement. It reports the key
 * as in flight instead, by an advisory lock on the key's hash that both transactions take.
 */
const idempotentStatement = {
  name: 'tasks_insert_idempotent',
  text: `WITH input AS MATERIALIZED (
      SELECT *, pg_try_advisory_xact_lock(${idempotencyLock('api_key_id', 'key')}) AS got
      FROM ${idempotentColumns.unnest('i', 1)}
    ), remembered AS (
      ${rememberIdempotencyKeys('SELECT api_key_id, key, id, request_hash FROM input WHERE got')}
    ), inserted AS (
      ${insertTasks('input WHERE id IN (SELECT task_id FROM remembered)')}
    ), notified AS (
      ${notify}
    )
    SELECT input.id, got, remembered.task_id IS NOT NULL AS inserted, now() AS created_at
    FROM input LEFT JOIN remembered ON remembered.task_id = input.id`,
}

const findStatement = {
  name: 'tasks_find_idempotent',
  text: `SELECT i.ord::int AS ord, k.task_id, k.request_hash
    FROM ${keyColumns.unnestOrdered('i', 1)} JOIN idempotency_keys k USING (api_key_id, key)`,
}

/**
 * Accepts tasks: resolves when the row is committed. The caller dispatches tasks that are `dispatched`. Tasks that arrive together
 * share a statement.
 * @throws DatabaseUnavailable, or the error of Postgres for this task
 */
export function createInserter(db: Db): (task: NewTask) => Promise<InsertOutcome> {
  const limits = {
    max: 500,
    maxWeight: 4_000_000,
    weigh: (one: SerializedTask) => one.input.length + (one.result?.length ?? 0) + 500,
    full: { weight: MAX_WAITING, error: () => new DatabaseUnavailable('too many tasks wait to be inserted') },
    splitOnError,
  }
  const plain = coalesce<SerializedTask, InsertOutcome>({
    ...limits,
    flush: async items => {
      const rows = await db.query<{ created_at: Date }>(plainStatement, plainColumns.values(items))
      return items.map(() => ({ kind: 'inserted', createdAt: rows[0]!.created_at }))
    },
  })

  // Smaller, because the joins of the statement compare row with row.
  const idempotent = coalesce<SerializedTask, InsertOutcome>({
    ...limits,
    max: 100,
    flush: items => insertWithKeys(db, items),
  })

  // Keeps two requests with one key out of the same statement.
  const inFlight = new Set<string>()
  return async task => {
    const item = serializeTask(task)
    if (!task.idempotency) return plain(item)
    const key = `${task.apiKeyId} ${task.idempotency.key}`
    if (inFlight.has(key)) return { kind: 'in_flight' }
    inFlight.add(key)
    try {
      return await idempotent(item)
    } finally {
      inFlight.delete(key)
    }
  }
}

async function insertWithKeys(db: Db, items: SerializedTask[]): Promise<InsertOutcome[]> {
  const rows = await db.query<{ id: string; got: boolean; inserted: boolean; created_at: Date }>(
    idempotentStatement,
    idempotentColumns.values(items),
  )
  const byId = new Map(rows.map(row => [row.id, row]))
  const known = items.filter(one => byId.get(one.id)?.got && !byId.get(one.id)?.inserted)
  const earlier = new Map<string, { taskId: string; requestHash: Buffer }>()
  if (known.length > 0) {
    const found = await db.query<{ ord: number; task_id: string; request_hash: Buffer }>(
      findStatement,
      keyColumns.values(known),
    )
    for (const row of found) earlier.set(known[row.ord - 1]!.id, { taskId: row.task_id, requestHash: row.request_hash })
  }
  return items.map(one => {
    const row = byId.get(one.id)!
    if (row.inserted) return { kind: 'inserted', createdAt: row.created_at }
    const first = earlier.get(one.id)
    // Without one, the key was pruned between the two statements. A retry of the client is accepted.
    return first ? { kind: 'exists', ...first } : { kind: 'in_flight' }
  })
}

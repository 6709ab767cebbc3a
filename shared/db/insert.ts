import { coalesce } from '#shared/coalesce.ts'
import { jsonOrNull } from './json.ts'
import { DatabaseUnavailable, type Db, itemsToBlame } from './pool.ts'
import { tellOf } from './webhooks.ts'

export type NewTask = {
  id: string
  kind: string
  queue: string
  priority: string
  apiKeyId: string
  input: unknown
  options: unknown
  metadata: unknown
  deadlineSeconds: number
  /** Handed to the queue by the caller; false: it waits in its key's backlog. */
  dispatched: boolean
  /** SHA-256 of the canonical request; null: it neither uses nor feeds the cache. */
  cacheKey: Buffer | null
  /** Told when it has ended; null: nobody. */
  webhookUrl: string | null
  /** What it got of which experiment; null: it is part of none. */
  exposure: { experiment: string; variant: string; userHash: Buffer } | null
  /** W3C trace context of its submission; null: nobody traces it. */
  traceparent: string | null
  /** It was answered from the cache: the row is written as succeeded. */
  answer: { result: unknown; provider: string; model: string } | null
  idempotency: { key: string; requestHash: Buffer } | null
}

export type InsertOutcome =
  | { kind: 'inserted'; createdAt: Date }
  /** The Idempotency-Key was used before: by this task, with this request. */
  | { kind: 'exists'; taskId: string; requestHash: Buffer }
  /** Another request with the same Idempotency-Key is being accepted right now. */
  | { kind: 'in_flight' }

/** How long an Idempotency-Key is remembered. */
export const IDEMPOTENCY_HOURS = 24

/** Characters of JSON that may wait for Postgres, in one process. */
const MOST_WAITING = 64_000_000

const COLUMNS =
  'id, kind, queue, priority, api_key_id, input, options, metadata, deadline_seconds, dispatched, cache_key, result, provider, model, webhook_url, experiment, variant, user_hash, traceparent'
const PARAMETERS =
  '$1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::json[], $7::json[], $8::json[], $9::int[], $10::boolean[], $11::bytea[], $12::json[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bytea[], $19::text[]'
const insertTasks = (from: string) => `INSERT INTO tasks
  (id, kind, queue, priority, api_key_id, input, options, metadata, run_at, dispatched_at, deadline_at, created_at, cache_key,
    webhook_url, experiment, variant, user_hash, traceparent, status, result, provider, model, source, quality, started_at, finished_at)
  SELECT id, kind, queue, priority, api_key_id, input, options, metadata, now(),
    CASE WHEN dispatched THEN now() END,
    now() + make_interval(secs => deadline_seconds), now(), cache_key, webhook_url, experiment, variant, user_hash, traceparent,
    CASE WHEN result IS NULL THEN 'queued' ELSE 'succeeded' END, result, provider, model,
    CASE WHEN result IS NOT NULL THEN 'cache' END, CASE WHEN result IS NOT NULL THEN 'high' END,
    CASE WHEN result IS NOT NULL THEN now() END, CASE WHEN result IS NOT NULL THEN now() END
  FROM ${from} RETURNING id, api_key_id, status, webhook_url`
/** Those that were answered have ended with it. */
const TELL = tellOf('task', 'inserted')

const insertPlain = {
  name: 'tasks_insert',
  text: `WITH inserted AS (
      ${insertTasks(`unnest(${PARAMETERS}) AS i(${COLUMNS})`)}
    ), told AS (
      ${TELL}
    ) SELECT now() AS created_at`,
}

/**
 * A key that another transaction is inserting at this moment is not waited for (that would hold up the whole batch)
 * but reported, by an advisory lock on its hash that both take.
 */
const insertIdempotent = {
  name: 'tasks_insert_idempotent',
  text: `WITH input AS MATERIALIZED (
      SELECT *, pg_try_advisory_xact_lock(hashtextextended(api_key_id::text || key, 0)) AS got
      FROM unnest(${PARAMETERS}, $20::text[], $21::bytea[]) AS i(${COLUMNS}, key, request_hash)
    ), remembered AS (
      INSERT INTO idempotency_keys AS r (api_key_id, key, task_id, request_hash, expires_at)
      SELECT api_key_id, key, id, request_hash, now() + interval '${IDEMPOTENCY_HOURS} hours' FROM input WHERE got
      ON CONFLICT (api_key_id, key) DO UPDATE
        SET task_id = excluded.task_id, request_hash = excluded.request_hash, expires_at = excluded.expires_at
        WHERE r.expires_at <= now()
      RETURNING task_id
    ), inserted AS (
      ${insertTasks('input WHERE id IN (SELECT task_id FROM remembered)')}
    ), told AS (
      ${TELL}
    )
    SELECT input.id, got, remembered.task_id IS NOT NULL AS inserted, now() AS created_at
    FROM input LEFT JOIN remembered ON remembered.task_id = input.id`,
}

const findIdempotent = {
  name: 'tasks_find_idempotent',
  text: `SELECT i.ord::int AS ord, k.task_id, k.request_hash
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS i(api_key_id, key, ord) JOIN idempotency_keys k USING (api_key_id, key)`,
}

/** What an Idempotency-Key has made, of which a new request with it is to be told; null: nothing, or too long ago. */
export async function findMade(
  db: Db,
  apiKeyId: string,
  key: string,
): Promise<{ id: string; requestHash: Buffer } | null> {
  const [row] = await db.query<{ id: string; requestHash: Buffer }>(
    {
      name: 'idempotency_find',
      text: `SELECT task_id AS id, request_hash AS "requestHash" FROM idempotency_keys
        WHERE api_key_id = $1 AND key = $2 AND expires_at > now()`,
    },
    [apiKeyId, key],
  )
  return row ?? null
}

type Serialized = NewTask & { json: [input: string, options: string, metadata: string | null, result: string | null] }

const inputValues = (items: Serialized[]) => [
  items.map(one => one.id),
  items.map(one => one.kind),
  items.map(one => one.queue),
  items.map(one => one.priority),
  items.map(one => one.apiKeyId),
  items.map(one => one.json[0]),
  items.map(one => one.json[1]),
  items.map(one => one.json[2]),
  items.map(one => one.deadlineSeconds),
  items.map(one => one.dispatched),
  items.map(one => one.cacheKey),
  items.map(one => one.json[3]),
  items.map(one => one.answer?.provider ?? null),
  items.map(one => one.answer?.model ?? null),
  items.map(one => one.webhookUrl),
  items.map(one => one.exposure?.experiment ?? null),
  items.map(one => one.exposure?.variant ?? null),
  items.map(one => one.exposure?.userHash ?? null),
  items.map(one => one.traceparent),
]

/**
 * Accepts tasks: resolves once the row is committed. The caller is to dispatch what it said is dispatched. Tasks that arrive together share a statement.
 * @throws what Postgres said of this task, or that it cannot be reached
 */
export function createInserter(db: Db): (task: NewTask) => Promise<InsertOutcome> {
  const limits = {
    max: 500,
    maxWeight: 4_000_000,
    weigh: (one: Serialized) => one.json[0].length + (one.json[3]?.length ?? 0) + 500,
    full: { weight: MOST_WAITING, error: () => new DatabaseUnavailable('too much waits for it') },
    itemsToBlame,
  }
  const plain = coalesce<Serialized, InsertOutcome>({
    ...limits,
    flush: async items => {
      const rows = await db.query<{ created_at: Date }>(insertPlain, inputValues(items))
      return items.map(() => ({ kind: 'inserted', createdAt: rows[0]!.created_at }))
    },
  })

  // Its joins are by comparison, row with row: smaller batches.
  const idempotent = coalesce<Serialized, InsertOutcome>({
    ...limits,
    max: 100,
    flush: items => insertWithKeys(db, items),
  })

  // Two requests of one key in this process: the second would otherwise share the first one's statement.
  const underWay = new Set<string>()
  return async task => {
    const item = {
      ...task,
      json: [
        JSON.stringify(task.input),
        JSON.stringify(task.options),
        jsonOrNull(task.metadata),
        // An answer that is null is one, too.
        task.answer && JSON.stringify(task.answer.result),
      ],
    } as Serialized
    if (!task.idempotency) return plain(item)
    const key = `${task.apiKeyId} ${task.idempotency.key}`
    if (underWay.has(key)) return { kind: 'in_flight' }
    underWay.add(key)
    try {
      return await idempotent(item)
    } finally {
      underWay.delete(key)
    }
  }
}

async function insertWithKeys(db: Db, items: Serialized[]): Promise<InsertOutcome[]> {
  const rows = await db.query<{ id: string; got: boolean; inserted: boolean; created_at: Date }>(insertIdempotent, [
    ...inputValues(items),
    items.map(one => one.idempotency!.key),
    items.map(one => one.idempotency!.requestHash),
  ])
  const byId = new Map(rows.map(row => [row.id, row]))
  const known = items.filter(one => byId.get(one.id)?.got && !byId.get(one.id)?.inserted)
  const earlier = new Map<string, { taskId: string; requestHash: Buffer }>()
  if (known.length > 0) {
    const found = await db.query<{ ord: number; task_id: string; request_hash: Buffer }>(findIdempotent, [
      known.map(one => one.apiKeyId),
      known.map(one => one.idempotency!.key),
    ])
    for (const row of found) earlier.set(known[row.ord - 1]!.id, { taskId: row.task_id, requestHash: row.request_hash })
  }
  return items.map(one => {
    const row = byId.get(one.id)!
    if (row.inserted) return { kind: 'inserted', createdAt: row.created_at }
    const first = earlier.get(one.id)
    // Not there after all: it was swept between the two statements. The client's retry will be accepted.
    return first ? { kind: 'exists', ...first } : { kind: 'in_flight' }
  })
}

/** Keys that are dropped at a time. */
const FORGET_KEYS = 5000

/** Drops Idempotency-Keys that are no longer remembered, a slice of them. @returns whether there may be more */
export async function forgetExpiredKeys(db: Db): Promise<boolean> {
  const gone = await db.query({
    name: 'idempotency_forget',
    text: `DELETE FROM idempotency_keys WHERE (api_key_id, key) IN (
      SELECT api_key_id, key FROM idempotency_keys WHERE expires_at <= now() LIMIT ${FORGET_KEYS}) RETURNING 1`,
  })
  return gone.length === FORGET_KEYS
}

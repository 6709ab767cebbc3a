import { coalesce } from '#shared/coalesce.ts'
import { createLanes } from '#shared/lanes.ts'
import { type Db, itemsToBlame } from './pool.ts'

export const DELIVERY_STATUSES = ['pending', 'delivered', 'failed'] as const
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number]

/** What may be told of tasks and of batches: `<subject>.<how it ended>`. */
const ENDS = {
  task: ['succeeded', 'failed', 'cancelled', 'expired'],
  batch: ['completed', 'failed', 'cancelled', 'expired'],
} as const
export type WebhookSubject = keyof typeof ENDS
export const subjectOf = (type: string) => type.slice(0, type.indexOf('.')) as WebhookSubject

/** A new UUIDv7, which Postgres itself can make from 18 on only: a random v4 with the time and the version put over it. */
const NEW_ID = `encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid`

/**
 * Writes down whom to tell, for a statement that ends tasks or batches: a part of it, so that one is not without the other.
 * @param from name of a CTE with `id`, `api_key_id`, `status` and `webhook_url` of what it changed; only ends are told
 */
export const tellOf = (subject: WebhookSubject, from: string): string =>
  `INSERT INTO webhook_deliveries (id, api_key_id, type, subject_id, url, next_at, created_at)
      SELECT ${NEW_ID}, api_key_id, '${subject}.' || status, id, webhook_url, now(), now() FROM ${from}
      WHERE webhook_url IS NOT NULL AND status IN (${ENDS[subject].map(end => `'${end}'`).join(', ')})`

/** A delivery that this process is to try now. `attempts` counts this one, and tells it from later ones. */
export type LeasedDelivery = {
  id: string
  api_key_id: string
  type: string
  subject_id: string
  url: string
  host: string
  attempts: number
  created_at: Date
  /** null: the key is unknown. */
  secret: Buffer | null
}

/** How many more of a key may be sent by this process. */
export type KeyRoom = { apiKeyId: string; room: number }

/** What this process has under way at a host. */
export type HostRoom = {
  host: string
  /** How many more may be sent there. */
  room: number
  /** How long one takes there. */
  seconds: number
}

/** After that another process may try: longer than any try takes. */
const LEASE = "interval '30 seconds'"
/** Due rows that are looked at in one round. */
const SLICE = 500
/** Only to tell targets apart; whether one may be reached is not decided by this. */
const HOST = "lower(substring(url FROM '^[A-Za-z]+://([^/?#\\\\]*)'))"

/**
 * Of each host as many as there is room for, hosts in turns, and of each key as many as there is room for, whatever hosts it names.
 * When more are due than were looked at, those that are not taken are put off until their turn may have come: a host that hangs
 * must not hide the others behind its own, nor a key with many such hosts those of other keys.
 */
const leaseStatement = {
  name: 'webhooks_lease',
  text: `WITH due AS MATERIALIZED (
      SELECT id, api_key_id, next_at, ${HOST} AS host FROM webhook_deliveries WHERE status = 'pending' AND next_at <= now()
      ORDER BY next_at LIMIT ${SLICE} FOR UPDATE SKIP LOCKED
    ), ranked AS MATERIALIZED (
      SELECT d.id, d.api_key_id, d.host, coalesce(h.room, $4) AS room, coalesce(h.seconds, 0.1) AS seconds,
        row_number() OVER (PARTITION BY d.host ORDER BY d.next_at, d.id) AS nth
      FROM due d LEFT JOIN unnest($1::text[], $2::int[], $3::float8[]) AS h(host, room, seconds) ON h.host = d.host
    ), by_key AS MATERIALIZED (
      SELECT r.id, r.host, r.nth, r.seconds, coalesce(k.room, $8) AS key_room,
        row_number() OVER (PARTITION BY r.api_key_id ORDER BY r.nth, r.id) AS key_nth
      FROM ranked r LEFT JOIN unnest($6::uuid[], $7::int[]) AS k(api_key_id, room) ON k.api_key_id = r.api_key_id
      WHERE r.nth <= r.room
    ), taken AS MATERIALIZED (
      SELECT id, host FROM by_key WHERE key_nth <= key_room ORDER BY nth LIMIT $5
    ), late AS MATERIALIZED (
      SELECT id, (nth - room) * seconds / $4 AS secs FROM ranked WHERE nth > room
      UNION ALL SELECT id, (key_nth - key_room) * seconds / $8 FROM by_key WHERE key_nth > key_room
    ), put_off AS (
      UPDATE webhook_deliveries w SET next_at = now() + make_interval(secs => least(300, greatest(1, l.secs)))
      FROM late l WHERE w.id = l.id AND (SELECT count(*) FROM due) = ${SLICE}
      RETURNING w.id
    ), leased AS (
      UPDATE webhook_deliveries w SET next_at = now() + ${LEASE}, attempts = least(w.attempts, 32766) + 1
      FROM taken t WHERE w.id = t.id
      RETURNING w.id, w.type, w.subject_id, w.url, t.host, w.attempts, w.created_at, w.api_key_id
    )
    SELECT p.put_off, l.id, l.api_key_id, l.type, l.subject_id, l.url, l.host, l.attempts, l.created_at, k.webhook_secret AS secret
    FROM (SELECT count(*)::int AS put_off FROM put_off) p
      LEFT JOIN (leased l LEFT JOIN api_keys k ON k.id = l.api_key_id) ON true`,
}

/**
 * Takes at most `limit` deliveries that are due. `perHost`, `perKey`: the room at hosts and of keys that are not named.
 * @returns them, and whether some were put off, behind which others may be due
 */
export async function leaseDeliveries(
  db: Db,
  {
    hosts,
    perHost,
    keys,
    perKey,
    limit,
  }: { hosts: HostRoom[]; perHost: number; keys: KeyRoom[]; perKey: number; limit: number },
): Promise<{ leased: LeasedDelivery[]; putOff: boolean }> {
  const rows = await db.query<(LeasedDelivery | { id: null }) & { put_off: number }>(leaseStatement, [
    hosts.map(one => one.host),
    hosts.map(one => one.room),
    hosts.map(one => one.seconds),
    perHost,
    limit,
    keys.map(one => one.apiKeyId),
    keys.map(one => one.room),
    perKey,
  ])
  return { leased: rows.filter(row => row.id !== null), putOff: rows[0]!.put_off > 0 }
}

/** The trace context of what these deliveries are about, by its id. */
export async function readTraceparents(
  db: Db,
  deliveries: readonly Pick<LeasedDelivery, 'subject_id'>[],
): Promise<Map<string, string>> {
  const rows = await db.query<{ id: string; traceparent: string }>(
    {
      name: 'webhooks_traceparents',
      text: `SELECT id, traceparent FROM tasks WHERE id = ANY($1) AND traceparent IS NOT NULL
        UNION ALL SELECT id, traceparent FROM batches WHERE id = ANY($1) AND traceparent IS NOT NULL`,
    },
    [deliveries.map(one => one.subject_id)],
  )
  return new Map(rows.map(row => [row.id, row.traceparent]))
}

/** What came of an attempt. */
export type AttemptEnd = {
  id: string
  attempts: number
  delivered: boolean
  /** HTTP status; null: there was no answer. */
  status: number | null
  error: string | null
  /** Until it is tried again; null: never. */
  waitMs: number | null
}

/** For so long an event is tried to be delivered; the last try is at its end. */
const TRY_FOR = "interval '24 hours'"

const settleStatement = {
  name: 'webhooks_settle',
  text: `UPDATE webhook_deliveries w SET
      status = CASE WHEN i.delivered THEN 'delivered' WHEN i.wait_ms IS NULL OR now() >= w.created_at + ${TRY_FOR} THEN 'failed' ELSE 'pending' END,
      next_at = CASE WHEN i.wait_ms IS NULL THEN w.next_at
        ELSE least(now() + make_interval(secs => i.wait_ms / 1000), greatest(now(), w.created_at + ${TRY_FOR})) END,
      last_status = i.status, last_error = i.error, delivered_at = CASE WHEN i.delivered THEN now() END
    FROM unnest($1::uuid[], $2::int[], $3::boolean[], $4::int[], $5::text[], $6::float8[]) AS i(id, attempts, delivered, status, error, wait_ms)
    -- Heard is heard; of failures only the newest attempt's counts.
    WHERE w.id = i.id AND (w.status || '') = 'pending' AND (i.delivered OR w.attempts = i.attempts)
    RETURNING w.id, w.status`,
}

/** Writes down what came of an attempt. @returns what has become of the delivery; null: another attempt decides that */
export const createDeliverySettler = (db: Db): ((end: AttemptEnd) => Promise<DeliveryStatus | null>) =>
  coalesce({
    max: 200,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ id: string; status: DeliveryStatus }>(settleStatement, [
        items.map(one => one.id),
        items.map(one => one.attempts),
        items.map(one => one.delivered),
        items.map(one => one.status),
        items.map(one => one.error),
        items.map(one => one.waitMs),
      ])
      const byId = new Map(rows.map(row => [row.id, row.status]))
      return items.map(one => byId.get(one.id) ?? null)
    },
  })

export type DeliveryRow = {
  id: string
  api_key_id: string
  type: string
  subject_id: string
  url: string
  status: DeliveryStatus
  attempts: number
  next_at: Date
  last_status: number | null
  last_error: string | null
  created_at: Date
  delivered_at: Date | null
}

const COLUMNS =
  'id, api_key_id, type, subject_id, url, status, attempts, next_at, last_status, last_error, created_at, delivered_at'

/** null: whichever. `after`: only older ones than this. */
export type DeliveryFilter = {
  apiKeyId: string | null
  status: DeliveryStatus | null
  subjectId: string | null
  after: string | null
  limit: number
}

/** Lists deliveries, newest first, two lists at a time: a filter that fits few may read a key's whole log. */
export function createDeliveryLister(db: Db): (filter: DeliveryFilter) => Promise<DeliveryRow[] | null> {
  const lanes = createLanes({ atOnce: 2, waiting: 50, waitMs: 5000 })
  return filter => lanes(() => listDeliveries(db, filter))
}

function listDeliveries(db: Db, filter: DeliveryFilter): Promise<DeliveryRow[]> {
  // Built per combination, as for tasks.
  const values: unknown[] = [filter.limit]
  const param = (value: unknown) => `$${values.push(value)}`
  // A subject has few: behind OFFSET 0 the planner does not look for them along the other index.
  const from =
    filter.subjectId === null
      ? 'webhook_deliveries'
      : `(SELECT * FROM webhook_deliveries WHERE subject_id = ${param(filter.subjectId)} OFFSET 0) w`
  const conditions = [
    filter.apiKeyId !== null && `api_key_id = ${param(filter.apiKeyId)}`,
    filter.status !== null && `status = ${param(filter.status)}`,
    filter.after !== null && `id < ${param(filter.after)}`,
  ].filter(condition => condition !== false)
  const where = conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''
  const shape = Object.entries(filter).flatMap(([name, value]) => (value === null ? [] : [name]))
  return db.query<DeliveryRow>(
    {
      name: `webhooks_list_${shape.join('_')}`,
      text: `SELECT ${COLUMNS} FROM ${from} ${where} ORDER BY id DESC LIMIT $1`,
    },
    values,
  )
}

/** Has it tried again at once, whatever became of it. @returns null: there is no such one, of this key if one is named */
export const redeliver = async (db: Db, id: string, apiKeyId: string | null): Promise<DeliveryRow | null> => {
  const rows = await db.query<DeliveryRow>(
    {
      name: 'webhooks_redeliver',
      text: `UPDATE webhook_deliveries SET status = 'pending', next_at = now(), delivered_at = NULL
        WHERE id = $1 AND ($2::uuid IS NULL OR api_key_id = $2) RETURNING ${COLUMNS}`,
    },
    [id, apiKeyId],
  )
  return rows[0] ?? null
}

/** Drops what is older than `days` and no longer tried, a bounded slice. Ids are in the order of time. @returns how many */
export const forgetDeliveries = async (db: Db, days: number): Promise<number> => {
  const rows = await db.query(
    {
      name: 'webhooks_forget',
      text: `DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE id < encode(substring(int8send((extract(epoch FROM now() - make_interval(days => $1)) * 1000)::bigint) FROM 3)
          || '\\x00000000000000000000'::bytea, 'hex')::uuid AND (status || '') <> 'pending'
        ORDER BY id LIMIT 1000) RETURNING id`,
    },
    [days],
  )
  return rows.length
}

const MOST_COUNTED = 10_000

/** What waits to be delivered, counted up to `MOST_COUNTED`, and for how long the first has been due. */
export const readBacklog = async (db: Db): Promise<{ pending: number; overdue_seconds: number }> => {
  const rows = await db.query<{ pending: number; overdue_seconds: number }>({
    name: 'webhooks_backlog',
    text: `SELECT (SELECT count(*)::int FROM (SELECT FROM webhook_deliveries WHERE status = 'pending' LIMIT ${MOST_COUNTED}) p) AS pending,
      greatest(0, coalesce(extract(epoch FROM now() - (
        SELECT next_at FROM webhook_deliveries WHERE status = 'pending' ORDER BY next_at LIMIT 1)), 0))::float8 AS overdue_seconds`,
  })
  return rows[0]!
}

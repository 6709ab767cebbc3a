import { defineColumns } from '../columns.ts'
import type { Db } from '../pool.ts'

/** A delivery that this process attempts now. `attempts` includes this attempt and identifies it. */
export type LeasedDelivery = {
  id: string
  api_key_id: string
  type: string
  subject_id: string
  url: string
  host: string
  attempts: number
  created_at: Date
  /** null: no such key. */
  secret: Buffer | null
  /** Replaced secrets that still sign, newest first. */
  retired_secrets: Buffer[]
}

/** How many more deliveries of a key this process may start. */
export type KeyHeadroom = { apiKeyId: string; room: number }

/** How many more deliveries to a host this process may start. */
export type HostHeadroom = {
  host: string
  room: number
  /** Duration of the last delivery. */
  seconds: number
}

/** Longer than any attempt. After it another process may deliver. */
const LEASE = "interval '30 seconds'"
/** Due rows that one round reads. */
const SLICE = 500
/** Groups deliveries by target. Not used to decide whether a target is allowed. */
const HOST = "lower(substring(url FROM '^[A-Za-z]+://([^/?#\\\\]*)'))"

const hostColumns = defineColumns<HostHeadroom>([
  ['host', 'text', one => one.host],
  ['room', 'int', one => one.room],
  ['seconds', 'float8', one => one.seconds],
])
const keyColumns = defineColumns<KeyHeadroom>([
  ['api_key_id', 'uuid', one => one.apiKeyId],
  ['room', 'int', one => one.room],
])
/** $1 is the room of hosts that are not named, $2 that of keys, $3 the limit. */
const FIRST = 4

/**
 * Leases as many deliveries as each host and each key has room for, hosts in turns. If a full slice was read, more may be due, and
 * the deliveries without room are postponed until their turn: the backlog of a host that hangs, or of a key with many such hosts,
 * must not hide the others.
 */
const leaseStatement = {
  name: 'webhooks_lease',
  text: `WITH due AS MATERIALIZED (
      SELECT id, api_key_id, next_at, ${HOST} AS host FROM webhook_deliveries WHERE status = 'pending' AND next_at <= now()
      ORDER BY next_at LIMIT ${SLICE} FOR UPDATE SKIP LOCKED
    ), ranked AS MATERIALIZED (
      SELECT d.id, d.api_key_id, d.host, coalesce(h.room, $1) AS room, coalesce(h.seconds, 0.1) AS seconds,
        row_number() OVER (PARTITION BY d.host ORDER BY d.next_at, d.id) AS nth
      FROM due d LEFT JOIN ${hostColumns.unnest('h', FIRST)} ON h.host = d.host
    ), by_key AS MATERIALIZED (
      SELECT r.id, r.host, r.nth, r.seconds, coalesce(k.room, $2) AS key_room,
        row_number() OVER (PARTITION BY r.api_key_id ORDER BY r.nth, r.id) AS key_nth
      FROM ranked r LEFT JOIN ${keyColumns.unnest('k', FIRST + hostColumns.count)} ON k.api_key_id = r.api_key_id
      WHERE r.nth <= r.room
    ), taken AS MATERIALIZED (
      SELECT id, host FROM by_key WHERE key_nth <= key_room ORDER BY nth LIMIT $3
    ), late AS MATERIALIZED (
      SELECT id, (nth - room) * seconds / $1 AS secs FROM ranked WHERE nth > room
      UNION ALL SELECT id, (key_nth - key_room) * seconds / $2 FROM by_key WHERE key_nth > key_room
    ), put_off AS (
      UPDATE webhook_deliveries w SET next_at = now() + make_interval(secs => least(300, greatest(1, l.secs)))
      FROM late l WHERE w.id = l.id AND (SELECT count(*) FROM due) = ${SLICE}
      RETURNING w.id
    ), leased AS (
      UPDATE webhook_deliveries w SET next_at = now() + ${LEASE}, attempts = least(w.attempts, 32766) + 1
      FROM taken t WHERE w.id = t.id
      RETURNING w.id, w.type, w.subject_id, w.url, t.host, w.attempts, w.created_at, w.api_key_id
    )
    SELECT p.put_off, l.id, l.api_key_id, l.type, l.subject_id, l.url, l.host, l.attempts, l.created_at, k.webhook_secret AS secret,
      ARRAY(SELECT r.secret FROM retired_webhook_secrets r WHERE r.api_key_id = l.api_key_id AND r.signs_until > now()
        ORDER BY r.retired_at DESC) AS retired_secrets
    FROM (SELECT count(*)::int AS put_off FROM put_off) p
      LEFT JOIN (leased l LEFT JOIN api_keys k ON k.id = l.api_key_id) ON true`,
}

/**
 * Leases due deliveries, at most `limit`. `perHost` and `perKey`: the room of hosts and keys that are not named.
 * @returns the deliveries, and `putOff`: some were postponed, and others may be due after them
 */
export async function leaseDeliveries(
  db: Db,
  {
    hosts,
    perHost,
    keys,
    perKey,
    limit,
  }: { hosts: HostHeadroom[]; perHost: number; keys: KeyHeadroom[]; perKey: number; limit: number },
): Promise<{ leased: LeasedDelivery[]; putOff: boolean }> {
  const rows = await db.query<(LeasedDelivery | { id: null }) & { put_off: number }>(leaseStatement, [
    perHost,
    perKey,
    limit,
    ...hostColumns.values(hosts),
    ...keyColumns.values(keys),
  ])
  return { leased: rows.filter(row => row.id !== null), putOff: rows[0]!.put_off > 0 }
}

/** The trace contexts of the tasks and batches that these deliveries report, by id. */
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

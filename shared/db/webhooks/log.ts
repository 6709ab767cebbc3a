import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import { daysAgo, idBefore } from '../age.ts'
import type { Db } from '../pool.ts'

export const DELIVERY_STATUSES = ['pending', 'delivered', 'failed'] as const
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number]

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

/** null: no filter. `after`: only deliveries older than this one. */
export type DeliveryFilter = {
  apiKeyId: string | null
  status: DeliveryStatus | null
  subjectId: string | null
  after: string | null
  limit: number
}

/**
 * Lists deliveries, newest first. Two lists run at a time, because a filter with few matches may read the whole log of a key.
 * @returns null: too many lists are waiting
 */
export function createDeliveryLister(db: Db): (filter: DeliveryFilter) => Promise<DeliveryRow[] | null> {
  const semaphore = createSemaphore({ atOnce: 2, waiting: 50, waitMs: 5000 })
  return filter => semaphore(() => listDeliveries(db, filter))
}

function listDeliveries(db: Db, filter: DeliveryFilter): Promise<DeliveryRow[]> {
  // One statement per combination of filters, like the list of tasks.
  const values: unknown[] = [filter.limit]
  const param = (value: unknown) => `$${values.push(value)}`
  // A subject has few deliveries. OFFSET 0 keeps the planner from scanning the other index for them.
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

/** Schedules a delivery now, whatever its status. @param apiKeyId null: any @returns null: no such delivery */
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

/** Deletes deliveries older than `days` that are not pending, at most 1000. @returns how many */
export const pruneDeliveries = async (db: Db, days: number): Promise<number> => {
  const rows = await db.query(
    {
      name: 'webhooks_prune',
      text: `DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE id < ${idBefore('$1')} AND created_at < ${daysAgo('$1')} AND (status || '') <> 'pending'
        ORDER BY id LIMIT 1000) RETURNING id`,
    },
    [days],
  )
  return rows.length
}

const MAX_COUNTED = 10_000

/** Pending deliveries, counted up to MAX_COUNTED, and seconds since the oldest of them became due. */
export const readDeliveryBacklog = async (db: Db): Promise<{ pending: number; overdue_seconds: number }> => {
  const rows = await db.query<{ pending: number; overdue_seconds: number }>({
    name: 'webhooks_backlog',
    text: `SELECT (SELECT count(*)::int FROM (SELECT FROM webhook_deliveries WHERE status = 'pending' LIMIT ${MAX_COUNTED}) p) AS pending,
      greatest(0, coalesce(extract(epoch FROM now() - (
        SELECT next_at FROM webhook_deliveries WHERE status = 'pending' ORDER BY next_at LIMIT 1)), 0))::float8 AS overdue_seconds`,
  })
  return rows[0]!
}

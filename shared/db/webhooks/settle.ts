import { coalesce } from '#shared/concurrency/coalesce.ts'
import { defineColumns } from '../columns.ts'
import { type Db, splitOnError } from '../pool.ts'
import type { DeliveryStatus } from './log.ts'

/** The outcome of one delivery attempt. */
export type DeliveryOutcome = {
  id: string
  attempts: number
  delivered: boolean
  /** HTTP status; null: no response. */
  status: number | null
  error: string | null
  /** Milliseconds until the next attempt; null: no further attempt. */
  waitMs: number | null
}

/** How long delivery is attempted. The last attempt is at the end of this time. */
const RETRY_PERIOD = "interval '24 hours'"

const outcomeColumns = defineColumns<DeliveryOutcome>([
  ['id', 'uuid', one => one.id],
  ['attempts', 'int', one => one.attempts],
  ['delivered', 'boolean', one => one.delivered],
  ['status', 'int', one => one.status],
  ['error', 'text', one => one.error],
  ['wait_ms', 'float8', one => one.waitMs],
])

const settleStatement = {
  name: 'webhooks_settle',
  text: `UPDATE webhook_deliveries w SET
      status = CASE WHEN i.delivered THEN 'delivered' WHEN i.wait_ms IS NULL OR now() >= w.created_at + ${RETRY_PERIOD} THEN 'failed' ELSE 'pending' END,
      next_at = CASE WHEN i.wait_ms IS NULL THEN w.next_at
        ELSE least(now() + make_interval(secs => i.wait_ms / 1000), greatest(now(), w.created_at + ${RETRY_PERIOD})) END,
      last_status = i.status, last_error = i.error, delivered_at = CASE WHEN i.delivered THEN now() END
    FROM ${outcomeColumns.unnest('i', 1)}
    -- A delivery counts from any attempt, a failure only from the newest.
    WHERE w.id = i.id AND (w.status || '') = 'pending' AND (i.delivered OR w.attempts = i.attempts)
    RETURNING w.id, w.status`,
}

/** Settles delivery attempts. @returns the new status of the delivery; null: another attempt decides it */
export const createDeliverySettler = (db: Db): ((end: DeliveryOutcome) => Promise<DeliveryStatus | null>) =>
  coalesce({
    max: 200,
    splitOnError,
    flush: async items => {
      const rows = await db.query<{ id: string; status: DeliveryStatus }>(settleStatement, outcomeColumns.values(items))
      const byId = new Map(rows.map(row => [row.id, row.status]))
      return items.map(one => byId.get(one.id) ?? null)
    },
  })

import type { Db } from '../pool.ts'
import { IN_CHUNK, LINE_SUMS, LINES_OF_CHUNK } from './chunk.ts'
import { BATCH_COLUMNS, type BatchRow, type BatchStatus, LIVE_STATUSES } from './row.ts'

/** A batch with the current totals of its lines. */
export type BatchView = BatchRow & {
  succeeded: number
  failed: number
  cancelled: number
  expired: number
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  reasoning_tokens: number
  cost_usd: string
  /** Lines that ended per second in the last WINDOW_SECONDS; null unless lines are running. */
  rate: number | null
  /** Seconds until the remaining lines have ended at that rate; null: unknown. */
  eta_seconds: number | null
}
type ViewRow = Omit<BatchView, 'eta_seconds'>

const WINDOW_SECONDS = 60
const WINDOW = `interval '${WINDOW_SECONDS} seconds'`
const TOTALS = [
  'succeeded',
  'failed',
  'cancelled',
  'expired',
  'input_tokens',
  'output_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'reasoning_tokens',
  'cost_usd',
]
const typed = (name: string, value: string) => {
  if (name === 'cost_usd') return `trim_scale(${value})::text`
  return name.endsWith('_tokens') ? `${value}::float8` : `${value}::int`
}

/**
 * Selects the views of batches `b`. Lines of running chunks are counted; the other chunks have their totals. Those of a chunk that
 * waits to be retried are the totals of the lines that it will not run.
 */
const VIEW = `SELECT ${BATCH_COLUMNS}, ${TOTALS.map(name => `${typed(name, `coalesce(s.${name}, b.${name})`)} AS ${name}`).join(', ')},
      CASE WHEN b.status = 'in_progress' THEN s.recent / greatest(1, least(${WINDOW_SECONDS}, extract(epoch FROM now() - b.in_progress_at)::float8)) END AS rate
    FROM b LEFT JOIN LATERAL (
      SELECT ${TOTALS.map(name => `sum(coalesce(l.${name}, c.${name})) AS ${name}`).join(', ')},
        -- The lines of a chunk that is done are assumed to have ended evenly while it ran.
        sum(coalesce(l.recent, CASE WHEN c.finished_at > now() - ${WINDOW} THEN (c.succeeded + c.failed + c.cancelled + c.expired)
          * least(1, extract(epoch FROM c.finished_at - (now() - ${WINDOW})) / greatest(0.001, extract(epoch FROM c.finished_at - c.started_at))) END, 0))::float8 AS recent
      FROM batch_chunks c LEFT JOIN LATERAL (
        SELECT ${LINE_SUMS}, count(*) FILTER (WHERE t.finished_at > now() - ${WINDOW}) AS recent
        FROM ${LINES_OF_CHUNK} WHERE ${IN_CHUNK}
        -- A condition of the join would be checked after all lines have been counted.
        HAVING c.status <> 'done' AND c.started_at IS NOT NULL
      ) l ON true
      WHERE c.batch_id = b.id AND c.step = 'run'
      HAVING b.status IN ${LIVE_STATUSES}
    ) s ON true`

const withEta = (row: ViewRow): BatchView => {
  const left = row.total - row.succeeded - row.failed - row.cancelled - row.expired
  return { ...row, eta_seconds: row.rate ? left / row.rate : null }
}

const findStatement = {
  name: 'batches_find',
  text: `WITH b AS MATERIALIZED (SELECT * FROM batches WHERE id = $1) ${VIEW}`,
}

/** @returns null: no such batch */
export async function findBatch(db: Db, id: string): Promise<BatchView | null> {
  const [row] = await db.query<ViewRow>(findStatement, [id])
  return row ? withEta(row) : null
}

const findManyStatement = {
  name: 'batches_find_many',
  text: `WITH b AS MATERIALIZED (SELECT * FROM batches WHERE id = ANY($1::uuid[])) ${VIEW}`,
}

/** The batches with these ids, in no order. Unknown ids are left out. */
export const findBatches = async (db: Db, ids: string[]): Promise<BatchView[]> =>
  (await db.query<ViewRow>(findManyStatement, [ids])).map(withEta)

export type BatchQuery = {
  /** null: of all keys. */
  apiKeyId: string | null
  surface?: BatchRow['surface']
  /** Only batches older than this one. */
  after?: string | null
  limit: number
}

/** Newest first. */
export async function listBatches(db: Db, { apiKeyId, surface, after, limit }: BatchQuery): Promise<BatchView[]> {
  // One statement per combination of filters: with `$1 IS NULL OR …` the single prepared plan could not use an index.
  const values: unknown[] = [limit]
  const param = (value: unknown) => `$${values.push(value)}`
  const conditions = [
    apiKeyId !== null && `api_key_id = ${param(apiKeyId)}`,
    surface && `surface = ${param(surface)}`,
    after && `id < ${param(after)}`,
  ].filter(one => typeof one === 'string')
  const where = conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''
  const rows = await db.query<ViewRow>(
    {
      name: `batches_list${apiKeyId === null ? '' : '_key'}${surface ? '_surface' : ''}${after ? '_after' : ''}`,
      text: `WITH b AS MATERIALIZED (SELECT * FROM batches ${where} ORDER BY id DESC LIMIT $1) ${VIEW} ORDER BY b.id DESC`,
    },
    values,
  )
  return rows.map(withEta)
}

const readStatement = { name: 'batches_read', text: `SELECT ${BATCH_COLUMNS} FROM batches b WHERE b.id = $1` }

/** The row of a batch, without totals. @returns null: no such batch */
export const readBatch = async (db: Db, id: string): Promise<BatchRow | null> =>
  (await db.query<BatchRow>(readStatement, [id]))[0] ?? null

export type LiveBatches = { status: BatchStatus; count: number }

export const countLiveBatches = (db: Db): Promise<LiveBatches[]> =>
  db.query<LiveBatches>({
    name: 'batches_count_live',
    text: `SELECT status, count(*)::int AS count FROM batches WHERE status IN ${LIVE_STATUSES} GROUP BY status`,
  })

import { LIVENESS } from '#shared/process/liveness.ts'
import { defineColumns } from './columns.ts'
import type { Db } from './pool.ts'

/** State of a provider, from a worker's own calls. */
export type ProviderState = 'ok' | 'failing' | 'unreachable'

export type WorkerState = {
  id: string
  pid: number
  host: string
  queues: string[]
  concurrency: number
  active: number
  metricsPort: number | null
  providers: Record<string, ProviderState>
  /** Milliseconds since the worker last fetched a job; null: never. */
  fetchedAgoMs: number | null
}

type Claim = { id: string; epoch: number }
const claimColumns = defineColumns<Claim>([
  ['id', 'uuid', claim => claim.id],
  ['epoch', 'int', claim => claim.epoch],
])

const beatStatement = {
  name: 'workers_beat',
  text: `WITH beat AS (
      INSERT INTO workers AS w (id, pid, host, queues, concurrency, active, metrics_port, last_fetch_at, providers)
      VALUES ($1, $2, $3, $4, $5, $6, $7, now() - $8::float8 * interval '1 millisecond', $9::json)
      ON CONFLICT (id) DO UPDATE SET beat_at = now(), active = excluded.active, concurrency = excluded.concurrency,
        metrics_port = excluded.metrics_port, providers = excluded.providers, last_fetch_at = coalesce(excluded.last_fetch_at, w.last_fetch_at)
    )
    SELECT h.id, h.epoch FROM ${claimColumns.unnest('h', 10)} LEFT JOIN tasks t ON t.id = h.id
    WHERE t.id IS NULL OR t.status <> 'running' OR t.epoch <> h.epoch OR t.worker_id <> $1`,
}

/** Writes a heartbeat, by Postgres's clock. @returns the claims in `held` that are lost: cancelled, expired or taken over */
export const writeHeartbeat = (db: Db, worker: WorkerState, held: Claim[]): Promise<Claim[]> =>
  db.query<Claim>(beatStatement, [
    worker.id,
    worker.pid,
    worker.host,
    worker.queues,
    worker.concurrency,
    worker.active,
    worker.metricsPort,
    worker.fetchedAgoMs,
    JSON.stringify(worker.providers),
    ...claimColumns.values(held),
  ])

/** Deletes a worker that stops without claims. */
export const deregisterWorker = (db: Db, id: string) =>
  db.query({ name: 'workers_deregister', text: 'DELETE FROM workers WHERE id = $1' }, [id])

export type LiveWorker = {
  id: string
  pid: number
  host: string
  queues: string[]
  concurrency: number
  active: number
  metrics_port: number | null
  providers: Record<string, ProviderState>
  started_at: Date
  beat_at: Date
  last_fetch_at: Date | null
}

const COLUMNS =
  'id, pid, host, queues, concurrency, active, metrics_port, providers, started_at, beat_at, last_fetch_at'

/** SQL interval. @param ms the parameter with its length in milliseconds, such as `$3` */
const interval = (ms: string) => `${ms}::float8 * interval '1 millisecond'`

/** SQL condition on `workers` w. @param ms the parameter that holds `deadAfterMs` */
export const isAlive = (ms: string) => `w.beat_at > now() - ${interval(ms)}`

/**
 * SQL condition on `workers` w: the process has sent no heartbeat for `deadAfterMs`, and Postgres has been running for as long,
 * because heartbeats that an outage prevented prove nothing.
 * @param ms the parameter that holds `deadAfterMs`
 */
export const isDead = (ms: string) =>
  `w.beat_at < now() - ${interval(ms)} AND pg_postmaster_start_time() < now() - ${interval(ms)}`

/** The workers that are alive. API processes, which serve no queue, are not among them. */
export const listWorkers = (db: Db, deadAfterMs: number = LIVENESS.deadAfterMs): Promise<LiveWorker[]> =>
  db.query<LiveWorker>(
    {
      name: 'workers_list',
      text: `SELECT ${COLUMNS} FROM workers w WHERE ${isAlive('$1')} AND queues <> '{}' ORDER BY started_at`,
    },
    [deadAfterMs],
  )

/** Deletes workers whose heartbeat expired. A worker without a row counts as dead too. @returns their ids */
export const deleteDeadWorkers = async (db: Db, deadAfterMs: number = LIVENESS.deadAfterMs): Promise<string[]> => {
  const rows = await db.query<{ id: string }>(
    { name: 'workers_delete_dead', text: `DELETE FROM workers w WHERE ${isDead('$1')} RETURNING w.id` },
    [deadAfterMs],
  )
  return rows.map(row => row.id)
}

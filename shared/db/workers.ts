import { DEAD_AFTER_SECONDS } from './claims.ts'
import type { Db } from './pool.ts'

/** What a worker’s own calls say of a provider. */
export type ProviderState = 'ok' | 'failing' | 'unreachable'

export type WorkerBeat = {
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

const beatStatement = {
  name: 'workers_beat',
  text: `WITH beat AS (
      INSERT INTO workers AS w (id, pid, host, queues, concurrency, active, metrics_port, last_fetch_at, providers)
      VALUES ($1, $2, $3, $4, $5, $6, $7, now() - $8::float8 * interval '1 millisecond', $9::json)
      ON CONFLICT (id) DO UPDATE SET beat_at = now(), active = excluded.active, concurrency = excluded.concurrency,
        metrics_port = excluded.metrics_port, providers = excluded.providers, last_fetch_at = coalesce(excluded.last_fetch_at, w.last_fetch_at)
    )
    SELECT h.id FROM unnest($10::uuid[], $11::int[]) AS h(id, epoch) LEFT JOIN tasks t ON t.id = h.id
    WHERE t.id IS NULL OR t.status <> 'running' OR t.epoch <> h.epoch OR t.worker_id <> $1`,
}

/**
 * One heartbeat, on Postgres's clock. @returns the ids among `held` whose claim is gone: cancelled, expired, taken over
 */
export async function beat(db: Db, worker: WorkerBeat, held: { id: string; epoch: number }[]): Promise<string[]> {
  const rows = await db.query<{ id: string }>(beatStatement, [
    worker.id,
    worker.pid,
    worker.host,
    worker.queues,
    worker.concurrency,
    worker.active,
    worker.metricsPort,
    worker.fetchedAgoMs,
    JSON.stringify(worker.providers),
    held.map(claim => claim.id),
    held.map(claim => claim.epoch),
  ])
  return rows.map(row => row.id)
}

/** A worker that leaves having given back every claim. */
export const leave = (db: Db, id: string) =>
  db.query({ name: 'workers_leave', text: 'DELETE FROM workers WHERE id = $1' }, [id])

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

export const listWorkers = (db: Db): Promise<LiveWorker[]> =>
  db.query<LiveWorker>({
    name: 'workers_list',
    text: `SELECT * FROM workers WHERE beat_at > now() - interval '${DEAD_AFTER_SECONDS} seconds' ORDER BY started_at`,
  })

/** Forgets processes that died so long ago that nothing refers to them. */
export const forgetDeadWorkers = (db: Db) =>
  db.query({
    name: 'workers_forget',
    text: `DELETE FROM workers w WHERE beat_at < now() - interval '1 hour'
      AND NOT EXISTS (SELECT FROM tasks t WHERE t.worker_id = w.id AND t.status = 'running')`,
  })

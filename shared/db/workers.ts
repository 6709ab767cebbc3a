import type { Db } from './pool.ts'

/** A process is dead this long after its last beat. */
export const DEAD_AFTER_SECONDS = 10

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
    SELECT h.id, h.epoch FROM unnest($10::uuid[], $11::int[]) AS h(id, epoch) LEFT JOIN tasks t ON t.id = h.id
    WHERE t.id IS NULL OR t.status <> 'running' OR t.epoch <> h.epoch OR t.worker_id <> $1`,
}

type Claim = { id: string; epoch: number }

/** One heartbeat, on Postgres's clock. @returns those among `held` that are gone: cancelled, expired, taken over */
export const beat = (db: Db, worker: WorkerBeat, held: Claim[]): Promise<Claim[]> =>
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
    held.map(claim => claim.id),
    held.map(claim => claim.epoch),
  ])

/** Strikes a process off that leaves without claims. */
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

const COLUMNS =
  'id, pid, host, queues, concurrency, active, metrics_port, providers, started_at, beat_at, last_fetch_at'

export const listWorkers = (db: Db): Promise<LiveWorker[]> =>
  db.query<LiveWorker>({
    name: 'workers_list',
    text: `SELECT ${COLUMNS} FROM workers WHERE beat_at > now() - interval '${DEAD_AFTER_SECONDS} seconds' ORDER BY started_at`,
  })

/**
 * Processes that have not beaten for 10 s, Postgres having been back for as long (the beats of an outage prove nothing).
 * For a statement that calls `workers` w.
 */
export const DEAD = `w.beat_at < now() - interval '${DEAD_AFTER_SECONDS} seconds'
  AND pg_postmaster_start_time() < now() - interval '${DEAD_AFTER_SECONDS} seconds'`

/** Strikes the dead off. Whoever holds a claim and is not in the table counts as dead too. @returns their ids */
export const buryDead = async (db: Db): Promise<string[]> => {
  const rows = await db.query<{ id: string }>({
    name: 'workers_bury',
    text: `DELETE FROM workers w WHERE ${DEAD} RETURNING w.id`,
  })
  return rows.map(row => row.id)
}

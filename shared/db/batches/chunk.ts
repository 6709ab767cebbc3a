import type { Dispatchable } from '../tasks/row.ts'

/**
 * A chunk is a unit of work on a batch: `validate` reads the input, `run` runs a range of lines, `finalize` writes the output. Like
 * a task it is dispatched, claimed by compare-and-set on its epoch, and taken over when its worker dies.
 */
export type ChunkStep = 'validate' | 'run' | 'finalize'
export type ChunkJob = Dispatchable & { queue: 'batch' }

/** Chunks that one worker process runs concurrently. */
export const CHUNK_CONCURRENCY = 4

/** A number of claims above every limit: the sweeper fails the chunk. */
export const EXHAUSTED = 32_767

/** The select list of a `ChunkJob`, for chunks `c` of batches `b`. */
export const JOB_COLUMNS = "c.id, c.epoch, 'batch' AS queue, b.priority"

export type LineCounts = { succeeded: number; failed: number; cancelled: number; expired: number }

/** Sums over the lines `t` of chunks `c` and over their attempts `a`. */
export const LINE_SUMS = `count(*) FILTER (WHERE t.status = 'succeeded')::int AS succeeded,
      count(*) FILTER (WHERE t.status = 'failed')::int AS failed, count(*) FILTER (WHERE t.status = 'cancelled')::int AS cancelled,
      count(*) FILTER (WHERE t.status = 'expired')::int AS expired, count(*) FILTER (WHERE t.status IN ('queued', 'running'))::int AS open,
      coalesce(sum(a.input_tokens), 0)::bigint AS input_tokens, coalesce(sum(a.output_tokens), 0)::bigint AS output_tokens,
      coalesce(sum(a.cache_read_tokens), 0)::bigint AS cache_read_tokens,
      coalesce(sum(a.cache_write_tokens), 0)::bigint AS cache_write_tokens,
      coalesce(sum(a.reasoning_tokens), 0)::bigint AS reasoning_tokens,
      coalesce(sum(a.cost_usd), 0) AS cost_usd`
export const LINES_OF_CHUNK = `tasks t LEFT JOIN LATERAL (
      SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
        sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens, sum(reasoning_tokens) AS reasoning_tokens
      FROM attempts WHERE task_id = t.id
    ) a ON t.attempts > 0`
export const IN_CHUNK = 't.batch_id = c.batch_id AND t.line BETWEEN c.first_line AND c.last_line'

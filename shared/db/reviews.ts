import type { Db } from './pool.ts'
import { STATUS } from './tasks/row.ts'

export type ReviewDecision = {
  decision: 'allow' | 'block'
  note: string | null
  decided_by: string
  decided_at: string
}

/** A task for human review, with the decisions so far. */
export type Review = {
  task_id: string
  kind: string
  api_key_id: string
  input: unknown
  result: unknown
  metadata: Record<string, unknown> | null
  created_at: Date
  /** null: pending. */
  decision: 'allow' | 'block' | null
  /** Oldest first. */
  history: ReviewDecision[]
}

/**
 * SQL that queues results for human review, as part of the statement that ends their tasks.
 * @param from name of a common table expression with `id`, `api_key_id` and `unsure`
 */
export const insertReviews = (from: string): string =>
  `INSERT INTO reviews (task_id, api_key_id, created_at) SELECT id, api_key_id, now() FROM ${from} WHERE unsure
      ON CONFLICT DO NOTHING`

const SELECT = `SELECT t.id AS task_id, t.kind, t.api_key_id, t.input, t.result, t.metadata, r.created_at, r.decision,
    coalesce((SELECT json_agg(json_build_object('decision', d.decision, 'note', d.note, 'decided_by', d.decided_by, 'decided_at', d.decided_at)
      ORDER BY d.id) FROM review_decisions d WHERE d.task_id = r.task_id), '[]') AS history
  FROM reviews r JOIN tasks t ON t.id = r.task_id`
/** A task that was retried may have a verdict by now. */
const OPEN = `r.decision IS NULL AND t.result->>'decision' = 'review'`

export type ReviewFilter = { status: 'pending' | 'decided'; after: string | null; limit: number }

/** Pending reviews oldest first, decided ones newest first. `after`: the last task of the previous page. */
export function listReviews(db: Db, { status, after, limit }: ReviewFilter): Promise<Review[]> {
  const pending = status === 'pending'
  const past = after === null ? '' : `AND r.task_id ${pending ? '>' : '<'} $2`
  return db.query<Review>(
    {
      name: `reviews_${status}${after === null ? '' : '_after'}`,
      text: `${SELECT} WHERE ${pending ? OPEN : 'r.decision IS NOT NULL'} ${past} ORDER BY r.task_id ${pending ? '' : 'DESC'} LIMIT $1`,
    },
    after === null ? [limit] : [limit, after],
  )
}

const decideStatement = {
  name: 'reviews_decide',
  text: `WITH open AS MATERIALIZED (
      -- The lock: a line that is retried has no verdict yet, and may get one meanwhile.
      SELECT r.task_id FROM reviews r JOIN tasks t ON t.id = r.task_id
      WHERE r.task_id = $1 AND ${STATUS} NOT IN ('queued', 'running')
        AND (r.decision IS NOT NULL OR t.result->>'decision' = 'review')
      FOR SHARE OF t
    ), decided AS (
      UPDATE reviews r SET decision = $2 FROM open WHERE r.task_id = open.task_id RETURNING r.task_id
    ) INSERT INTO review_decisions (task_id, decision, note, decided_by) SELECT task_id, $2, $3, $4 FROM decided RETURNING task_id`,
}

/** `not_open`: the task is being moderated again, or has a verdict by now. */
export type DecisionOutcome = { kind: 'decided'; review: Review } | { kind: 'not_open' } | { kind: 'not_found' }

/** Records a decision. It replaces the previous one, which stays in the history. */
export async function decideReview(
  db: Db,
  { taskId, decision, note, by }: { taskId: string; decision: 'allow' | 'block'; note: string | null; by: string },
): Promise<DecisionOutcome> {
  const decided = await db.query(decideStatement, [taskId, decision, note, by])
  const review = await readReview(db, taskId)
  if (!review) return { kind: 'not_found' }
  return decided.length === 0 ? { kind: 'not_open' } : { kind: 'decided', review }
}

const readReview = async (db: Db, taskId: string): Promise<Review | null> =>
  (await db.query<Review>({ name: 'reviews_read', text: `${SELECT} WHERE r.task_id = $1` }, [taskId]))[0] ?? null

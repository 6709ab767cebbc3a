import { coalesce } from '#shared/concurrency/coalesce.ts'
import { type Db, splitOnError } from '../pool.ts'
import { insertReviews } from '../reviews.ts'
import { insertWebhooks } from '../webhooks/insert.ts'
import { type FinishedTask, SECONDS, STATUS, type TaskStatus } from './row.ts'

/** A task that will not call within this time is no leader: its followers answer sooner by calling themselves. */
export const LEADER_DELAY = "interval '5 seconds'"

/** Followers that one statement settles. The others find the answer in the cache. */
const MAX_SETTLED = 500

const releaseStatement = {
  name: 'tasks_release',
  text: `WITH l AS MATERIALIZED (
      SELECT t.id, t.result, t.provider, t.model, t.quality, t.finish_reason,
        t.status = 'succeeded' AND (t.source = 'ai' OR t.source = 'cache' AND t.quality = 'high') AS answered
      FROM tasks t WHERE t.id = ANY($1::uuid[]) AND ${STATUS} NOT IN ('queued', 'running')
    ), f AS MATERIALIZED (
      SELECT f.id, l.id AS leader_id FROM l CROSS JOIN LATERAL (
        SELECT t.id FROM tasks t WHERE t.leader_id = l.id AND ${STATUS} = 'queued' LIMIT ${MAX_SETTLED} FOR UPDATE SKIP LOCKED
      ) f
    ), released AS (
      UPDATE tasks t SET leader_id = NULL, dispatched_at = NULL,
        status = CASE WHEN l.answered THEN 'succeeded' ELSE t.status END,
        result = CASE WHEN l.answered THEN l.result END, source = CASE WHEN l.answered THEN 'cache' END,
        quality = CASE WHEN l.answered THEN l.quality END, provider = CASE WHEN l.answered THEN l.provider END,
        model = CASE WHEN l.answered THEN l.model END, finish_reason = CASE WHEN l.answered THEN l.finish_reason END,
        started_at = CASE WHEN l.answered THEN now() END, finished_at = CASE WHEN l.answered THEN now() END
      FROM f JOIN l ON l.id = f.leader_id WHERE t.id = f.id AND t.leader_id = f.leader_id AND ${STATUS} = 'queued'
      RETURNING t.id, t.kind, t.status, t.api_key_id, t.webhook_url, l.id AS leader_id, ${SECONDS} AS seconds,
        CASE WHEN t.kind = ANY($2) THEN t.result->>'decision' = 'review' END AS unsure
    ), notified AS (
      ${insertWebhooks('task', 'released')}
    ), reviewed AS (
      ${insertReviews('released')}
    )
    SELECT id, kind, status, leader_id, seconds FROM released`,
}

/**
 * Releases the followers of tasks that have ended. If the leader has a fresh answer from a model, its followers succeed with
 * it; otherwise they return to their backlog, and one of them becomes the leader. This statement runs after the one that ended
 * the leader, because a task that began to follow meanwhile is in no snapshot of that statement.
 * @param reviewedKinds kinds whose results a person may review
 */
export const createFollowerRelease = (
  db: Db,
  onFinished: (tasks: FinishedTask[]) => void,
  reviewedKinds: string[],
): ((leader: { id: string; result: unknown }) => Promise<void>) =>
  coalesce({
    max: 200,
    splitOnError,
    flush: async leaders => {
      const rows = await db.query<{ id: string; kind: string; status: TaskStatus; leader_id: string; seconds: number }>(
        releaseStatement,
        [leaders.map(one => one.id), reviewedKinds],
      )
      const results = new Map(leaders.map(one => [one.id, one.result]))
      const succeeded = rows.filter(row => row.status === 'succeeded')
      if (succeeded.length > 0) {
        onFinished(
          succeeded.map(({ id, kind, leader_id, seconds }) => {
            return { id, kind, status: 'succeeded', source: 'cache', seconds, result: results.get(leader_id) }
          }),
        )
      }
      return leaders.map(() => undefined)
    },
  })

/**
 * Releases followers whose leader cannot answer: it has ended, does not exist, follows another task or will not call soon. Also
 * releases followers that need the time before their deadline for another answer.
 * @returns how many, at most `limit`
 */
export const releaseStrayFollowers = async (db: Db, limit: number): Promise<number> => {
  const rows = await db.query(
    {
      name: 'tasks_release_stray',
      text: `WITH stray AS (
          SELECT t.id FROM tasks t LEFT JOIN tasks l ON l.id = t.leader_id
          WHERE t.leader_id IS NOT NULL AND ${STATUS} = 'queued' AND (
            l.id IS NULL OR l.leader_id IS NOT NULL OR (l.status || '') NOT IN ('queued', 'running')
            OR (l.status || '') = 'queued' AND l.run_at > now() + ${LEADER_DELAY} OR t.deadline_at < now() + ${LEADER_DELAY})
          LIMIT $1 FOR UPDATE OF t SKIP LOCKED
        )
        UPDATE tasks t SET leader_id = NULL, dispatched_at = NULL FROM stray s WHERE t.id = s.id RETURNING t.id`,
    },
    [limit],
  )
  return rows.length
}

import type { Database } from '../client-app/database.ts'
import type { Outcome } from './verdict.ts'

/** This application's own tables, in a schema of its own. */
export const SCHEMA = `
  SELECT pg_advisory_xact_lock(hashtext('comments_app'));
  CREATE SCHEMA IF NOT EXISTS comments_app;
  CREATE TABLE IF NOT EXISTS comments_app.comments (
    id uuid PRIMARY KEY,
    post_id text NOT NULL,
    author text NOT NULL,
    text text NOT NULL,
    status text NOT NULL CHECK (status IN ('visible', 'held', 'blocked')),
    verdict json,
    task_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When a held one is looked after next.
    look_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE INDEX IF NOT EXISTS comments_visible ON comments_app.comments (post_id, id) WHERE status = 'visible';
  CREATE INDEX IF NOT EXISTS comments_held ON comments_app.comments (look_at) WHERE status = 'held';`

export type NewComment = { id: string; postId: string; author: string; text: string }
export type Comment = NewComment & { createdAt: Date }
/** One that waits for a verdict or a person. */
export type Held = { id: string; postId: string; text: string; taskId: string | null; hasVerdict: boolean }

export type Store = ReturnType<typeof createStore>

const COMMENT = 'id, post_id AS "postId", author, text, created_at AS "createdAt"'
/** Above every id. */
const FIRST = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

export function createStore({ query }: Database) {
  return {
    async insert({ id, postId, author, text }: NewComment, { status, verdict, taskId }: Outcome): Promise<Comment> {
      const [row] = await query<Comment>(
        `INSERT INTO comments_app.comments (id, post_id, author, text, status, verdict, task_id)
           VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ${COMMENT}`,
        [id, postId, author, text, status, verdict && JSON.stringify(verdict), taskId],
      )
      return row!
    },

    /** Newest first. `after`: only those older than this one. */
    visible: (postId: string, { after, limit }: { after: string | null; limit: number }) =>
      query<Comment>(
        `SELECT ${COMMENT} FROM comments_app.comments
           WHERE post_id = $1 AND status = 'visible' AND id < $2 ORDER BY id DESC LIMIT $3`,
        [postId, after ?? FIRST, limit],
      ),

    /**
     * Held ones whose turn it is, for this process alone. Their next turn is after a tenth of their age, a minute at most:
     * what was held for a moment is soon settled, and what waits for a person costs little.
     */
    takeHeld: (limit: number) =>
      query<Held>(
        `UPDATE comments_app.comments SET look_at = now() + least((now() - created_at) / 10, interval '1 minute')
           WHERE id = ANY (ARRAY(
             SELECT id FROM comments_app.comments WHERE status = 'held' AND look_at <= now()
               ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED))
           RETURNING id, post_id AS "postId", text, task_id AS "taskId", verdict IS NOT NULL AS "hasVerdict"`,
        [limit],
      ),

    /** What has become of a held one. @returns whether it was still held */
    async settle(id: string, { status, verdict, taskId }: Outcome): Promise<boolean> {
      const rows = await query(
        `UPDATE comments_app.comments SET status = $2, verdict = coalesce($3, verdict), task_id = $4
           WHERE id = $1 AND status = 'held' RETURNING id`,
        [id, status, verdict && JSON.stringify(verdict), taskId],
      )
      return rows.length > 0
    },

    async countHeld(): Promise<number> {
      const [row] = await query<{ held: number }>(
        `SELECT count(*)::int AS held FROM comments_app.comments WHERE status = 'held'`,
      )
      return row!.held
    },
  }
}

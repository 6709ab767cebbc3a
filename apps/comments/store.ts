import pg from 'pg'
import type { Held, NewComment, Outcome } from './moderation.ts'

const SCHEMA = `
  SELECT pg_advisory_xact_lock(hashtext('comments_app'));
  CREATE SCHEMA IF NOT EXISTS comments_app;
  CREATE TABLE IF NOT EXISTS comments_app.comments (
    id uuid PRIMARY KEY, post_id text NOT NULL, author text NOT NULL, text text NOT NULL,
    status text NOT NULL CHECK (status IN ('visible', 'held', 'blocked')), verdict json, task_id text,
    created_at timestamptz NOT NULL DEFAULT now(), look_at timestamptz NOT NULL DEFAULT now());
  CREATE INDEX IF NOT EXISTS comments_visible ON comments_app.comments (post_id, id) WHERE status = 'visible';
  CREATE INDEX IF NOT EXISTS comments_held ON comments_app.comments (look_at) WHERE status = 'held';`

export type Comment = NewComment & { created_at: Date }
export type Store = Awaited<ReturnType<typeof openStore>>

/** Opens the database and creates the table. A failed query throws an error with the `statusCode` 503. */
export async function openStore(url: string) {
  const pool = new pg.Pool({ connectionString: url, connectionTimeoutMillis: 3000, query_timeout: 10_000 })
  // Without a listener, an idle connection that breaks would end the process.
  pool.on('error', () => {})
  async function query<R extends object>(text: string, values: unknown[] = []): Promise<R[]> {
    const { rows } = await pool.query<R>(text, values).catch(cause => {
      throw Object.assign(new Error('The database is unavailable.', { cause }), { statusCode: 503 })
    })
    return rows
  }
  await query(SCHEMA)
  const COMMENT = 'id, post_id, author, text, created_at'
  return {
    close: () => pool.end(),
    ping: () => query('SELECT 1'),
    insert: ({ id, post_id, author, text }: NewComment, { status, verdict, taskId }: Outcome) =>
      query<Comment>(
        `INSERT INTO comments_app.comments (id, post_id, author, text, status, verdict, task_id)
           VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ${COMMENT}`,
        [id, post_id, author, text, status, verdict, taskId],
      ),
    /** Visible comments older than the comment `after`, newest first. */
    list: (postId: string, after: string, limit: number) =>
      query<Comment>(
        `SELECT ${COMMENT} FROM comments_app.comments
           WHERE post_id = $1 AND status = 'visible' AND id < $2 ORDER BY id DESC LIMIT $3`,
        [postId, after, limit],
      ),
    /** Held comments that are due, each for one process; due again after a tenth of their age, at most a minute. */
    takeHeld: () =>
      query<Held>(
        `UPDATE comments_app.comments SET look_at = now() + least((now() - created_at) / 10, interval '1 minute')
           WHERE id IN (SELECT id FROM comments_app.comments WHERE status = 'held' AND look_at <= now()
             ORDER BY look_at LIMIT 20 FOR UPDATE SKIP LOCKED) RETURNING *`,
      ),
    /** @returns no row if the comment was not held any more */
    settle: (id: string, { status, verdict, taskId }: Outcome) =>
      query(
        `UPDATE comments_app.comments SET status = $2, verdict = coalesce($3, verdict), task_id = $4
           WHERE id = $1 AND status = 'held' RETURNING id`,
        [id, status, verdict, taskId],
      ),
  }
}

import type { Db } from './pool.ts'

export type Feedback = { task_id: string; score: number; note: string | null; given_by: string; at: Date }

const COLUMNS = 'task_id, score, note, given_by, at'

/** Rates the result of a task. Replaces the previous rating. */
export const putFeedback = async (db: Db, one: Omit<Feedback, 'at'>): Promise<Feedback> =>
  (
    await db.query<Feedback>(
      {
        name: 'feedback_put',
        text: `INSERT INTO feedback (task_id, score, note, given_by) VALUES ($1, $2, $3, $4)
          ON CONFLICT (task_id) DO UPDATE SET score = excluded.score, note = excluded.note, given_by = excluded.given_by, at = now()
          RETURNING ${COLUMNS}`,
      },
      [one.task_id, one.score, one.note, one.given_by],
    )
  )[0]!

export const readFeedback = async (db: Db, taskId: string): Promise<Feedback | null> =>
  (
    await db.query<Feedback>({ name: 'feedback_read', text: `SELECT ${COLUMNS} FROM feedback WHERE task_id = $1` }, [
      taskId,
    ])
  )[0] ?? null

import type { Db } from '../pool.ts'

/** Ids of live tasks whose deadline has passed. @returns at most `limit` */
export async function findOverdue(db: Db, limit: number): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    {
      name: 'tasks_overdue',
      text: `SELECT id FROM tasks WHERE status IN ('queued', 'running') AND deadline_at <= now() ORDER BY deadline_at LIMIT $1`,
    },
    [limit],
  )
  return rows.map(row => row.id)
}

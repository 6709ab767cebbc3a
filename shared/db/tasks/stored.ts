import type { Db } from '../pool.ts'

/** Tasks that a compatible surface serves under its own path (`store` of OpenAI's API). */

export type StoredTask = {
  id: string
  api_key_id: string
  input: unknown
  options: unknown
  metadata: Record<string, string> | null
  created_at: Date
}

const COLUMNS = 'id, api_key_id, input, options, metadata, created_at'

/** @returns null: no such task, or it was not stored, or deleted from its surface */
export async function readStoredTask(db: Db, id: string): Promise<StoredTask | null> {
  const [task] = await db.query<StoredTask>(
    { name: 'tasks_stored_one', text: `SELECT ${COLUMNS} FROM tasks WHERE id = $1 AND stored` },
    [id],
  )
  return task ?? null
}

/** @returns whether the task was stored until now */
export async function deleteStoredTask(db: Db, id: string): Promise<boolean> {
  const rows = await db.query(
    { name: 'tasks_stored_delete', text: 'UPDATE tasks SET stored = false WHERE id = $1 AND stored RETURNING id' },
    [id],
  )
  return rows.length > 0
}

/** Replaces the metadata of a stored task. */
export async function updateStoredTask(db: Db, id: string, metadata: Record<string, string> | null): Promise<void> {
  await db.query(
    { name: 'tasks_stored_update', text: 'UPDATE tasks SET metadata = $2::json WHERE id = $1 AND stored' },
    [id, metadata && JSON.stringify(metadata)],
  )
}

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

/** `metadata`: pairs that a task has, among others. `after`: the list begins behind this task. */
export type StoredFilter = {
  apiKeyId: string
  wire: string
  model: string | null
  metadata: Record<string, string>
  after: string | null
  order: 'asc' | 'desc'
  limit: number
}

const listStatement = (order: 'asc' | 'desc') => ({
  name: `tasks_stored_list_${order}`,
  text: `SELECT ${COLUMNS} FROM tasks t
    WHERE t.api_key_id = $1 AND t.stored AND t.status = 'succeeded' AND t.input->>'wire' = $2
      AND ($3::text IS NULL OR t.model = $3)
      AND NOT EXISTS (SELECT FROM json_each_text($4::json) AS w WHERE (t.metadata->>w.key) IS DISTINCT FROM w.value)
      AND ($5::uuid IS NULL OR t.id ${order === 'asc' ? '>' : '<'} $5)
    ORDER BY t.id ${order} LIMIT $6`,
})

/** Stored tasks that have succeeded, by age. */
export const listStoredTasks = (
  db: Db,
  { apiKeyId, wire, model, metadata, after, order, limit }: StoredFilter,
): Promise<StoredTask[]> =>
  db.query<StoredTask>(listStatement(order), [apiKeyId, wire, model, JSON.stringify(metadata), after, limit])

import type { Db } from './pool.ts'

/** SQL for the owner of the row that a cursor names. */
const OWNERS = {
  task: 'SELECT api_key_id FROM tasks WHERE id = $1',
  batch: 'SELECT api_key_id FROM batches WHERE id = $1',
  evt: 'SELECT api_key_id FROM webhook_deliveries WHERE id = $1',
  /** Only admin keys list reviews. */
  review: 'SELECT NULL::uuid AS api_key_id FROM reviews WHERE task_id = $1',
}
export type CursorKind = keyof typeof OWNERS

/** Whether the row of a cursor exists and belongs to the key. @param apiKeyId null: any key */
export async function isCursor(db: Db, kind: CursorKind, id: string, apiKeyId: string | null): Promise<boolean> {
  const rows = await db.query<{ api_key_id: string | null }>({ name: `cursors_${kind}`, text: OWNERS[kind] }, [id])
  return rows.some(row => apiKeyId === null || row.api_key_id === apiKeyId)
}

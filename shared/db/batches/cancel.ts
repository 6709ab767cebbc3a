import type { Db } from '../pool.ts'

const cancelStatement = {
  name: 'batches_cancel',
  text: `WITH b AS (
      UPDATE batches b SET status = 'cancelling', cancelling_at = now()
      WHERE b.id = $1 AND (b.status || '') IN ('validating', 'in_progress') RETURNING b.id
    )
    SELECT b.id IS NOT NULL OR o.status = 'cancelling' AS cancelled FROM batches o LEFT JOIN b ON true WHERE o.id = $1`,
}

/**
 * validating or in_progress -> cancelling. Lines that are running may finish; the others are cancelled. A batch whose lines have all
 * ended is not cancellable.
 */
export async function cancelBatch(db: Db, id: string): Promise<'cancelling' | 'not_cancellable' | 'not_found'> {
  const [row] = await db.query<{ cancelled: boolean }>(cancelStatement, [id])
  if (!row) return 'not_found'
  return row.cancelled ? 'cancelling' : 'not_cancellable'
}

import { coalesce } from '#shared/coalesce.ts'
import { type Db, itemsToBlame } from './pool.ts'
import type { TaskRow, TaskStatus } from './tasks.ts'

export type AttemptRow = {
  n: number
  provider: string
  model: string
  outcome: string
  error: { code: string; message: string } | null
  started_at: string
  finished_at: string | null
}

/** A task as a client sees it: with its attempts and their sums. `cost_usd` is null while any part is unknown. */
export type TaskView = Omit<TaskRow, 'input' | 'options'> & {
  stream: boolean
  input_tokens: number
  output_tokens: number
  cost_usd: string | null
  attempt_list: AttemptRow[]
}

const COLUMNS = `t.id, t.kind, t.status, t.queue, t.priority, t.api_key_id, t.metadata, t.epoch, t.attempts, t.tries,
  t.source, t.quality, t.provider, t.model, t.error, t.created_at, t.started_at, t.finished_at,
  coalesce(a.input_tokens, 0)::float8 AS input_tokens, coalesce(a.output_tokens, 0)::float8 AS output_tokens,
  CASE WHEN a.unpriced THEN NULL ELSE coalesce(a.cost_usd, 0) END AS cost_usd`
const SUMS = `sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
  bool_or(cost_usd IS NULL) AS unpriced`

const viewStatement = {
  name: 'views_by_id',
  text: `SELECT ${COLUMNS}, t.result, coalesce((t.options->>'stream')::boolean, false) AS stream, coalesce(a.list, '[]') AS attempt_list
    FROM unnest($1::uuid[]) AS i(id) JOIN tasks t USING (id) LEFT JOIN LATERAL (
      SELECT ${SUMS}, json_agg(json_build_object('n', n, 'provider', provider, 'model', model, 'outcome', outcome, 'error', error,
        'started_at', started_at, 'finished_at', finished_at) ORDER BY n) AS list
      FROM attempts WHERE task_id = t.id
    ) a ON true`,
}

/** Reads tasks as clients see them; reads that come together share a query. */
export function createViewer(db: Db): (id: string) => Promise<TaskView | null> {
  return coalesce<string, TaskView | null>({
    max: 200,
    concurrency: 2,
    itemsToBlame,
    flush: async ids => {
      const rows = await db.query<TaskView>(viewStatement, [[...new Set(ids)]])
      const byId = new Map(rows.map(row => [row.id, row]))
      return ids.map(id => byId.get(id) ?? null)
    },
  })
}

export type TaskSummary = Omit<TaskView, 'attempt_list' | 'result' | 'stream'>

/**
 * Newest first. `apiKeyId` null: of all keys. `after`: only tasks older than this one.
 * @returns at most `limit` rows
 */
export async function listTasks(
  db: Db,
  filter: { apiKeyId: string | null; status: string | null; kind: string | null; after: string | null; limit: number },
): Promise<TaskSummary[]> {
  // Built per combination: with `$1 IS NULL OR …` the one prepared plan could use no index.
  const values: unknown[] = [filter.limit]
  const conditions: string[] = []
  const where = (column: string, operator: string, value: unknown) => {
    if (value === null) return
    values.push(value)
    conditions.push(`${column} ${operator} $${values.length}`)
  }
  where('api_key_id', '=', filter.apiKeyId)
  where('status', '=', filter.status)
  where('kind', '=', filter.kind)
  where('id', '<', filter.after)
  const shape = conditions.map(condition => condition.split(' ')[0]).join('_')
  return db.query<TaskSummary>(
    {
      name: `views_list_${shape}`,
      text: `SELECT ${COLUMNS} FROM (
          SELECT * FROM tasks ${conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''} ORDER BY id DESC LIMIT $1
        ) t LEFT JOIN LATERAL (SELECT ${SUMS} FROM attempts WHERE task_id = t.id) a ON true ORDER BY t.id DESC`,
    },
    values,
  )
}

export type TaskState = { id: string; status: TaskStatus; attempts: number }

/** Reads the state of one task; reads that come together share a query. */
export const createStateReader = (db: Db): ((id: string) => Promise<TaskState | null>) =>
  coalesce({
    max: 500,
    itemsToBlame,
    flush: async ids => {
      const byId = new Map((await readStates(db, ids)).map(state => [state.id, state]))
      return ids.map(id => byId.get(id) ?? null)
    },
  })

/** The states of many tasks in one query, for those who wait. */
export const readStates = (db: Db, ids: string[]): Promise<TaskState[]> =>
  db.query<TaskState>(
    { name: 'views_states', text: 'SELECT id, status, attempts FROM tasks WHERE id = ANY($1::uuid[])' },
    [ids],
  )

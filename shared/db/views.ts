import { coalesce } from '#shared/coalesce.ts'
import { createLanes } from '#shared/lanes.ts'
import { type Db, itemsToBlame } from './pool.ts'
import { TASK_STATUSES, type TaskRow, type TaskStatus } from './tasks.ts'

export type AttemptRow = {
  n: number
  provider: string
  model: string
  outcome: string
  error: { code: string; message: string } | null
  /** null while it is under way. */
  cost_usd: string | null
  /** Nobody said what it cost: `cost_usd` is the most that it can have been. */
  estimated: boolean
  started_at: string
  finished_at: string | null
}

/** A task as a client sees it: with its attempts and their sums. `cost_usd` is null while any part is unknown. */
export type TaskView = Omit<TaskRow, 'input' | 'options'> & {
  prompt_version: string | null
  stream: boolean
  input_tokens: number
  output_tokens: number
  cost_usd: string | null
  attempt_list: AttemptRow[]
  /** What a person decided last, of a task that moderation left open; null: nobody has. */
  review: { decision: 'allow' | 'block'; decided_at: string } | null
}

const COLUMNS = `t.id, t.kind, t.status, t.queue, t.priority, t.api_key_id, t.metadata, t.epoch, t.attempts, t.tries,
  t.source, t.quality, t.provider, t.model, t.error, t.output_filtered, t.experiment, t.variant, t.options->>'prompt_version' AS prompt_version, t.created_at, t.started_at, t.finished_at,
  coalesce(a.input_tokens, 0)::float8 AS input_tokens, coalesce(a.output_tokens, 0)::float8 AS output_tokens,
  CASE WHEN a.unpriced THEN NULL ELSE coalesce(a.cost_usd, 0) END AS cost_usd`
const SUMS = `sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
  bool_or(cost_usd IS NULL) AS unpriced`

const viewStatement = {
  name: 'views_by_id',
  text: `SELECT ${COLUMNS}, CASE WHEN octet_length(t.result::text) <= $3 THEN t.result END AS result, octet_length(t.result::text) AS result_bytes, coalesce((t.options->>'stream')::boolean, false) AS stream, coalesce(a.list, '[]') AS attempt_list,
      CASE WHEN t.kind = ANY($2::text[]) THEN (
        SELECT json_build_object('decision', d.decision, 'decided_at', d.decided_at) FROM review_decisions d
        WHERE d.task_id = t.id ORDER BY d.task_id DESC, d.id DESC LIMIT 1
      ) END AS review
    FROM unnest($1::uuid[]) AS i(id) JOIN tasks t USING (id) LEFT JOIN LATERAL (
      SELECT ${SUMS}, json_agg(json_build_object('n', n, 'provider', provider, 'model', model, 'outcome', outcome, 'error', error, 'cost_usd', cost_usd::text, 'estimated', estimated,
        'started_at', started_at, 'finished_at', finished_at) ORDER BY n) AS list
      FROM attempts WHERE task_id = t.id
    ) a ON true`,
}

/** Bytes, as JSON, from which on a result is large. */
export const LARGE = 262_144

const resultStatement = { name: 'views_result', text: 'SELECT result FROM tasks WHERE id = $1' }

export type ViewOptions = {
  /** The kinds that people may decide on. */
  reviewed?: string[]
  /** Bytes, as JSON, from which on a result is read by itself: two hundred of them would not fit into a process. */
  large?: number
  /** How one is read. */
  readLarge?: <T>(read: () => Promise<T>) => Promise<T>
}

/** Reads tasks as clients see them; reads that come together share a query. */
export function createViewer(
  db: Db,
  { reviewed = [], large = LARGE, readLarge = read => read() }: ViewOptions = {},
): (id: string) => Promise<TaskView | null> {
  const readMost = coalesce<string, (TaskView & { result_bytes: number | null }) | null>({
    max: 200,
    concurrency: 2,
    itemsToBlame,
    flush: async ids => {
      const unique = [...new Set(ids)]
      const rows = await db.query<TaskView & { result_bytes: number | null }>(viewStatement, [unique, reviewed, large])
      const byId = new Map(rows.map(row => [row.id, row]))
      return ids.map(id => byId.get(id) ?? null)
    },
  })
  return async id => {
    const row = await readMost(id)
    if (!row) return null
    const { result_bytes, ...view } = row
    if (result_bytes === null || result_bytes <= large) return view
    const [found] = await readLarge(() => db.query<{ result: unknown }>(resultStatement, [id]))
    return { ...view, result: found?.result ?? null }
  }
}

/** What a task was given, as it is stored; undefined: there is no such task. */
export const readInput = async (db: Db, id: string): Promise<unknown> =>
  (await db.query<{ input: unknown }>({ name: 'views_input', text: 'SELECT input FROM tasks WHERE id = $1' }, [id]))[0]
    ?.input

export type TaskSummary = Omit<TaskView, 'attempt_list' | 'result' | 'review' | 'stream'>

/** `apiKeyId` null: of all keys. `after`: only tasks older than this one. */
export type TaskFilter = {
  apiKeyId: string | null
  status: string | null
  kind: string | null
  after: string | null
  limit: number
}

/**
 * Lists tasks, two lists at a time: a filter that fits few tasks may read a key's whole history, and must leave
 * connections to those who accept and wait.
 * @returns as `listTasks`; null: too many lists are wanted, and this one was not begun
 */
export function createLister(db: Db): (filter: TaskFilter) => Promise<TaskSummary[] | null> {
  const lanes = createLanes({ atOnce: 2, waiting: 50, waitMs: 5000 })
  return filter => lanes(() => listTasks(db, filter))
}

/**
 * Newest first.
 * @returns at most `limit` rows
 */
export async function listTasks(db: Db, filter: TaskFilter): Promise<TaskSummary[]> {
  // Built per combination: with `$1 IS NULL OR …` the one prepared plan could use no index.
  const values: unknown[] = [filter.limit]
  const param = (value: unknown) => `$${values.push(value)}`
  const conditions = [
    filter.kind !== null && `kind = ${param(filter.kind)}`,
    filter.after !== null && `id < ${param(filter.after)}`,
  ].filter(condition => condition !== false)
  const newest = (where: string[]) =>
    `SELECT * FROM tasks ${where.length > 0 ? `WHERE ${where.join(' AND ')}` : ''} ORDER BY id DESC LIMIT $1`

  // The index is by key, status and id: the newest are the newest of the newest of each.
  const statuses = filter.status === null ? TASK_STATUSES : [filter.status]
  const of = (key: string) => [`api_key_id = ${key}`, 'status = s.status', ...conditions]
  let rows: string
  if (filter.apiKeyId !== null) {
    rows = `SELECT t.* FROM unnest(${param(statuses)}::text[]) AS s(status), LATERAL (${newest(of(param(filter.apiKeyId)))}) t`
  } else if (filter.status !== null) {
    rows = `SELECT t.* FROM api_keys k, unnest(${param(statuses)}::text[]) AS s(status), LATERAL (${newest(of('k.id'))}) t`
  } else {
    rows = newest(conditions)
  }
  const shape = Object.entries(filter).flatMap(([name, value]) => (value === null ? [] : [name]))
  return db.query<TaskSummary>(
    {
      name: `views_list_${shape.join('_')}`,
      text: `SELECT ${COLUMNS} FROM (SELECT * FROM (${rows}) u ORDER BY id DESC LIMIT $1) t
        LEFT JOIN LATERAL (SELECT ${SUMS} FROM attempts WHERE task_id = t.id) a ON true ORDER BY t.id DESC`,
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

import { coalesce } from '#shared/concurrency/coalesce.ts'
import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { type Db, splitOnError } from '../pool.ts'
import { TASK_STATUSES, type TaskRow, type TaskStatus } from './row.ts'

export type AttemptRow = {
  n: number
  provider: string
  model: string
  outcome: string
  finish_reason: FinishReason | null
  error: { code: string; message: string } | null
  /** null while the call is in flight. */
  cost_usd: string | null
  /** The real cost is unknown: `cost_usd` is its upper bound. */
  estimated: boolean
  started_at: string
  finished_at: string | null
}

/** A task with its attempts and their sums, as returned to clients. `cost_usd` is null while the cost of an attempt is unknown. */
export type TaskView = Omit<TaskRow, 'input' | 'options'> & {
  prompt_version: string | null
  stream: boolean
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  reasoning_tokens: number
  cost_usd: string | null
  attempt_list: AttemptRow[]
  /** The last decision of a human review; null: none. */
  review: { decision: 'allow' | 'block'; decided_at: string } | null
}

const COLUMNS = `t.id, t.kind, t.status, t.queue, t.priority, t.api_key_id, t.metadata, t.epoch, t.attempts, t.tries,
  t.source, t.quality, t.provider, t.model, t.error, t.finish_reason, t.output_filtered,
  t.experiment, t.variant, t.options->>'prompt_version' AS prompt_version, t.created_at, t.started_at, t.finished_at,
  coalesce(a.input_tokens, 0)::float8 AS input_tokens, coalesce(a.output_tokens, 0)::float8 AS output_tokens,
  coalesce(a.cache_read_tokens, 0)::float8 AS cache_read_tokens, coalesce(a.cache_write_tokens, 0)::float8 AS cache_write_tokens,
  coalesce(a.reasoning_tokens, 0)::float8 AS reasoning_tokens,
  CASE WHEN a.unpriced THEN NULL ELSE coalesce(a.cost_usd, 0) END AS cost_usd`
const SUMS = `sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens,
  sum(cache_write_tokens) AS cache_write_tokens, sum(reasoning_tokens) AS reasoning_tokens, sum(cost_usd) AS cost_usd,
  bool_or(cost_usd IS NULL) AS unpriced`

const viewStatement = {
  name: 'tasks_view',
  text: `SELECT ${COLUMNS}, CASE WHEN octet_length(t.result::text) <= $3 THEN t.result END AS result,
      octet_length(t.result::text) AS result_bytes, coalesce((t.options->>'stream')::boolean, false) AS stream,
      coalesce(a.list, '[]') AS attempt_list,
      CASE WHEN t.kind = ANY($2::text[]) THEN (
        SELECT json_build_object('decision', d.decision, 'decided_at', d.decided_at) FROM review_decisions d
        WHERE d.task_id = t.id ORDER BY d.task_id DESC, d.id DESC LIMIT 1
      ) END AS review
    FROM unnest($1::uuid[]) AS i(id) JOIN tasks t USING (id) LEFT JOIN LATERAL (
      SELECT ${SUMS}, json_agg(json_build_object('n', n, 'provider', provider, 'model', model, 'outcome', outcome,
        'finish_reason', finish_reason, 'error', error, 'cost_usd', cost_usd::text, 'estimated', estimated,
        'started_at', started_at, 'finished_at', finished_at) ORDER BY n) AS list
      FROM attempts WHERE task_id = t.id
    ) a ON true`,
}

/** Results of more bytes, as JSON text, are read one by one: two hundred of them would not fit into memory. */
export const LARGE_RESULT_BYTES = 262_144

const resultStatement = { name: 'tasks_result', text: 'SELECT result FROM tasks WHERE id = $1' }

export type TaskReaderOptions = {
  /** Kinds whose results a person may review. */
  reviewed?: string[]
  large?: number
  /** Runs the read of one large result. */
  readLarge?: <T>(read: () => Promise<T>) => Promise<T>
}

/** Reads tasks. Concurrent reads share a query. @returns null: no such task */
export function createTaskReader(
  db: Db,
  { reviewed = [], large = LARGE_RESULT_BYTES, readLarge = read => read() }: TaskReaderOptions = {},
): (id: string) => Promise<TaskView | null> {
  const readSmall = coalesce<string, (TaskView & { result_bytes: number | null }) | null>({
    max: 200,
    concurrency: 2,
    splitOnError,
    flush: async ids => {
      const unique = [...new Set(ids)]
      const rows = await db.query<TaskView & { result_bytes: number | null }>(viewStatement, [unique, reviewed, large])
      const byId = new Map(rows.map(row => [row.id, row]))
      return ids.map(id => byId.get(id) ?? null)
    },
  })
  return async id => {
    const row = await readSmall(id)
    if (!row) return null
    const { result_bytes, ...view } = row
    if (result_bytes === null || result_bytes <= large) return view
    const [found] = await readLarge(() => db.query<{ result: unknown }>(resultStatement, [id]))
    return { ...view, result: found?.result ?? null }
  }
}

/** The stored input of a task; undefined: no such task. */
export const readTaskInput = async (db: Db, id: string): Promise<unknown> =>
  (await db.query<{ input: unknown }>({ name: 'tasks_input', text: 'SELECT input FROM tasks WHERE id = $1' }, [id]))[0]
    ?.input

export type TaskSummary = Omit<TaskView, 'attempt_list' | 'result' | 'review' | 'stream'>

/** null: no filter. `after`: only tasks older than this one. */
export type TaskFilter = {
  apiKeyId: string | null
  status: string | null
  kind: string | null
  after: string | null
  limit: number
}

/**
 * Lists tasks, newest first. Two lists run at a time, because a filter with few matches may read the whole history of a key, and other
 * requests need connections too.
 * @returns at most `limit` rows; null: too many lists are waiting
 */
export function createTaskLister(db: Db): (filter: TaskFilter) => Promise<TaskSummary[] | null> {
  const semaphore = createSemaphore({ atOnce: 2, waiting: 50, waitMs: 5000 })
  return filter => semaphore(() => listTasks(db, filter))
}

async function listTasks(db: Db, filter: TaskFilter): Promise<TaskSummary[]> {
  // One statement per combination of filters: with `$1 IS NULL OR …` the single prepared plan could not use an index.
  const values: unknown[] = [filter.limit]
  const param = (value: unknown) => `$${values.push(value)}`
  const conditions = [
    filter.kind !== null && `kind = ${param(filter.kind)}`,
    filter.after !== null && `id < ${param(filter.after)}`,
  ].filter(condition => condition !== false)
  const newest = (where: string[]) =>
    `SELECT * FROM tasks ${where.length > 0 ? `WHERE ${where.join(' AND ')}` : ''} ORDER BY id DESC LIMIT $1`

  // The index is by key, status and id, so the newest tasks are merged from the newest of each status.
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
      name: `tasks_list_${shape.join('_')}`,
      text: `SELECT ${COLUMNS} FROM (SELECT * FROM (${rows}) u ORDER BY id DESC LIMIT $1) t
        LEFT JOIN LATERAL (SELECT ${SUMS} FROM attempts WHERE task_id = t.id) a ON true ORDER BY t.id DESC`,
    },
    values,
  )
}

export type TaskState = { id: string; status: TaskStatus; attempts: number }

/** Reads the state of a task. Concurrent reads share a query. @returns null: no such task */
export const createStateReader = (db: Db): ((id: string) => Promise<TaskState | null>) =>
  coalesce({
    max: 500,
    splitOnError,
    flush: async ids => {
      const byId = new Map((await readStates(db, ids)).map(state => [state.id, state]))
      return ids.map(id => byId.get(id) ?? null)
    },
  })

/** The states of many tasks in one query, in no order. Unknown ids are left out. */
export const readStates = (db: Db, ids: string[]): Promise<TaskState[]> =>
  db.query<TaskState>(
    { name: 'tasks_states', text: 'SELECT id, status, attempts FROM tasks WHERE id = ANY($1::uuid[])' },
    [ids],
  )

import type { ProviderName } from './plan.ts'
import type { Sql } from './servers.ts'
import type { LoggedCall } from './upstream.ts'

/** Compares the ledger with the upstream, call by call. */

export type AttemptRow = {
  task_id: string
  n: number
  worker_id: string
  provider: ProviderName
  outcome: string
  /** Milliseconds since 1970. */
  started_ms: number
  finished_ms: number | null
  cost_usd: string | null
  reserved_usd: string
  over_reserved: boolean
  estimated: boolean
  settlements: number
  input_tokens: number | null
  output_tokens: number | null
}

export const readAttempts = (sql: Sql) =>
  sql<AttemptRow>(
    `SELECT task_id, n, worker_id, provider, outcome, extract(epoch FROM started_at)::float8 * 1000 AS started_ms,
      extract(epoch FROM finished_at)::float8 * 1000 AS finished_ms, cost_usd, reserved_usd, estimated, settlements,
      coalesce(cost_usd > reserved_usd, false) AS over_reserved, input_tokens::float8 AS input_tokens,
      output_tokens::float8 AS output_tokens
    FROM attempts ORDER BY started_at, task_id, n`,
  )

export type Pair = { call: LoggedCall; attempt: AttemptRow }
export type Matched = {
  pairs: Pair[]
  /** Calls without a row in the ledger: must be none. */
  unwritten: LoggedCall[]
  /** Rows without a call, although their outcome requires one: must be none. */
  uncalled: AttemptRow[]
  /** Rows of calls that may never have been sent, because the process died or gave up first. */
  perhaps: AttemptRow[]
  /** Pairs with other tokens in the ledger than the upstream reported. */
  miscounted: Pair[]
}

/** Outcomes that require a response of the provider, and whether a call had that response. */
const ANSWERED: Record<string, (call: LoggedCall) => boolean> = {
  succeeded: call => call.end === 'answered',
  rejected: call => call.end === 'answered',
  rate_limited: call => call.status === 429,
  server_error: call => call.status === 500,
  overloaded: call => call.status === 529,
  bad_response: () => true,
}
/** Postgres writes the time at which the transaction began, and this process reads its clock a little after a call arrives. */
const SLACK_MS = 100

/**
 * Pairs each call with its row: same task, provider and process, written before the call arrived, with an outcome that fits
 * the answer of the upstream.
 * @param lateMs the longest stall of the upstream, in which a caller may have timed out and settled the row before the
 *   upstream noticed the call
 */
export function matchCalls(
  calls: LoggedCall[],
  attempts: AttemptRow[],
  markerOf: (taskId: string) => string | undefined,
  workerOf: (caller: string) => string | null,
  lateMs = 0,
): Matched {
  const left = Map.groupBy(attempts, attempt => markerOf(attempt.task_id) ?? '')
  const pairs: Pair[] = []
  const unwritten: LoggedCall[] = []
  for (const call of calls.toSorted((a, b) => a.at - b.at)) {
    const rows = left.get(call.marker) ?? []
    const worker = workerOf(call.caller)
    const fitting = rows.filter(row => (worker === null || row.worker_id === worker) && fits(call, row, lateMs))
    // Calls of one process for identical tasks at the same moment differ only in their answers.
    const counted = fitting.find(row => row.outcome === 'succeeded' && !miscounted({ call, attempt: row }))
    const attempt = counted ?? fitting.find(row => row.outcome in ANSWERED) ?? fitting[0]
    if (!attempt) {
      unwritten.push(call)
      continue
    }
    rows.splice(rows.indexOf(attempt), 1)
    pairs.push({ call, attempt })
  }
  const rest = [...left.values()].flat()
  return {
    pairs,
    unwritten,
    uncalled: rest.filter(row => row.outcome in ANSWERED),
    perhaps: rest.filter(row => !(row.outcome in ANSWERED)),
    miscounted: pairs.filter(miscounted),
  }
}

function fits(call: LoggedCall, row: AttemptRow, lateMs: number): boolean {
  if (row.provider !== call.provider || row.started_ms > call.at + SLACK_MS) return false
  // A process that was frozen may still make a call that the sweeper has already settled as `unknown`.
  const open = row.finished_ms === null || row.outcome === 'unknown' || row.finished_ms > call.at - SLACK_MS - lateMs
  return open && (ANSWERED[row.outcome]?.(call) ?? true)
}

function miscounted({ call, attempt }: Pair): boolean {
  if (attempt.outcome !== 'succeeded') return false
  if (call.usage === null) return !attempt.estimated
  return attempt.input_tokens !== call.usage.inputTokens || attempt.output_tokens !== call.usage.outputTokens
}

/** Failures after which a call is repeated by design, although the provider may have billed it. */
const BY_DESIGN = new Set(['connection', 'timeout', 'bad_response', 'rejected'])

export type PaidTwice = {
  /** Calls that the provider may have billed beyond one per task. */
  calls: number
  /** Those among them with a complete answer. */
  answered: number
  byDesign: number
}

export function paidTwice(pairs: Pair[]): PaidTwice {
  const billable = pairs.filter(({ call }) => call.end !== 'refused')
  const beyondOne = (some: Pair[]) =>
    [...Map.groupBy(some, pair => pair.attempt.task_id).values()].reduce((sum, list) => sum + list.length - 1, 0)
  return {
    calls: beyondOne(billable),
    answered: beyondOne(billable.filter(({ call }) => call.end === 'answered')),
    byDesign: billable.filter(({ attempt }) => BY_DESIGN.has(attempt.outcome)).length,
  }
}

/** Calls that were in flight by the ledger, in one process (`null`: in any). */
export const inFlight = (attempts: AttemptRow[], at: number, worker: string | null): number =>
  attempts.filter(
    row =>
      (worker === null || row.worker_id === worker) &&
      row.started_ms <= at &&
      (row.finished_ms === null || row.finished_ms > at),
  ).length

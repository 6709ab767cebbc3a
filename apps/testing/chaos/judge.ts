import { fromWire } from '#shared/ids.ts'
import type { Note } from './clients.ts'
import type { Injected } from './faults.ts'
import type { Fleet } from './fleet.ts'
import { type AttemptRow, inFlight, matchCalls, paidTwice, readAttempts } from './ledger.ts'
import { mostAtOnce, mostInAMinute } from './load.ts'
import { type Plan, PROVIDERS } from './plan.ts'
import type { Sql } from './servers.ts'
import { type GateSample, type Second, timelineOf } from './timeline.ts'
import type { LoggedCall } from './upstream.ts'

export type Row = {
  what: string
  value: number | string
  /** null: for information only. */
  wanted: string | null
  ok: boolean
}
/** `evidence`: examples of violations, by row. */
export type Judgement = { rows: Row[]; ok: boolean; evidence: Record<string, unknown[]>; timeline: Second[] }

export type Witnessed = {
  plan: Plan
  /** Start of the run, milliseconds since 1970. */
  from: number
  notes: Note[]
  calls: LoggedCall[]
  injected: Injected[]
  gates: GateSample[]
  fleet: Pick<Fleet, 'slots' | 'deaths'>
  sql: Sql
  /** The longest stall of this process, which runs the upstreams and the clients. */
  lateMs: number
}

type TaskRow = {
  id: string
  status: string
  source: string | null
  finished_at: Date | null
  result: unknown
  error: { code: string; message: string } | null
  index: number
}
type WindowRow = { id: number; reserved: string; spent: string; ledger: string; over: string; fine: boolean }

/** The provider whose call limit must be reached, and the share of the limit. */
const REACHED = 'anthropic'
const REACHED_RATIO = 0.8
const EVIDENCE = 10
const isLive = (status: string) => status === 'queued' || status === 'running'

/** Compares the records of Postgres, the upstreams and the clients. Call it after all processes have ended. */
export async function judge({
  plan,
  from,
  notes,
  calls,
  injected,
  gates,
  fleet,
  sql,
  lateMs,
}: Witnessed): Promise<Judgement> {
  const tasks = await sql<TaskRow>(
    `SELECT id, status, source, finished_at, result, error, (metadata->>'chaos')::int AS index FROM tasks`,
  )
  const attempts = await readAttempts(sql)
  const windows = await sql<WindowRow>(
    `SELECT w.id::float8 AS id, w.reserved_usd AS reserved, w.spent_usd AS spent, l.usd AS ledger,
      w.reserved_usd + w.spent_usd - w.limit_usd AS over, w.reserved_usd = 0 AND w.spent_usd = l.usd AS fine
    FROM budget_windows w CROSS JOIN LATERAL (
      SELECT coalesce(sum(a.cost_usd), 0) AS usd FROM attempts a WHERE w.id = ANY (a.windows)
    ) l ORDER BY w.id`,
  )
  const changed = await sql('SELECT * FROM chaos.changed')
  const overshot = await sql<{ usd: string }>('SELECT * FROM chaos.overshot ORDER BY usd DESC')

  const byId = new Map(tasks.map(task => [task.id, task]))
  const planOf = new Map(plan.tasks.map(task => [task.index, task]))
  const markerOf = (taskId: string) => planOf.get(byId.get(taskId)?.index ?? -1)?.marker
  const lives = fleet.slots.flatMap(slot => slot.lives)
  const workers = new Map(lives.map(life => [life.caller, life.workerId]))
  const workerOf = (caller: string) => workers.get(caller) ?? null

  const accepted = notes.filter(note => note.taskId !== null)
  const rowOf = (note: Note) => byId.get(fromWire('task', note.taskId!)!)
  const lost = accepted.filter(note => isLive(rowOf(note)?.status ?? 'queued'))
  const contradicted = accepted.filter(note => note.changed || (note.seen && !isSame(note.seen, rowOf(note))))
  const twice = [...Map.groupBy(tasks, task => task.index).values()].filter(list => list.length > 1)
  const succeededTwice = succeededTwiceOf(attempts)
  const matched = matchCalls(calls, attempts, markerOf, workerOf, lateMs)
  const paid = paidTwice(matched.pairs)
  const under = injected.reduce((sum, one) => {
    if (one.caller === null || one.kind === 'api') return sum
    const worker = one.caller === '*' ? null : (workerOf(one.caller) ?? 'unknown')
    return sum + inFlight(attempts, one.at, worker)
  }, 0)

  const rows: Row[] = []
  const evidence: Record<string, unknown[]> = {}
  const report = (what: string, value: number | string) => rows.push({ what, value, wanted: null, ok: true })
  const must = (what: string, value: number | string, wanted: string, ok: boolean, proof: unknown[] = []) => {
    rows.push({ what, value, wanted, ok })
    if (!ok && proof.length > 0) evidence[what] = proof.slice(0, EVIDENCE)
  }
  const none = (what: string, list: unknown[]) => must(what, list.length, '0', list.length === 0, list)

  report('submitted', notes.length)
  report('accepted (200 or 202)', accepted.length)
  report('terminal', accepted.length - lost.length)
  report(
    'outcomes',
    countsOf(tasks, task => `${task.status}${task.source ? ` (${task.source})` : ''}`),
  )
  report(
    'error messages',
    countsOf(
      tasks.filter(task => task.error),
      task => task.error!.message.replace(/\d+/g, 'N'),
    ),
  )
  report(
    'error codes, by key',
    countsOf(
      tasks.filter(task => task.error),
      task => `${task.error!.code} (${planOf.get(task.index)?.key})`,
    ),
  )
  report(
    'calls',
    countsOf(calls, call => `${call.provider} ${call.end ?? 'open'}`),
  )
  report(
    'attempts',
    countsOf(attempts, attempt => attempt.outcome),
  )
  none('lost', lost)
  none(
    'tasks that have not ended',
    tasks.filter(task => isLive(task.status)),
  )
  none('created twice (one Idempotency-Key, two tasks)', twice)
  none('finished twice: a task changed after its end', changed)
  none('finished twice: a client saw another outcome', contradicted)
  none('finished twice: two answers settled', succeededTwice)
  must(
    'paid twice (billable calls beyond one per task)',
    `${paid.calls}, ${paid.answered} of them with a complete answer`,
    `<= ${under} in flight at the faults + ${paid.byDesign} retried by design`,
    paid.calls <= under + paid.byDesign,
  )
  none('ledger: calls without a row', matched.unwritten)
  none('ledger: rows without a call', matched.uncalled)
  none('ledger: tokens differ from the reported ones', matched.miscounted)
  report(
    'ledger: rows of calls that may not have been sent',
    countsOf(matched.perhaps, row => row.outcome),
  )
  none(
    'ledger: unsettled rows',
    attempts.filter(row => row.outcome === 'started'),
  )
  must('budget overshoot', `$${Number(overshot[0]?.usd ?? 0)}`, '$0', overshot.length === 0, overshot)
  none(
    'budget: a reservation remains, or the spending differs from the ledger',
    windows.filter(one => !one.fine),
  )
  none(
    'budget: settled above the reservation',
    attempts.filter(row => row.over_reserved),
  )
  const metric = lives.reduce((sum, life) => sum + life.aboveReservation, 0)
  must('sluice_settled_above_reservation_total', metric, '0', metric === 0)
  for (const provider of PROVIDERS) {
    const providerCalls = calls.filter(call => call.provider === provider)
    const { rpm, tpm, concurrency } = plan.limits[provider]
    const most = (what: string, value: number, limit: number) =>
      must(`limit: ${provider}, ${what}`, value, `<= ${limit}`, value <= limit)
    const perMinute = mostInAMinute(providerCalls, () => 1)
    most('calls in a minute', perMinute, rpm)
    if (provider === REACHED) {
      const least = Math.floor(rpm * REACHED_RATIO)
      must(
        `limit: ${provider}, calls in a minute near the limit (otherwise the run proves nothing)`,
        perMinute,
        `>= ${least}`,
        perMinute >= least,
      )
    }
    most(
      'tokens in a minute',
      mostInAMinute(providerCalls, call => call.tokens),
      tpm,
    )
    most('calls at once', mostAtOnce(providerCalls), concurrency)
  }
  none('processes that died by themselves', fleet.deaths)
  return { rows, ok: rows.every(row => row.ok), evidence, timeline: timelineOf(from, calls, tasks, injected, gates) }
}

/** Tasks with two answers that were settled in time. A late answer to a call that was settled as lost does not count. */
function succeededTwiceOf(attempts: AttemptRow[]): string[] {
  const inTime = attempts.filter(row => row.outcome === 'succeeded' && row.settlements === 1)
  const byTask = Map.groupBy(inTime, row => row.task_id)
  return [...byTask].filter(([, list]) => list.length > 1).map(([id]) => id)
}

function isSame(seen: NonNullable<Note['seen']>, row: TaskRow | undefined): boolean {
  if (!row) return false
  const { status, source, finishedAt, result } = seen
  return (
    status === row.status &&
    source === row.source &&
    finishedAt === row.finished_at?.toISOString() &&
    result === JSON.stringify(row.result)
  )
}

function countsOf<T>(list: T[], nameOf: (one: T) => string): string {
  const counts = [...Map.groupBy(list, nameOf)].map(([name, some]) => [name, some.length] as const)
  return (
    counts
      .toSorted((a, b) => b[1] - a[1])
      .map(([name, count]) => `${count} ${name}`)
      .join(', ') || '0'
  )
}

import { coalesce } from '#shared/concurrency/coalesce.ts'
import { type Db, splitOnError } from '../pool.ts'
import { DEADLINE, type SerializedTask, SUBMITTED, SUBMITTED_COLUMNS } from '../tasks/new-task.ts'
import {
  ADMITTED,
  admission,
  type ClaimOutcome,
  type ClaimRequest,
  createAdmission,
  inOrder,
  MAX_CLAIMS,
  OUTCOMES,
  type OutcomeRow,
  RESERVED,
  requestColumns,
  requests,
  startAttempts,
} from './admission.ts'

/** A task that is not in the table yet, and its first claim. */
export type NewClaim = ClaimRequest & { task: SerializedTask }

const columns = requestColumns<NewClaim>(
  [...SUBMITTED_COLUMNS, DEADLINE].map(([name, type, value]) => [name, type, one => value(one.task)] as const),
)

/** $1 is the id of the claiming process. */
const claimNewStatement = {
  name: 'tasks_claim_new',
  text: `WITH ${requests(columns, 2)}, ${admission('$1')}, inserted AS (
      INSERT INTO tasks (${SUBMITTED}, run_at, dispatched_at, deadline_at, created_at, started_at, status, worker_id, claims, attempts)
      SELECT ${SUBMITTED}, now(), now(), now() + make_interval(secs => deadline_seconds), now(), now(), 'running', $1, 1, i.n
      FROM i WHERE ${ADMITTED}
      ON CONFLICT (id) DO NOTHING
      RETURNING id
    ), claimed AS (
      SELECT i.ord FROM i JOIN inserted USING (id)
    ), ${startAttempts('$1')}, booked AS (
      UPDATE budget_windows w SET reserved_usd = w.reserved_usd + r.usd
      FROM (SELECT id, sum(reserved_usd) AS usd FROM (${RESERVED}) r GROUP BY id) r WHERE w.id = r.id
    )
    ${OUTCOMES}`,
}

/**
 * Inserts tasks as `running` with the claim of `workerId`, the reservation of their first call and its `started` attempt. A refused
 * task is not inserted.
 * @throws DatabaseUnavailable: the task may have been inserted
 */
export const createNewClaimer = (db: Db, workerId: string): ((request: NewClaim) => Promise<ClaimOutcome>) =>
  createAdmission(
    db,
    coalesce<NewClaim, OutcomeRow>({
      max: MAX_CLAIMS,
      maxWeight: 4_000_000,
      weigh: one => one.task.input.length,
      splitOnError,
      flush: async items =>
        inOrder(items, await db.query<OutcomeRow>(claimNewStatement, [workerId, ...columns.values(items)])),
    }),
  )

import { coalesce, linger } from '#shared/concurrency/coalesce.ts'
import { type Db, splitOnError } from '../pool.ts'
import { STATUS } from '../tasks/row.ts'
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

const columns = requestColumns<ClaimRequest>()

/** $1 is the id of the claiming process. */
const claimStatement = {
  name: 'tasks_claim',
  text: `WITH ${requests(columns, 2)}, ${admission('$1')}, claimed AS (
      UPDATE tasks t SET status = 'running', worker_id = $1, claims = t.claims + (t.status = 'queued')::int, attempts = i.n,
        started_at = coalesce(t.started_at, now())
      FROM i WHERE t.id = i.id AND t.epoch = i.epoch AND t.deadline_at > now()
        AND (${STATUS} = 'queued' AND t.attempts = i.n - 1 OR ${STATUS} = 'running' AND t.worker_id = $1 AND t.attempts = i.n)
        AND ${ADMITTED}
      RETURNING i.ord
    ), ${startAttempts('$1')}, booked AS (
      UPDATE budget_windows w SET reserved_usd = w.reserved_usd + r.usd
      FROM (SELECT id, sum(reserved_usd) AS usd FROM (${RESERVED}) r GROUP BY id) r WHERE w.id = r.id
    )
    ${OUTCOMES}`,
}

/**
 * Claims queued tasks for `workerId`, reserves the cost of their calls and writes the `started` attempt of each.
 * @throws DatabaseUnavailable
 */
export const createClaimer = (
  db: Db,
  workerId: string,
  lingerMs = 0,
): ((request: ClaimRequest) => Promise<ClaimOutcome>) =>
  createAdmission(
    db,
    coalesce<ClaimRequest, OutcomeRow>({
      max: MAX_CLAIMS,
      ...linger(lingerMs),
      splitOnError,
      flush: async items =>
        inOrder(items, await db.query<OutcomeRow>(claimStatement, [workerId, ...columns.values(items)])),
    }),
  )

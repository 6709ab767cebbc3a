import { coalesce } from '#shared/concurrency/coalesce.ts'
import { bookSettled, type Settlement, settleAttempts, settlementValues } from '../attempts.ts'
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

/** `settlement` null: the previous attempt is settled already, by a refused request. */
export type NextRequest = ClaimRequest & { tries: number; settlement: Settlement | null }

const columns = requestColumns<NextRequest>([['tries', 'int', one => one.tries]])

/** $1 is the id of the claiming process. */
const nextStatement = {
  name: 'tasks_next_attempt',
  text: `WITH ${requests(columns, 2)}, ${settleAttempts(2 + columns.count)}, ${admission('$1', 'settled')}, claimed AS (
      UPDATE tasks t SET attempts = i.n, tries = i.tries, claims = 1
      FROM i, (SELECT count(*) FROM settled) before
      WHERE t.id = i.id AND t.epoch = i.epoch AND ${STATUS} = 'running' AND t.worker_id = $1
        AND t.attempts IN (i.n - 1, i.n) AND ${ADMITTED}
      RETURNING i.ord
    ), ${startAttempts('$1')}, ${bookSettled(RESERVED)}
    ${OUTCOMES}`,
}

/**
 * Settles the failed attempt and starts the next one under the same claim, in one transaction. A refusal keeps the claim and
 * settles the previous attempt.
 */
export const createNextAttempt = (db: Db, workerId: string): ((request: NextRequest) => Promise<ClaimOutcome>) =>
  createAdmission(
    db,
    coalesce<NextRequest, OutcomeRow>({
      max: MAX_CLAIMS,
      splitOnError,
      flush: async items =>
        inOrder(
          items,
          await db.query<OutcomeRow>(nextStatement, [workerId, ...columns.values(items), ...settlementValues(items)]),
        ),
    }),
  )

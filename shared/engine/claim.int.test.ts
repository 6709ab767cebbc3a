import { describe, expect, it } from 'vitest'
import { listBudgets, putBudget } from '#shared/db/budgets.ts'
import { abandonAttempt } from '#shared/db/claims/abandon.ts'
import { createRequeuer } from '#shared/db/claims/requeue.ts'
import { DatabaseUnavailable, type Db } from '#shared/db/pool.ts'
import { createFinisher } from '#shared/db/tasks/finish.ts'
import { createInserter } from '#shared/db/tasks/insert.ts'
import { ask, fileDatabase, newBeat, newReservation, newTask, settlement } from '#shared/testing/postgres.ts'
import { createClaimStage } from './claim.ts'
import { createClaimRegistry } from './claim-registry.ts'

const database = fileDatabase()

/** A task and a worker. The answer of Postgres to `statement` is lost, then `meanwhile` happens. */
async function scene(statement: string, meanwhile: (id: string) => Promise<unknown>) {
  const [db] = database.dbs
  const task = newTask({ deadlineSeconds: 60 })
  await createInserter(db)(task)
  await putBudget(db, { scope: 'global', window: 'total', limitUsd: '10' })
  let lost = false
  const lossy: Db = {
    ...db,
    async query(asked, values) {
      const rows = await db.query(asked, values)
      if (lost || asked.name !== statement) return rows as never
      lost = true
      await meanwhile(task.id)
      throw new DatabaseUnavailable(new Error('connection reset'))
    },
  }
  const workerId = newBeat().id
  const claimRegistry = createClaimRegistry()
  const claims = createClaimStage(lossy, workerId, claimRegistry, async () => undefined)
  const request = (n: number) => ({ id: task.id, epoch: 0, n, reservation: newReservation({ usd: '2' }) })
  return {
    workerId,
    claimRegistry,
    request,
    claim: () => claims.claim(request(1), new AbortController()),
    next: (costUsd: string) =>
      claims.next({ ...request(2), tries: 1, settlement: settlement(1, 'server_error', { costUsd }) }),
    attempts: () => ask(db, 'SELECT n, outcome, trim_scale(cost_usd)::text AS usd FROM attempts ORDER BY n'),
    money: async () => (await listBudgets(db)).map(one => [one.reserved_usd, one.spent_usd]),
  }
}
const cancel = (id: string) =>
  createFinisher(database.dbs[0], () => {})({
    id,
    status: 'cancelled',
    from: 'live',
    epoch: null,
    workerId: null,
    settlement: null,
  })

describe('a claim whose answer was lost', () => {
  it.each([
    ['was cancelled', cancel],
    ['ran out of time', () => database.clock.advance(60)],
  ])('gives back what it had reserved if the task %s meanwhile', async (_, meanwhile) => {
    const { claim, claimRegistry, attempts, money } = await scene('tasks_claim', meanwhile)
    expect(await claim()).toEqual({ kind: 'lost' })
    expect(claimRegistry.size).toBe(0)
    expect(await attempts()).toEqual([{ n: 1, outcome: 'aborted', usd: '0' }])
    expect(await money()).toEqual([['0', '0']])
  })

  it('is found if nothing has changed', async () => {
    const { claim, claimRegistry, attempts, money } = await scene('tasks_claim', async () => undefined)
    expect(await claim()).toEqual({ kind: 'claimed' })
    expect(claimRegistry.size).toBe(1)
    expect(await attempts()).toEqual([{ n: 1, outcome: 'started', usd: null }])
    expect(await money()).toEqual([['2', '0']])
  })

  it('releases nothing of a later run, which may be calling', async () => {
    const [db] = database.dbs
    const { request, workerId, claim, attempts } = await scene('none', cancel)
    await claim()
    const back = { delayMs: 0, tries: 1, settlement: null, claimed: true }
    expect(await createRequeuer(db, workerId)({ ...request(1), ...back })).toBe(1)
    expect(await abandonAttempt(db, workerId, request(1))).toBe(false)
    expect(await attempts()).toEqual([{ n: 1, outcome: 'started', usd: null }])
  })
})

it('a next attempt whose answer was lost releases its own reservation only', async () => {
  const { claim, next, attempts, money } = await scene('tasks_next_attempt', cancel)
  expect(await claim()).toEqual({ kind: 'claimed' })
  expect(await next('0.5')).toEqual({ kind: 'lost' })
  expect(await attempts()).toEqual([
    { n: 1, outcome: 'server_error', usd: '0.5' },
    { n: 2, outcome: 'aborted', usd: '0' },
  ])
  expect(await money()).toEqual([['0', '0.5']])
})

import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { newId } from '#shared/ids.ts'
import { ask, fileDatabase, newBeat, newReservation, newTask, settlement } from '#shared/testing/postgres.ts'
import { type BudgetWindow, listBudgets, putBudget } from './budgets.ts'
import type { Reservation } from './claims/admission.ts'
import { createClaimer } from './claims/claim.ts'
import { createNewClaimer } from './claims/claim-new.ts'
import { createNextAttempt } from './claims/next-attempt.ts'
import { createRequeuer } from './claims/requeue.ts'
import { takeOverDeadClaims } from './claims/take-over.ts'
import type { Db } from './pool.ts'
import { createFinisher } from './tasks/finish.ts'
import { createInserter } from './tasks/insert.ts'
import { serializeTask } from './tasks/new-task.ts'
import { writeHeartbeat } from './workers.ts'

/** Reservations and spending by concurrent processes. */

const PROCESSES = 4
const database = fileDatabase(8)
const KEY = randomUUID()

function process(db: Db) {
  const beating = newBeat()
  return {
    id: beating.id,
    beat: () => writeHeartbeat(db, beating, []),
    claim: createClaimer(db, beating.id),
    claimNew: claimNewTask(db, beating.id),
    next: createNextAttempt(db, beating.id),
    requeue: createRequeuer(db, beating.id),
    end: createFinisher(db, () => {}),
  }
}

/** Claims a task of `KEY` that is not stored yet. */
function claimNewTask(db: Db, workerId: string) {
  const claim = createNewClaimer(db, workerId)
  return (id: string, reservation: Reservation) =>
    claim({ id, epoch: 0, n: 1, reservation, task: serializeTask(newTask({ id, apiKeyId: KEY })) })
}

const accept = async (db: Db) => {
  const task = newTask({ apiKeyId: KEY })
  await createInserter(db)(task)
  return task.id
}

const reservationOf = (usd: string, provider = 'anthropic') => newReservation({ usd, provider, apiKeyId: KEY })

/** No window ever exceeds its limit. */
async function overLimit(db: Db) {
  return await ask(
    db,
    'SELECT reserved_usd, spent_usd, limit_usd FROM budget_windows WHERE reserved_usd + spent_usd > limit_usd',
  )
}
/** Windows that differ from the ledger. */
const wrong = (db: Db) =>
  ask(
    db,
    `SELECT w.id, w.reserved_usd, w.spent_usd, a.reserved, a.spent FROM budget_windows w CROSS JOIN LATERAL (
      SELECT coalesce(sum(a.reserved_usd) FILTER (WHERE outcome = 'started'), 0) AS reserved, coalesce(sum(a.cost_usd), 0) AS spent
      FROM attempts a WHERE w.id = ANY(a.windows)
    ) a WHERE w.reserved_usd <> a.reserved OR w.spent_usd <> a.spent`,
  )
const rolledUp = async (db: Db) =>
  (
    await ask<{ same: boolean }>(
      db,
      `SELECT (SELECT coalesce(sum(cost_usd), 0) FROM cost_rollups) = (SELECT coalesce(sum(cost_usd), 0) FROM attempts)
      AND (SELECT coalesce(sum(calls), 0) FROM cost_rollups) = (SELECT count(*) FROM attempts WHERE outcome <> 'started')
      AND (SELECT coalesce(sum(estimated_usd), 0) FROM cost_rollups) = (SELECT coalesce(sum(cost_usd) FILTER (WHERE estimated), 0) FROM attempts) AS same`,
    )
  )[0]!.same

type Op =
  | { do: 'claim'; worker: number; task: number; cents: number }
  | { do: 'next' | 'requeue' | 'succeed' | 'fail'; worker: number; task: number; part: number }
  | { do: 'die'; worker: number }
  | { do: 'limit'; cents: number; window: BudgetWindow }

const TASKS = 6
const worker = fc.nat(PROCESSES - 1)
const task = fc.nat(TASKS - 1)
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('claim' as const), worker, task, cents: fc.integer({ min: 0, max: 40 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('next' as const, 'requeue' as const, 'succeed' as const, 'fail' as const),
      worker,
      task,
      // The real cost in percent of the reservation; above 100: unknown.
      part: fc.nat(120),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('die' as const), worker }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('limit' as const),
      cents: fc.integer({ min: 0, max: 200 }),
      window: fc.constantFrom<BudgetWindow>('hour', 'day', 'total'),
    }),
  },
)

describe('a budget', () => {
  it('is never exceeded and matches the ledger, whatever happens concurrently', async () => {
    const { dbs, clock } = database
    const db = dbs[0]
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(op, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 8 }),
        async rounds => {
          await ask(db, 'TRUNCATE attempts, budget_windows, budgets, cost_rollups, tasks, workers')
          await clock.reset()
          // Earlier spending may exceed a limit that was lowered.
          const lowered = new Set<string>()
          await putBudget(db, { scope: 'global', window: 'day', limitUsd: '1' })
          for (const window of ['hour', 'total'] as const)
            await putBudget(db, { scope: 'global', window, limitUsd: '100' })
          await putBudget(db, { scope: `key:${KEY}`, window: 'hour', limitUsd: '0.7' })
          await putBudget(db, { scope: 'provider:openai', window: 'total', limitUsd: '0.5' })
          await putBudget(db, { scope: 'kind:generate', window: 'request', limitUsd: '0.35' })
          const workers = dbs.slice(0, PROCESSES).map(process)
          await Promise.all(workers.map(one => one.beat()))
          // Some tasks are stored by their first claim.
          const ids = await Promise.all(Array.from({ length: TASKS }, (_, n) => (n % 2 ? accept(db) : newId())))
          /** Claims by worker and task. */
          const held = new Map<string, { epoch: number; n: number; cents: number }>()
          const dead = new Set<number>()

          const perform = async (one: Op): Promise<void> => {
            if (one.do === 'limit') {
              lowered.add(one.window)
              await putBudget(db, { scope: 'global', window: one.window, limitUsd: String(one.cents / 100) })
              return
            }
            if (one.do === 'die') {
              dead.add(one.worker)
              return
            }
            const [self, id] = [workers[one.worker]!, ids[one.task]!]
            const key = `${one.worker} ${one.task}`
            const mine = held.get(key)
            if (one.do === 'claim') {
              const [row] = await ask<{ epoch: number; attempts: number }>(
                db,
                'SELECT epoch, attempts FROM tasks WHERE id = $1',
                [id],
              )
              const { epoch, attempts } = row ?? { epoch: 0, attempts: 0 }
              const reservation = reservationOf(String(one.cents / 100), one.cents % 2 ? 'openai' : 'anthropic')
              const n = attempts + 1
              const outcome = row
                ? await self.claim({ id, epoch, n, reservation })
                : await self.claimNew(id, reservation)
              if (outcome.kind === 'claimed') {
                expect(one.cents).toBeLessThanOrEqual(35)
                held.set(key, { epoch, n, cents: one.cents })
              }
              return
            }
            if (!mine) return
            const costUsd = one.part > 100 ? null : String((mine.cents * one.part) / 10_000)
            const settled = settlement(mine.n, one.do === 'succeed' ? 'succeeded' : 'timeout', { costUsd })
            if (one.do === 'next') {
              const request = {
                id,
                epoch: mine.epoch,
                n: mine.n + 1,
                reservation: reservationOf('0.05'),
                tries: 1,
                settlement: settled,
              }
              const outcome = await self.next(request)
              if (outcome.kind === 'claimed') held.set(key, { ...mine, n: mine.n + 1, cents: 5 })
              else held.delete(key)
            } else if (one.do === 'requeue') {
              held.delete(key)
              await self.requeue({ id, epoch: mine.epoch, delayMs: 0, tries: 1, settlement: settled, claimed: true })
            } else {
              held.delete(key)
              await self.end({
                ...{ id, status: one.do === 'succeed' ? 'succeeded' : 'failed', from: 'running', epoch: mine.epoch },
                ...{ workerId: self.id, settlement: settled },
              })
            }
          }
          for (const round of rounds) {
            // Concurrently, except the actions of one worker on one task.
            const chains = Map.groupBy(round, one => ('task' in one ? `${one.worker} ${one.task}` : one))
            await Promise.all(
              [...chains.values()].map(async chain => {
                for (const one of chain) await perform(one)
              }),
            )
            if (lowered.size === 0) expect(await overLimit(db)).toEqual([])
            expect(await wrong(db)).toEqual([])
            expect(await rolledUp(db)).toBe(true)
            if (dead.size > 0) {
              await clock.advance(11)
              await Promise.all(workers.map((one, n) => !dead.has(n) && one.beat()))
              await takeOverDeadClaims(db, 100, 100)
              dead.clear()
              await Promise.all(workers.map(one => one.beat()))
            }
          }
          // All workers die: nothing stays reserved, and late answers find their windows.
          await clock.advance(11)
          await takeOverDeadClaims(db, 100, 100)
          expect(await ask(db, 'SELECT id FROM budget_windows WHERE reserved_usd <> 0')).toEqual([])
          await Promise.all(
            [...held].map(async ([key, { epoch, n, cents }]) => {
              const [w, t] = key.split(' ').map(Number) as [number, number]
              await workers[w]!.end({
                ...{ id: ids[t]!, status: 'succeeded', from: 'running', epoch, workerId: workers[w]!.id, result: 1 },
                settlement: settlement(n, 'succeeded', { costUsd: String(cents / 1000) }),
              })
            }),
          )
          if (lowered.size === 0) expect(await overLimit(db)).toEqual([])
          expect(await wrong(db)).toEqual([])
          expect(await rolledUp(db)).toBe(true)
        },
      ),
      { numRuns: 40 },
    )
  }, 120_000)

  it('of one dollar lets eight processes spend one dollar and no more, in calls of up to a cent', async () => {
    const { dbs } = database
    await putBudget(dbs[0], { scope: 'global', window: 'day', limitUsd: '1' })
    const workers = dbs.map(process)
    const insert = createInserter(dbs[0])
    // Half of the tasks are stored by their first claim.
    const isStored = (index: number) => index % (2 * PROCESSES) < PROCESSES
    const tasks = await Promise.all(
      Array.from({ length: 2000 }, async (_, index) => {
        const one = newTask({ apiKeyId: KEY })
        if (isStored(index)) await insert(one)
        return { id: one.id, stored: isStored(index) }
      }),
    )
    // Each process claims its share of the tasks, a hundred at a time, and retries while only reservations are in the way.
    const refused: boolean[] = []
    await Promise.all(
      workers.map(async (self, w) => {
        const mine = tasks.filter((_, index) => index % workers.length === w)
        await Promise.all(
          Array.from({ length: 100 }, async () => {
            for (let task = mine.pop(); task; task = mine.pop()) {
              const { id, stored } = task
              for (;;) {
                const reservation = reservationOf('0.01')
                const outcome = stored
                  ? await self.claim({ id, epoch: 0, n: 1, reservation })
                  : await self.claimNew(id, reservation)
                if (outcome.kind === 'refused' && !outcome.by.exceeded) continue
                if (outcome.kind === 'refused') refused.push(outcome.by.exceeded)
                if (outcome.kind === 'claimed') {
                  await self.end({
                    ...{ id, status: 'succeeded', from: 'running', epoch: 0, workerId: self.id, result: 1 },
                    settlement: settlement(1, 'succeeded', { costUsd: '0.0037' }),
                  })
                }
                break
              }
            }
          }),
        )
      }),
    )
    const [budget] = await listBudgets(dbs[0])
    expect(budget!.reserved_usd).toBe('0')
    expect(Number(budget!.spent_usd)).toBeLessThanOrEqual(1)
    expect(Number(budget!.spent_usd)).toBeGreaterThanOrEqual(0.95)
    const [{ calls } = { calls: '' }] = await ask<{ calls: string }>(dbs[0], 'SELECT count(*) AS calls FROM attempts')
    // 0.0037 each: a remainder below one cent admits no further call.
    expect(Number(calls)).toBe(268)
    expect(refused).toHaveLength(2000 - 268)
  }, 120_000)

  it('lowered below its spending stops new calls at once; calls in flight still settle', async () => {
    const db = database.dbs[0]
    const self = process(db)
    await putBudget(db, { scope: 'global', window: 'month', limitUsd: '1' })
    const [first, second] = [await accept(db), await accept(db)]
    expect(await self.claim({ id: first, epoch: 0, n: 1, reservation: reservationOf('0.5') })).toEqual({
      kind: 'claimed',
    })
    await putBudget(db, { scope: 'global', window: 'month', limitUsd: '0' })
    expect(await self.claim({ id: second, epoch: 0, n: 1, reservation: reservationOf('0.0001') })).toMatchObject({
      kind: 'refused',
      by: {
        scope: 'global',
        window: 'month',
        exceeded: true,
        left_usd: expect.any(String),
        resets_ms: expect.any(Number),
      },
    })
    // Free calls are not stopped.
    expect(await self.claim({ id: second, epoch: 0, n: 1, reservation: reservationOf('0') })).toEqual({
      kind: 'claimed',
    })
    const ending = { status: 'succeeded', from: 'running', epoch: 0, workerId: self.id, result: 1 } as const
    await self.end({ ...ending, id: first, settlement: settlement(1, 'succeeded', { costUsd: '0.4' }) })
    expect(await listBudgets(db)).toMatchObject([{ spent_usd: '0.4', reserved_usd: '0', remaining_usd: '0' }])
  })

  it('distinguishes refusals by reservations from refusals by spending', async () => {
    const db = database.dbs[0]
    const self = process(db)
    await putBudget(db, { scope: 'global', window: 'total', limitUsd: '1' })
    const [first, second] = [await accept(db), await accept(db)]
    await self.claim({ id: first, epoch: 0, n: 1, reservation: reservationOf('0.8') })
    const ask = () => self.claim({ id: second, epoch: 0, n: 1, reservation: reservationOf('0.8') })
    expect(await ask()).toMatchObject({ kind: 'refused', by: { exceeded: false } })
    await self.end({
      ...{ id: first, status: 'succeeded', from: 'running', epoch: 0, workerId: self.id, result: 1 },
      settlement: settlement(1, 'succeeded', { costUsd: '0.3' }),
    })
    expect(await ask()).toMatchObject({ kind: 'refused', by: { exceeded: true, resets_ms: null } })
  })
})

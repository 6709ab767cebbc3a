import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ask, fileDatabase, newBeat, newNeed, newTask, settlement } from '#shared/testing/postgres.ts'
import { listBudgets, putBudget, type Span } from './budgets.ts'
import { createClaimer, createNextAttempt, createRequeuer, takeOverDeadClaims } from './claims.ts'
import { createInserter } from './insert.ts'
import type { Db } from './pool.ts'
import { createEnder } from './tasks.ts'
import { beat } from './workers.ts'

/** What is reserved and spent, by many processes at once. */

const PROCESSES = 4
const database = fileDatabase(8)
const KEY = randomUUID()

function process(db: Db) {
  const beating = newBeat()
  return {
    id: beating.id,
    beat: () => beat(db, beating, []),
    claim: createClaimer(db, beating.id),
    next: createNextAttempt(db, beating.id),
    requeue: createRequeuer(db, beating.id),
    end: createEnder(db, () => {}),
  }
}

const accept = async (db: Db) => {
  const task = newTask({ apiKeyId: KEY })
  await createInserter(db)(task)
  return task.id
}

const need = (usd: string, provider = 'anthropic') => newNeed({ usd, provider, apiKeyId: KEY })

/** Of every window: never more than its limit. */
async function overLimit(db: Db) {
  return await ask(
    db,
    'SELECT reserved_usd, spent_usd, limit_usd FROM budget_windows WHERE reserved_usd + spent_usd > limit_usd',
  )
}
/** Windows that do not say what the ledger says of them. */
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
  | { do: 'limit'; cents: number; span: Span }

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
      // What it really cost, in percent of what was reserved; above 100: nobody said.
      part: fc.nat(120),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('die' as const), worker }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('limit' as const),
      cents: fc.integer({ min: 0, max: 200 }),
      span: fc.constantFrom<Span>('hour', 'day', 'total'),
    }),
  },
)

describe('a budget', () => {
  it('is never overshot, and says what the ledger says, whatever happens at once', async () => {
    const { dbs, clock } = database
    const db = dbs[0]
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(op, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 8 }),
        async rounds => {
          await ask(db, 'TRUNCATE attempts, budget_windows, budgets, cost_rollups, tasks, workers')
          await clock.reset()
          // Once a limit was lowered, what was spent before may be more.
          const lowered = new Set<string>()
          await putBudget(db, { scope: 'global', span: 'day', limitUsd: '1' })
          for (const span of ['hour', 'total'] as const) await putBudget(db, { scope: 'global', span, limitUsd: '100' })
          await putBudget(db, { scope: `key:${KEY}`, span: 'hour', limitUsd: '0.7' })
          await putBudget(db, { scope: 'provider:openai', span: 'total', limitUsd: '0.5' })
          await putBudget(db, { scope: 'kind:generate', span: 'request', limitUsd: '0.35' })
          const workers = dbs.slice(0, PROCESSES).map(process)
          await Promise.all(workers.map(one => one.beat()))
          const ids = await Promise.all(Array.from({ length: TASKS }, () => accept(db)))
          /** By worker and task: what it holds. */
          const held = new Map<string, { epoch: number; n: number; cents: number }>()
          const dead = new Set<number>()

          const perform = async (one: Op): Promise<void> => {
            if (one.do === 'limit') {
              lowered.add(one.span)
              await putBudget(db, { scope: 'global', span: one.span, limitUsd: String(one.cents / 100) })
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
              const n = row!.attempts + 1
              const outcome = await self.claim({
                ...{ id, epoch: row!.epoch, n },
                need: need(String(one.cents / 100), one.cents % 2 ? 'openai' : 'anthropic'),
              })
              if (outcome.kind === 'claimed') {
                expect(one.cents).toBeLessThanOrEqual(35)
                held.set(key, { epoch: row!.epoch, n, cents: one.cents })
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
                need: need('0.05'),
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
            // At once, but for what one worker does with one task.
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
          // Everybody dies: nothing stays reserved, and the late answers find their windows.
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

  it('of one dollar lets eight processes spend one dollar, no more, in calls of up to a cent', async () => {
    const { dbs } = database
    await putBudget(dbs[0], { scope: 'global', span: 'day', limitUsd: '1' })
    const workers = dbs.map(process)
    const insert = createInserter(dbs[0])
    const ids = await Promise.all(
      Array.from({ length: 2000 }, async () => {
        const one = newTask({ apiKeyId: KEY })
        await insert(one)
        return one.id
      }),
    )
    // Each process works on a share of the tasks, a hundred at a time, and asks again while only others stand in the way.
    const refused: boolean[] = []
    await Promise.all(
      workers.map(async (self, w) => {
        const mine = ids.filter((_, index) => index % workers.length === w)
        await Promise.all(
          Array.from({ length: 100 }, async () => {
            for (let id = mine.pop(); id; id = mine.pop()) {
              for (;;) {
                const outcome = await self.claim({ id, epoch: 0, n: 1, need: need('0.01') })
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
    // 0.0037 each: what is left below a cent is of no use to anybody.
    expect(Number(calls)).toBe(268)
    expect(refused).toHaveLength(2000 - 268)
  }, 120_000)

  it('that is lowered below what is spent stops spending at once; what is under way still settles', async () => {
    const db = database.dbs[0]
    const self = process(db)
    await putBudget(db, { scope: 'global', span: 'month', limitUsd: '1' })
    const [first, second] = [await accept(db), await accept(db)]
    expect(await self.claim({ id: first, epoch: 0, n: 1, need: need('0.5') })).toEqual({ kind: 'claimed' })
    await putBudget(db, { scope: 'global', span: 'month', limitUsd: '0' })
    expect(await self.claim({ id: second, epoch: 0, n: 1, need: need('0.0001') })).toMatchObject({
      kind: 'refused',
      by: { scope: 'global', span: 'month', exceeded: true, resets_ms: expect.any(Number) },
    })
    // What costs nothing is not stopped.
    expect(await self.claim({ id: second, epoch: 0, n: 1, need: need('0') })).toEqual({ kind: 'claimed' })
    const ending = { status: 'succeeded', from: 'running', epoch: 0, workerId: self.id, result: 1 } as const
    await self.end({ ...ending, id: first, settlement: settlement(1, 'succeeded', { costUsd: '0.4' }) })
    expect(await listBudgets(db)).toMatchObject([{ spent_usd: '0.4', reserved_usd: '0', remaining_usd: '0' }])
  })

  it('tells what only others’ reservations refuse from what is spent', async () => {
    const db = database.dbs[0]
    const self = process(db)
    await putBudget(db, { scope: 'global', span: 'total', limitUsd: '1' })
    const [first, second] = [await accept(db), await accept(db)]
    await self.claim({ id: first, epoch: 0, n: 1, need: need('0.8') })
    const ask = () => self.claim({ id: second, epoch: 0, n: 1, need: need('0.8') })
    expect(await ask()).toMatchObject({ kind: 'refused', by: { exceeded: false } })
    await self.end({
      ...{ id: first, status: 'succeeded', from: 'running', epoch: 0, workerId: self.id, result: 1 },
      settlement: settlement(1, 'succeeded', { costUsd: '0.3' }),
    })
    expect(await ask()).toMatchObject({ kind: 'refused', by: { exceeded: true, resets_ms: null } })
  })
})

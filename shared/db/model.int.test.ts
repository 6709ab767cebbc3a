import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ask, fileDatabase, newBeat, newReservation, newTask, settlement } from '#shared/testing/postgres.ts'
import type { ClaimOutcome } from './claims/admission.ts'
import { createClaimer } from './claims/claim.ts'
import { createNextAttempt } from './claims/next-attempt.ts'
import { createRequeuer } from './claims/requeue.ts'
import { closeOrphanedAttempts, takeOverDeadClaims } from './claims/take-over.ts'
import type { Db } from './pool.ts'
import { createFinisher } from './tasks/finish.ts'
import { createInserter } from './tasks/insert.ts'
import { createTaskLoader } from './tasks/load.ts'
import { isTerminal, type TaskStatus, type TerminalStatus } from './tasks/row.ts'
import { type WorkerState, writeHeartbeat } from './workers.ts'

/**
 * Tasks with several processes that claim, settle, requeue, die, return and repeat statements; clients that cancel; and the sweeper.
 * The promises hold in any order of actions.
 */

const WORKERS = 3
const TASKS = 3
const MAX_CLAIMS = 5

type Row = {
  id: string
  status: TaskStatus
  epoch: number
  worker_id: string | null
  claims: number
  attempts: number
  tries: number
  end: string
  dispatched: boolean
}
type AttemptRow = { task_id: string; n: number; outcome: string; worker_id: string }
type World = { tasks: Map<string, Row>; attempts: Map<string, AttemptRow> }

async function readWorld(db: Db, ids: string[]): Promise<World> {
  const [tasks, attempts] = await Promise.all([
    ask<Row>(
      db,
      `SELECT id, status, epoch, worker_id, claims, attempts, tries, dispatched_at IS NOT NULL AS dispatched,
        json_build_array(result, source, provider, model, error, finished_at)::text AS "end" FROM tasks WHERE id = ANY($1)`,
      [ids],
    ),
    ask<AttemptRow>(db, 'SELECT task_id, n, outcome, worker_id FROM attempts WHERE task_id = ANY($1) ORDER BY n', [
      ids,
    ]),
  ])
  return {
    tasks: new Map(tasks.map(row => [row.id, row])),
    attempts: new Map(attempts.map(row => [`${row.task_id} ${row.n}`, row])),
  }
}

/** The allowed transitions of tasks and attempts. */
function compare(before: World, after: World) {
  for (const [id, now] of after.tasks) {
    const was = before.tasks.get(id)!
    if (isTerminal(was.status)) expect(now, 'what has ended stays as it is').toEqual(was)
    expect(now.epoch, 'epochs grow').toBeGreaterThanOrEqual(was.epoch)
    expect(now.attempts, 'attempts are never forgotten').toBeGreaterThanOrEqual(was.attempts)
    expect(now.worker_id !== null, 'a claim belongs to a running task').toBe(now.status === 'running')
    expect(now.claims).toBeLessThanOrEqual(MAX_CLAIMS)
    const own = [...after.attempts.values()].filter(row => row.task_id === id)
    expect(
      own.map(row => row.n),
      'every attempt is recorded',
    ).toEqual(own.map((_, index) => index + 1))
    expect(own).toHaveLength(now.attempts)
    const open = own.filter(row => row.outcome === 'started')
    if (now.status === 'running') expect(open.filter(row => row.n < now.attempts)).toEqual([])
  }
  for (const [key, was] of before.attempts) {
    const now = after.attempts.get(key)!
    if (was.outcome !== 'started' && was.outcome !== 'unknown') expect(now, 'an attempt is settled once').toEqual(was)
    if (was.outcome === 'unknown') expect(now.outcome, 'what is unknown is not open').not.toBe('started')
    expect(now.worker_id).toBe(was.worker_id)
  }
}

/** Only the claims of dead workers are taken over. */
function checkTakeOver(before: World, after: World, dead: Set<string>) {
  for (const [id, was] of before.tasks) {
    const now = after.tasks.get(id)!
    const attempt = (world: World) => world.attempts.get(`${id} ${was.attempts}`)
    if (was.status !== 'running' || !dead.has(was.worker_id!)) {
      expect([now, attempt(after)]).toEqual([was, attempt(before)])
    } else {
      expect(attempt(after)!.outcome).toBe('unknown')
      if (was.claims >= MAX_CLAIMS) expect(now.status).toBe('failed')
      else expect(now).toMatchObject({ status: 'queued', epoch: was.epoch + 1, dispatched: false })
    }
  }
}

/** A process: its connections and the claims that it believes to hold. */
function createWorker(db: Db, onEnded: () => void) {
  const worker: WorkerState = newBeat()
  return {
    db,
    worker,
    load: createTaskLoader(db, ['auth']),
    claim: createClaimer(db, worker.id),
    next: createNextAttempt(db, worker.id),
    requeue: createRequeuer(db, worker.id),
    end: createFinisher(db, onEnded),
    beat: (held: { id: string; epoch: number }[] = []) => writeHeartbeat(db, worker, held),
    die: () => ask(db, `UPDATE workers SET beat_at = now() - interval '11 seconds' WHERE id = $1`, [worker.id]),
    /** By task: the dispatch and attempt in progress. */
    known: new Map<string, { epoch: number; n: number; tries: number }>(),
  }
}
type Worker = ReturnType<typeof createWorker>

type Op =
  | { do: 'load' | 'claim' | 'next' | 'requeue' | 'succeed' | 'fail' | 'work'; worker: number; task: number }
  | { do: 'die' | 'beat'; worker: number }
  | { do: 'cancel' | 'expire'; task: number }
  | { do: 'take over' | 'orphans' }
  | { do: 'repeat'; which: number }

const index = fc.nat({ max: 20 })
const op: fc.Arbitrary<Op> = fc.oneof(
  // Most actions are work, because otherwise few tasks would get far.
  { weight: 4, arbitrary: fc.record({ do: fc.constant('work' as const), worker: index, task: index }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('load', 'claim', 'next', 'requeue', 'succeed', 'fail'),
      worker: index,
      task: index,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('die', 'die', 'beat'), worker: index }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('cancel', 'expire'), task: index }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('take over', 'take over', 'orphans') }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('repeat' as const), which: index }) },
)

const database = fileDatabase(WORKERS)

describe('tasks with concurrent workers', () => {
  it('end once, stay ended, and have every attempt settled once, in any order of events', async () => {
    const { dbs } = database
    const outsider = dbs[0]
    const insert = createInserter(outsider)
    const reached = new Map<string, number>()
    await database.clock.stop()

    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            op.map(one => [one]),
            fc.array(op, { minLength: 2, maxLength: 5 }),
          ),
          {
            minLength: 5,
            maxLength: 30,
          },
        ),
        async rounds => {
          const ended = new Map<string, number>()
          const workers = dbs.map(db => createWorker(db, () => {}))
          const dead = new Set<string>()
          await Promise.all(workers.map(worker => worker.beat()))
          const ids = await Promise.all(
            Array.from({ length: TASKS }, async () => {
              const task = newTask()
              await insert(task)
              return task.id
            }),
          )
          /** Executed statements for repetition, and whether they had an effect. */
          const done: { again: () => Promise<unknown>; effective: boolean }[] = []
          /** A statement that runs alone has an effect exactly if the state before it allows that. */
          let alone = false
          const record = async <T>(
            again: () => Promise<T>,
            id: string,
            effective: (answer: T) => boolean,
            due: (was: Row) => boolean,
          ): Promise<T> => {
            const answer = await again()
            if (alone) expect(effective(answer), 'compare and set').toBe(due(world.tasks.get(id)!))
            done.push({ again, effective: effective(answer) })
            return answer
          }
          const holds = (worker: Worker, was: Row, epoch: number) =>
            was.status === 'running' && was.worker_id === worker.worker.id && was.epoch === epoch
          const end = async (
            worker: Worker,
            id: string,
            status: TerminalStatus,
            known: { epoch: number; n: number } | null,
          ) => {
            const { ended: really } = await record(
              () =>
                worker.end({
                  id,
                  status,
                  from: known ? 'running' : 'live',
                  epoch: known?.epoch ?? null,
                  workerId: known ? worker.worker.id : null,
                  result: status === 'succeeded' ? { by: worker.worker.id } : null,
                  settlement: known && settlement(known.n, status === 'succeeded' ? 'succeeded' : 'server_error'),
                }),
              id,
              answer => answer.ended,
              was => (known ? holds(worker, was, known.epoch) : !isTerminal(was.status)),
            )
            if (really) ended.set(id, (ended.get(id) ?? 0) + 1)
          }
          const claim = async (worker: Worker, id: string) => {
            const known = worker.known.get(id)
            if (!known) return
            const request = { id, epoch: known.epoch, n: known.n + 1, reservation: newReservation() }
            const due = (was: Row) =>
              (was.status === 'queued' && was.epoch === request.epoch && was.attempts === request.n - 1) ||
              (holds(worker, was, request.epoch) && was.attempts === request.n)
            const claimed = (one: ClaimOutcome) => one.kind === 'claimed'
            if (claimed(await record(() => worker.claim(request), id, claimed, due))) known.n++
          }
          const load = async (worker: Worker, id: string) => {
            const task = await worker.load({ id, epoch: (await readWorld(outsider, [id])).tasks.get(id)!.epoch })
            if (task) worker.known.set(id, { epoch: task.epoch, n: task.attempts, tries: task.tries })
          }

          const perform = async (op: Op): Promise<void> => {
            const worker = 'worker' in op ? workers[op.worker % WORKERS]! : workers[0]!
            const id = 'task' in op ? ids[op.task % TASKS]! : ids[0]!
            const known = worker.known.get(id)
            switch (op.do) {
              case 'load':
                return load(worker, id)
              case 'claim':
                return claim(worker, id)
              case 'work':
                await load(worker, id)
                return claim(worker, id)
              case 'next': {
                if (!known || known.n === 0) return
                const request = {
                  ...{ id, epoch: known.epoch, n: known.n + 1, reservation: newReservation() },
                  ...{ tries: known.tries + 1, settlement: settlement(known.n, 'timeout') },
                }
                const due = (was: Row) =>
                  holds(worker, was, request.epoch) && [request.n - 1, request.n].includes(was.attempts)
                const claimed = (one: ClaimOutcome) => one.kind === 'claimed'
                if (claimed(await record(() => worker.next(request), id, claimed, due)))
                  Object.assign(known, { n: known.n + 1, tries: known.tries + 1 })
                return
              }
              case 'requeue': {
                if (!known) return
                const request = {
                  ...{ id, epoch: known.epoch, delayMs: 0, tries: known.tries },
                  settlement: known.n > 0 ? settlement(known.n, 'overloaded') : null,
                  claimed: known.n > 0,
                }
                const due = (was: Row) =>
                  request.settlement
                    ? holds(worker, was, request.epoch)
                    : was.status === 'queued' && was.epoch === request.epoch
                await record(
                  () => worker.requeue(request),
                  id,
                  epoch => epoch !== null,
                  due,
                )
                return
              }
              case 'succeed':
              case 'fail':
                return known && known.n > 0
                  ? end(worker, id, op.do === 'succeed' ? 'succeeded' : 'failed', { ...known })
                  : undefined
              case 'cancel':
              case 'expire':
                return end(workers[1]!, id, op.do === 'cancel' ? 'cancelled' : 'expired', null)
              case 'die':
                dead.add(worker.worker.id)
                return void (await worker.die())
              case 'beat':
                dead.delete(worker.worker.id)
                return void (await worker.beat([...worker.known].map(([id, { epoch }]) => ({ id, epoch }))))
              case 'take over': {
                const { exhausted } = await takeOverDeadClaims(outsider, 100, MAX_CLAIMS)
                await Promise.all(exhausted.filter(id => ids.includes(id)).map(id => end(worker, id, 'failed', null)))
                return
              }
              case 'orphans':
                return void (await closeOrphanedAttempts(outsider, 100))
              case 'repeat':
                return
            }
          }

          /** Actions run concurrently, except those of one worker on one task or on itself, which run in order. */
          const together = (ops: Op[]) => {
            const chains = Map.groupBy(ops, op =>
              'worker' in op ? `${op.worker % WORKERS} ${'task' in op ? op.task % TASKS : ''}` : op,
            )
            return Promise.all(
              [...chains.values()].map(async chain => {
                for (const op of chain) await perform(op)
              }),
            )
          }

          let world = await readWorld(outsider, ids)
          const step = async (work: () => Promise<unknown>) => {
            await work()
            const now = await readWorld(outsider, ids)
            compare(world, now)
            for (const [id, task] of now.tasks)
              expect(ended.get(id) ?? 0, 'every end is reported once').toBe(isTerminal(task.status) ? 1 : 0)
            world = now
            return now
          }
          for (const round of rounds) {
            alone = round.length === 1
            const before = world
            const after = await step(() => together(round))
            if (alone && round[0]!.do === 'take over') checkTakeOver(before, after, dead)
            alone = false
            for (const one of round) {
              if (one.do !== 'repeat' || done.length === 0) continue
              const { again, effective } = done[one.which % done.length]!
              const before = world
              if (effective) {
                await step(again)
                expect(world, 'repeating what was committed changes nothing').toEqual(before)
              }
            }
          }

          // At the end no worker holds a claim: everything open is closed.
          await Promise.all(workers.map(worker => worker.die()))
          await step(() => perform({ do: 'take over' }))
          await step(() => Promise.all(ids.map(id => end(workers[0]!, id, 'expired', null))))
          await step(() => perform({ do: 'orphans' }))
          for (const attempt of world.attempts.values()) expect(attempt.outcome).not.toBe('started')
          for (const task of world.tasks.values()) {
            reached.set(task.status, (reached.get(task.status) ?? 0) + 1)
            expect(isTerminal(task.status)).toBe(true)
          }
          for (const attempt of world.attempts.values())
            reached.set(attempt.outcome, (reached.get(attempt.outcome) ?? 0) + 1)
        },
      ),
      { numRuns: 60 },
    )
    // Guards against a model in which nothing happens.
    for (const state of ['succeeded', 'failed', 'cancelled', 'expired', 'unknown', 'timeout', 'overloaded'])
      expect(reached.get(state), state).toBeGreaterThan(0)
  }, 120_000)
})

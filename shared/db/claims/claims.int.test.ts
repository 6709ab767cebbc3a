import { beforeEach, describe, expect, it } from 'vitest'
import {
  ask,
  type Clock,
  fileDatabase,
  newBeat,
  newReservation,
  newTask,
  settlement,
} from '#shared/testing/postgres.ts'
import { putBudget } from '../budgets.ts'
import type { Db } from '../pool.ts'
import { createFinisher } from '../tasks/finish.ts'
import { createInserter } from '../tasks/insert.ts'
import { createTaskLoader } from '../tasks/load.ts'
import { type NewTask, serializeTask } from '../tasks/new-task.ts'
import { findOverdue } from '../tasks/overdue.ts'
import type { FinishedTask } from '../tasks/row.ts'
import { deleteDeadWorkers, deregisterWorker, listWorkers, writeHeartbeat } from '../workers.ts'
import { createClaimer } from './claim.ts'
import { createNewClaimer } from './claim-new.ts'
import { createNextAttempt } from './next-attempt.ts'
import { createRequeuer } from './requeue.ts'
import { closeOrphanedAttempts, takeOverDeadClaims } from './take-over.ts'

const database = fileDatabase(4)
let db: Db
let dbs: Db[]
let clock: Clock
beforeEach(() => {
  dbs = database.dbs
  db = database.dbs[0]
  clock = database.clock
})

const call = { provider: 'anthropic', model: 'claude' }

/** A database with a live worker and tasks. */
async function fleet(db: Db) {
  const worker = newBeat()
  await writeHeartbeat(db, worker, [])
  const insert = createInserter(db)
  const claim = createClaimer(db, worker.id)
  const accept = async (more: Partial<NewTask> = {}) => {
    const task = newTask(more)
    await insert(task)
    return task.id
  }
  const claimFirst = async (id: string, epoch = 0, n = 1) =>
    (await claim({ id, epoch, n, reservation: newReservation(call) })).kind === 'claimed'
  return {
    worker,
    accept,
    claim: claimFirst,
    claimNew: createNewClaimer(db, worker.id),
    async running(more: Partial<NewTask> = {}) {
      const id = await accept(more)
      await claimFirst(id)
      return id
    },
    row: async (id: string) =>
      (
        await ask<{ status: string; epoch: number; attempts: number; tries: number; worker_id: string | null }>(
          db,
          'SELECT status, epoch, attempts, tries, worker_id FROM tasks WHERE id = $1',
          [id],
        )
      )[0]!,
    outcomes: async (id: string) =>
      (await ask<{ outcome: string }>(db, 'SELECT outcome FROM attempts WHERE task_id = $1 ORDER BY n', [id])).map(
        row => row.outcome,
      ),
  }
}

describe('a claim', () => {
  it('records the attempt before the call', async () => {
    const { accept, claim, row, worker } = await fleet(db)
    const id = await accept()
    expect(await claim(id)).toBe(true)
    expect(await row(id)).toEqual({ status: 'running', epoch: 0, attempts: 1, tries: 0, worker_id: worker.id })
    expect(await ask(db, 'SELECT n, worker_id, provider, model, outcome, finished_at FROM attempts')).toEqual([
      { n: 1, worker_id: worker.id, ...call, outcome: 'started', finished_at: null },
    ])
  })

  it('succeeds for one of many workers and is lost for the others', async () => {
    const { accept, outcomes } = await fleet(db)
    const id = await accept()
    const claimers = dbs.map(db => createClaimer(db, newBeat().id))
    const got = await Promise.all(
      claimers.map(claim => claim({ id, epoch: 0, n: 1, reservation: newReservation(call) })),
    )
    expect(got.map(one => one.kind).toSorted()).toEqual(['claimed', 'lost', 'lost', 'lost'])
    expect(await outcomes(id)).toEqual(['started'])
  })

  it('is lost after the deadline', async () => {
    const { accept, claim, row } = await fleet(db)
    const id = await accept({ deadlineSeconds: 5 })
    await clock.advance(5)
    expect(await claim(id)).toBe(false)
    expect((await row(id)).status).toBe('queued')
  })

  it('stores a new task as running, with what the client submitted', async () => {
    const { claimNew, row, outcomes, worker } = await fleet(db)
    const task = newTask({ metadata: { a: 1 }, deadlineSeconds: 60 })
    const request = { id: task.id, epoch: 0, n: 1, reservation: newReservation(call) }
    expect(await claimNew({ ...request, task: serializeTask(task) })).toEqual({ kind: 'claimed' })
    expect(await row(task.id)).toEqual({ status: 'running', epoch: 0, attempts: 1, tries: 0, worker_id: worker.id })
    expect(await outcomes(task.id)).toEqual(['started'])
    const [stored] = await ask(
      db,
      `SELECT kind, input, metadata, deadline_at = created_at + interval '60 s' AS due, claims FROM tasks WHERE id = $1`,
      [task.id],
    )
    expect(stored).toEqual({ kind: 'generate', input: task.input, metadata: { a: 1 }, due: true, claims: 1 })
  })

  it('does not store a new task that a budget refuses', async () => {
    const { claimNew } = await fleet(db)
    await putBudget(db, { scope: 'global', window: 'total', limitUsd: '0.5' })
    const claim = (usd: string) => {
      const task = newTask()
      const reservation = newReservation({ ...call, usd })
      return claimNew({ id: task.id, epoch: 0, n: 1, reservation, task: serializeTask(task) })
    }
    const got = await Promise.all([claim('0.4'), claim('0.6'), claim('0.1')])
    expect(got.map(one => one.kind)).toEqual(['claimed', 'refused', 'claimed'])
    expect(await ask(db, 'SELECT count(*)::int AS tasks FROM tasks')).toEqual([{ tasks: 2 }])
  })

  it('is lost for a new task whose id is taken', async () => {
    const { accept, claimNew, outcomes } = await fleet(db)
    const id = await accept()
    const request = { id, epoch: 0, n: 1, reservation: newReservation(call) }
    expect(await claimNew({ ...request, task: serializeTask(newTask({ id })) })).toEqual({ kind: 'lost' })
    expect(await outcomes(id)).toEqual([])
  })

  it('is lost with an outdated epoch', async () => {
    const { accept, claim, worker } = await fleet(db)
    const id = await accept()
    await createRequeuer(db, worker.id)({ id, epoch: 0, delayMs: 0, tries: 0, settlement: null, claimed: false })
    expect(await claim(id, 0)).toBe(false)
    expect(await claim(id, 1)).toBe(true)
  })
})

describe('loading a dispatched task', () => {
  it('returns the remaining time and the targets that can never answer', async () => {
    const { running, worker } = await fleet(db)
    const id = await running({ deadlineSeconds: 100 })
    await createRequeuer(
      db,
      worker.id,
    )({ id, epoch: 0, delayMs: 0, tries: 1, settlement: settlement(1, 'auth'), claimed: true })
    await clock.advance(40)
    const load = createTaskLoader(db, ['auth', 'unknown_model'])
    const task = await load({ id, epoch: 1 })
    expect(task).toMatchObject({ id, epoch: 1, attempts: 1, tries: 1, dead_ends: ['anthropic/claude'] })
    expect(task!.left_ms).toBeGreaterThan(0)
    expect(task!.left_ms).toBeLessThanOrEqual(60_000)
    expect(await load({ id, epoch: 0 })).toBeNull()
  })

  it('returns the answers that failed their check, with the reason and the output limit', async () => {
    const { running, worker } = await fleet(db)
    const id = await running()
    const error = { code: 'rejected', message: 'the answer is not JSON' }
    const settled = settlement(1, 'rejected', { error, finishReason: 'length' })
    await createNextAttempt(
      db,
      worker.id,
    )({ id, epoch: 0, n: 2, reservation: newReservation(call), tries: 1, settlement: settled })
    await createRequeuer(
      db,
      worker.id,
    )({ id, epoch: 0, delayMs: 0, tries: 2, settlement: settlement(2, 'timeout'), claimed: true })
    expect(await createTaskLoader(db, [])({ id, epoch: 1 })).toMatchObject({
      rejected: [{ ...call, reason: error.message, finishReason: 'length', maxTokens: 100 }],
    })
  })
})

describe('a finished task', () => {
  it('only the owner of the claim can finish it', async () => {
    const { running, row, outcomes } = await fleet(db)
    const id = await running()
    const end = createFinisher(db, () => {})
    const stranger = newBeat().id
    const ending = { id, status: 'succeeded', from: 'running', epoch: 0, workerId: stranger } as const
    expect(await end({ ...ending, result: 1, settlement: null })).toEqual({ ended: false })
    expect((await row(id)).status).toBe('running')
    expect(await outcomes(id)).toEqual(['started'])
  })

  it('ends once when a worker, a client and the sweeper race', async () => {
    const { running, worker, outcomes } = await fleet(db)
    for (let round = 0; round < 10; round++) {
      const id = await running()
      const reported: FinishedTask[] = []
      const [first, second, third] = dbs.slice(0, 3).map(db => createFinisher(db, ended => reported.push(...ended)))
      const answers = await Promise.all([
        first!({
          ...{ id, status: 'succeeded', from: 'running', epoch: 0, workerId: worker.id, result: { text: 'Hi' } },
          ...{ source: 'ai', settlement: settlement(1, 'succeeded') },
        }),
        second!({ id, status: 'cancelled', from: 'live', epoch: null, workerId: null, settlement: null }),
        third!({ id, status: 'expired', from: 'live', epoch: null, workerId: null, settlement: null }),
        third!({ id, status: 'expired', from: 'live', epoch: null, workerId: null, settlement: null }),
      ])
      expect(answers.filter(answer => answer.ended)).toHaveLength(1)
      expect(reported).toMatchObject([
        { id, kind: 'generate', status: expect.any(String), source: expect.toBeOneOf(['ai', null]) },
      ])
      // Money follows the attempt: it is settled even if another process ended the task.
      expect(await outcomes(id)).toEqual(['succeeded'])
    }
  })

  it('is reported with the outcome that won', async () => {
    const { accept } = await fleet(db)
    const id = await accept()
    await createFinisher(db, () => {})({
      ...{ id, status: 'succeeded', from: 'queued', epoch: 0, workerId: null, result: null },
      ...{ source: 'rules', quality: 'low', settlement: null },
    })
    const [row] = await ask(
      db,
      'SELECT status, result, source, quality, error, started_at = finished_at AS at_once FROM tasks',
    )
    expect(row).toEqual({
      status: 'succeeded',
      result: null,
      source: 'rules',
      quality: 'low',
      error: null,
      at_once: true,
    })
  })

  it('a result that cannot be stored does not affect other tasks in the statement', async () => {
    const { running, worker, row } = await fleet(db)
    const [bad, good] = [await running(), await running()]
    const end = createFinisher(db, () => {})
    const ending = (id: string, model: string) =>
      end({
        ...{ id, status: 'succeeded' as const, from: 'running' as const, epoch: 0, workerId: worker.id, model },
        settlement: settlement(1, 'succeeded'),
      })
    const [first, second] = await Promise.allSettled([ending(bad, 'a\0'), ending(good, 'claude')])
    expect([first.status, second]).toEqual(['rejected', { status: 'fulfilled', value: { ended: true } }])
    expect([(await row(bad)).status, (await row(good)).status]).toEqual(['running', 'succeeded'])
  })
})

describe('an attempt', () => {
  it('marked as unknown is corrected once by a late answer', async () => {
    const { running, worker, outcomes } = await fleet(db)
    const id = await running()
    await clock.advance(11)
    await takeOverDeadClaims(db, 100, 5)
    expect(await outcomes(id)).toEqual(['unknown'])
    const usage = { inputTokens: 5, outputTokens: 7, cacheReadTokens: 1, cacheWriteTokens: 2 }
    const late = (outcome: string, costUsd: string) =>
      createFinisher(db, () => {})({
        ...{ id, status: 'succeeded', from: 'running', epoch: 0, workerId: worker.id, result: 1 },
        settlement: settlement(1, outcome, { usage, costUsd }),
      })
    expect(await late('succeeded', '0.000000000012')).toEqual({ ended: false })
    await late('timeout', '9')
    expect(
      await ask(
        db,
        'SELECT outcome, input_tokens::int, output_tokens::int, cache_read_tokens::int, cache_write_tokens::int, cost_usd, price_version FROM attempts',
      ),
    ).toEqual([
      {
        outcome: 'succeeded',
        input_tokens: 5,
        output_tokens: 7,
        cache_read_tokens: 1,
        cache_write_tokens: 2,
        cost_usd: '0.000000000012',
        price_version: 'a version',
      },
    ])
  })

  it('follows the previous one under the same claim in one statement', async () => {
    const { running, worker, row, outcomes } = await fleet(db)
    const id = await running()
    const next = createNextAttempt(db, worker.id)
    const request = {
      id,
      epoch: 0,
      n: 2,
      reservation: newReservation(call),
      tries: 1,
      settlement: settlement(1, 'timeout'),
    }
    expect(await next(request)).toEqual({ kind: 'claimed' })
    expect(await row(id)).toMatchObject({ attempts: 2, tries: 1, status: 'running' })
    expect(await outcomes(id)).toEqual(['timeout', 'started'])
    // It is unknown whether the first try was committed.
    expect(await next(request)).toEqual({ kind: 'claimed' })
    expect(await outcomes(id)).toEqual(['timeout', 'started'])
  })
})

describe('take-over of dead claims', () => {
  it('spares workers with a heartbeat in the last 10 seconds', async () => {
    await clock.stop()
    const { running, worker, row } = await fleet(db)
    const id = await running()
    await clock.advance(9)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 0, exhausted: [] })
    await writeHeartbeat(db, worker, [])
    await clock.advance(9)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 0, exhausted: [] })
    expect((await row(id)).status).toBe('running')
  })

  it('takes the claims of dead and missing workers only', async () => {
    const { running, row } = await fleet(db)
    const dead = await running()
    await clock.advance(11)
    const alive = await fleet(db)
    const kept = await alive.running()
    const gone = await fleet(db)
    const orphan = await gone.running()
    await deregisterWorker(db, gone.worker.id)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 2, exhausted: [] })
    expect(await row(dead)).toEqual({ status: 'queued', epoch: 1, attempts: 1, tries: 0, worker_id: null })
    expect(await row(orphan)).toMatchObject({ status: 'queued', epoch: 1 })
    expect(await row(kept)).toMatchObject({ status: 'running', epoch: 0 })
  })

  it('takes nothing within 10 seconds after Postgres started, because no heartbeat was possible', async () => {
    await clock.stop()
    const { running } = await fleet(db)
    await running()
    await clock.advance(60)
    await clock.startedAgo(9)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 0, exhausted: [] })
    await clock.startedAgo(11)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 1, exhausted: [] })
  })

  it('reports a task as exhausted after five dead workers without a settlement', async () => {
    const { accept, row, outcomes } = await fleet(db)
    const id = await accept()
    for (let epoch = 0; epoch < 5; epoch++) {
      const victim = await fleet(db)
      expect(await victim.claim(id, epoch, epoch + 1)).toBe(true)
      await clock.advance(11)
      const taken = await takeOverDeadClaims(db, 100, 5)
      expect(taken).toEqual(epoch < 4 ? { taken: 1, exhausted: [] } : { taken: 0, exhausted: [id] })
    }
    expect(await row(id)).toMatchObject({ status: 'running', epoch: 4 })
    expect(await outcomes(id)).toEqual(Array(5).fill('unknown'))

    const forgiven = await accept()
    for (let epoch = 0; epoch < 12; epoch += 2) {
      const victim = await fleet(db)
      await victim.claim(forgiven, epoch, epoch + 1)
      await clock.advance(11)
      expect((await takeOverDeadClaims(db, 100, 5)).exhausted).not.toContain(forgiven)
      const survivor = await fleet(db)
      const requeue = createRequeuer(db, survivor.worker.id)
      await survivor.claim(forgiven, epoch + 1, epoch + 2)
      await requeue({
        ...{ id: forgiven, epoch: epoch + 1, delayMs: 0, tries: 1 },
        settlement: settlement(epoch + 2, 'timeout'),
        claimed: true,
      })
    }
  })

  it('takes at most the given number', async () => {
    const { running } = await fleet(db)
    for (let n = 0; n < 5; n++) await running()
    await clock.advance(11)
    expect((await takeOverDeadClaims(db, 3, 5)).taken).toBe(3)
    expect((await takeOverDeadClaims(db, 3, 5)).taken).toBe(2)
  })

  it('closes attempts of dead workers whose task has ended, and no others', async () => {
    const { running, outcomes } = await fleet(db)
    const cancelled = await running()
    await createFinisher(db, () => {})({
      ...{ id: cancelled, status: 'cancelled', from: 'live', epoch: null, workerId: null, settlement: null },
    })
    const alive = await fleet(db)
    expect(await closeOrphanedAttempts(db, 100)).toBe(0)
    await clock.advance(11)
    await writeHeartbeat(db, alive.worker, [])
    const running2 = await alive.running()
    expect(await closeOrphanedAttempts(db, 100)).toBe(1)
    expect([await outcomes(cancelled), await outcomes(running2)]).toEqual([['unknown'], ['started']])
  })
})

it('an attempt of a live worker is closed when its task ended longer ago than any call can last', async () => {
  const { running, outcomes, worker } = await fleet(db)
  const ended = await running()
  const kept = await running({ deadlineSeconds: 86_400 })
  await clock.advance(7200)
  await createFinisher(db, () => {})({
    ...{ id: ended, status: 'expired', from: 'live', epoch: null, workerId: null, settlement: null },
  })
  await writeHeartbeat(db, worker, [])
  expect(await closeOrphanedAttempts(db, 100)).toBe(0)
  await clock.advance(3600)
  await writeHeartbeat(db, worker, [])
  expect(await closeOrphanedAttempts(db, 100), 'a call may last an hour').toBe(0)
  await clock.advance(360)
  await writeHeartbeat(db, worker, [])
  expect(await closeOrphanedAttempts(db, 100)).toBe(1)
  expect([await outcomes(ended), await outcomes(kept)]).toEqual([['unknown'], ['started']])
})

describe('a heartbeat', () => {
  it('returns lost claims: ended, requeued, taken over or unknown', async () => {
    const { running, worker } = await fleet(db)
    const other = await fleet(db)
    const kept = await running()
    const ended = await running()
    const taken = await running()
    const foreign = await other.running()
    await createFinisher(db, () => {})({
      ...{ id: ended, status: 'cancelled', from: 'live', epoch: null, workerId: null, settlement: null },
    })
    await createRequeuer(
      db,
      worker.id,
    )({
      ...{ id: taken, epoch: 0, delayMs: 0, tries: 0, settlement: settlement(1, 'aborted'), claimed: true },
    })
    const nowhere = newTask().id
    const held = [kept, ended, taken, foreign, nowhere].map(id => ({ id, epoch: 0 }))
    const gone = await writeHeartbeat(db, worker, held)
    expect(gone.map(claim => claim.id).toSorted()).toEqual([ended, taken, foreign, nowhere].toSorted())
    expect(gone.every(claim => claim.epoch === 0)).toBe(true)
  })

  it('lists the worker with its last fetch while its heartbeats continue', async () => {
    const { worker } = await fleet(db)
    expect(await listWorkers(db)).toEqual([
      expect.objectContaining({ id: worker.id, host: 'here', queues: ['default'], last_fetch_at: null }),
    ])
    await writeHeartbeat(db, { ...worker, active: 3, fetchedAgoMs: 0 }, [])
    await writeHeartbeat(db, { ...worker, active: 4, fetchedAgoMs: null }, [])
    const [known] = await listWorkers(db)
    expect(known).toMatchObject({ active: 4, last_fetch_at: expect.any(Date) })
    await clock.advance(11)
    expect(await listWorkers(db)).toEqual([])
  })

  it('have sent no heartbeat for ten seconds, and are deleted', async () => {
    const gone = await fleet(db)
    await clock.advance(11)
    const alive = await fleet(db)
    expect(await deleteDeadWorkers(db)).toEqual([gone.worker.id])
    expect(await deleteDeadWorkers(db)).toEqual([])
    expect((await listWorkers(db)).map(one => one.id)).toEqual([alive.worker.id])
  })

  it('do not exist within ten seconds after Postgres started', async () => {
    await clock.stop()
    await fleet(db)
    await clock.advance(60)
    await clock.startedAgo(9)
    expect(await deleteDeadWorkers(db)).toEqual([])
  })
})

it('live tasks past their deadline are overdue, the oldest deadline first', async () => {
  const { accept, running } = await fleet(db)
  const second = await running({ deadlineSeconds: 20 })
  const first = await accept({ deadlineSeconds: 10 })
  const ended = await accept({ deadlineSeconds: 10 })
  await accept({ deadlineSeconds: 100 })
  await createFinisher(db, () => {})({
    ...{ id: ended, status: 'cancelled', from: 'live', epoch: null, workerId: null, settlement: null },
  })
  await clock.advance(30)
  expect(await findOverdue(db, 10)).toEqual([first, second])
  expect(await findOverdue(db, 1)).toEqual([first])
})

import { beforeEach, describe, expect, it } from 'vitest'
import { ask, type Clock, fileDatabase, newBeat, newNeed, newTask, settlement } from '#shared/testing/postgres.ts'
import {
  closeOrphanedAttempts,
  createClaimer,
  createNextAttempt,
  createRequeuer,
  takeOverDeadClaims,
} from './claims.ts'
import { createInserter, type NewTask } from './insert.ts'
import type { Db } from './pool.ts'
import { createEnder, createLoader, type Ended, findOverdue } from './tasks.ts'
import { beat, buryDead, leave, listWorkers } from './workers.ts'

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

/** A database with a worker that lives, and tasks in it. */
async function fleet(db: Db) {
  const worker = newBeat()
  await beat(db, worker, [])
  const insert = createInserter(db)
  const claim = createClaimer(db, worker.id)
  const accept = async (more: Partial<NewTask> = {}) => {
    const task = newTask(more)
    await insert(task)
    return task.id
  }
  const claimFirst = async (id: string, epoch = 0, n = 1) =>
    (await claim({ id, epoch, n, need: newNeed(call) })).kind === 'claimed'
  return {
    worker,
    accept,
    claim: claimFirst,
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
  it('writes the attempt down before the call is made', async () => {
    const { accept, claim, row, worker } = await fleet(db)
    const id = await accept()
    expect(await claim(id)).toBe(true)
    expect(await row(id)).toEqual({ status: 'running', epoch: 0, attempts: 1, tries: 0, worker_id: worker.id })
    expect(await ask(db, 'SELECT n, worker_id, provider, model, outcome, finished_at FROM attempts')).toEqual([
      { n: 1, worker_id: worker.id, ...call, outcome: 'started', finished_at: null },
    ])
  })

  it('is had by one of many workers, and the others learn that it is gone', async () => {
    const { accept, outcomes } = await fleet(db)
    const id = await accept()
    const claimers = dbs.map(db => createClaimer(db, newBeat().id))
    const got = await Promise.all(claimers.map(claim => claim({ id, epoch: 0, n: 1, need: newNeed(call) })))
    expect(got.map(one => one.kind).toSorted()).toEqual(['claimed', 'lost', 'lost', 'lost'])
    expect(await outcomes(id)).toEqual(['started'])
  })

  it('is not to be had after the deadline', async () => {
    const { accept, claim, row } = await fleet(db)
    const id = await accept({ deadlineSeconds: 5 })
    await clock.advance(5)
    expect(await claim(id)).toBe(false)
    expect((await row(id)).status).toBe('queued')
  })

  it('is not to be had with the epoch of an earlier dispatch', async () => {
    const { accept, claim, worker } = await fleet(db)
    const id = await accept()
    await createRequeuer(db, worker.id)({ id, epoch: 0, delayMs: 0, tries: 0, settlement: null, claimed: false })
    expect(await claim(id, 0)).toBe(false)
    expect(await claim(id, 1)).toBe(true)
  })
})

describe('the load of a dispatched task', () => {
  it('knows how long is left and who can never answer', async () => {
    const { running, worker } = await fleet(db)
    const id = await running({ deadlineSeconds: 100 })
    await createRequeuer(
      db,
      worker.id,
    )({ id, epoch: 0, delayMs: 0, tries: 1, settlement: settlement(1, 'auth'), claimed: true })
    await clock.advance(40)
    const load = createLoader(db, ['auth', 'unknown_model'])
    const task = await load({ id, epoch: 1 })
    expect(task).toMatchObject({ id, epoch: 1, attempts: 1, tries: 1, dead_ends: ['anthropic/claude'] })
    expect(task!.left_ms).toBeGreaterThan(0)
    expect(task!.left_ms).toBeLessThanOrEqual(60_000)
    expect(await load({ id, epoch: 0 })).toBeNull()
  })
})

describe('the end of a task', () => {
  it('is reserved to the worker that holds the claim', async () => {
    const { running, row, outcomes } = await fleet(db)
    const id = await running()
    const end = createEnder(db, () => {})
    const stranger = newBeat().id
    const ending = { id, status: 'succeeded', from: 'running', epoch: 0, workerId: stranger } as const
    expect(await end({ ...ending, result: 1, settlement: null })).toEqual({ ended: false })
    expect((await row(id)).status).toBe('running')
    expect(await outcomes(id)).toEqual(['started'])
  })

  it('comes once when a worker, a client and the sweeper all bring it', async () => {
    const { running, worker, outcomes } = await fleet(db)
    for (let round = 0; round < 10; round++) {
      const id = await running()
      const heard: Ended[] = []
      const [first, second, third] = dbs.slice(0, 3).map(db => createEnder(db, ended => heard.push(...ended)))
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
      expect(heard).toMatchObject([
        { id, kind: 'generate', status: expect.any(String), source: expect.toBeOneOf(['ai', null]) },
      ])
      // Money follows the attempt: it is settled whoever ended the task.
      expect(await outcomes(id)).toEqual(['succeeded'])
    }
  })

  it('is told of in the words of who brought it', async () => {
    const { accept } = await fleet(db)
    const id = await accept()
    await createEnder(db, () => {})({
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

  it('of a task whose result cannot be stored does not keep its neighbours from theirs', async () => {
    const { running, worker, row } = await fleet(db)
    const [bad, good] = [await running(), await running()]
    const end = createEnder(db, () => {})
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
  it('that became unknown is corrected by a late answer, once', async () => {
    const { running, worker, outcomes } = await fleet(db)
    const id = await running()
    await clock.advance(11)
    await takeOverDeadClaims(db, 100, 5)
    expect(await outcomes(id)).toEqual(['unknown'])
    const usage = { inputTokens: 5, outputTokens: 7, cacheReadTokens: 1, cacheWriteTokens: 2 }
    const late = (outcome: string, costUsd: string) =>
      createEnder(db, () => {})({
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

  it('follows another under the same claim in one step', async () => {
    const { running, worker, row, outcomes } = await fleet(db)
    const id = await running()
    const next = createNextAttempt(db, worker.id)
    const request = { id, epoch: 0, n: 2, need: newNeed(call), tries: 1, settlement: settlement(1, 'timeout') }
    expect(await next(request)).toEqual({ kind: 'claimed' })
    expect(await row(id)).toMatchObject({ attempts: 2, tries: 1, status: 'running' })
    expect(await outcomes(id)).toEqual(['timeout', 'started'])
    // It was not known whether the first time had been committed.
    expect(await next(request)).toEqual({ kind: 'claimed' })
    expect(await outcomes(id)).toEqual(['timeout', 'started'])
  })
})

describe('taking over', () => {
  it('leaves the claims of those who have beaten within 10 seconds', async () => {
    await clock.stop()
    const { running, worker, row } = await fleet(db)
    const id = await running()
    await clock.advance(9)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 0, hopeless: [] })
    await beat(db, worker, [])
    await clock.advance(9)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 0, hopeless: [] })
    expect((await row(id)).status).toBe('running')
  })

  it('takes those of the dead and of the vanished, and no others', async () => {
    const { running, row } = await fleet(db)
    const dead = await running()
    await clock.advance(11)
    const alive = await fleet(db)
    const kept = await alive.running()
    const gone = await fleet(db)
    const orphan = await gone.running()
    await leave(db, gone.worker.id)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 2, hopeless: [] })
    expect(await row(dead)).toEqual({ status: 'queued', epoch: 1, attempts: 1, tries: 0, worker_id: null })
    expect(await row(orphan)).toMatchObject({ status: 'queued', epoch: 1 })
    expect(await row(kept)).toMatchObject({ status: 'running', epoch: 0 })
  })

  it('takes nothing within 10 seconds of Postgres’s own return, since nobody could beat', async () => {
    await clock.stop()
    const { running } = await fleet(db)
    await running()
    await clock.advance(60)
    await clock.startedAgo(9)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 0, hopeless: [] })
    await clock.startedAgo(11)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 1, hopeless: [] })
  })

  it('gives up a task that has killed five workers, which nothing but a settlement forgives', async () => {
    const { accept, row, outcomes } = await fleet(db)
    const id = await accept()
    for (let epoch = 0; epoch < 5; epoch++) {
      const victim = await fleet(db)
      expect(await victim.claim(id, epoch, epoch + 1)).toBe(true)
      await clock.advance(11)
      const taken = await takeOverDeadClaims(db, 100, 5)
      expect(taken).toEqual(epoch < 4 ? { taken: 1, hopeless: [] } : { taken: 0, hopeless: [id] })
    }
    expect(await row(id)).toMatchObject({ status: 'running', epoch: 4 })
    expect(await outcomes(id)).toEqual(Array(5).fill('unknown'))

    const forgiven = await accept()
    for (let epoch = 0; epoch < 12; epoch += 2) {
      const victim = await fleet(db)
      await victim.claim(forgiven, epoch, epoch + 1)
      await clock.advance(11)
      expect((await takeOverDeadClaims(db, 100, 5)).hopeless).not.toContain(forgiven)
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

  it('takes at most as many as it was asked to', async () => {
    const { running } = await fleet(db)
    for (let n = 0; n < 5; n++) await running()
    await clock.advance(11)
    expect((await takeOverDeadClaims(db, 3, 5)).taken).toBe(3)
    expect((await takeOverDeadClaims(db, 3, 5)).taken).toBe(2)
  })

  it('closes the attempts of the dead whose task has ended otherwise, and only theirs', async () => {
    const { running, outcomes } = await fleet(db)
    const cancelled = await running()
    await createEnder(db, () => {})({
      ...{ id: cancelled, status: 'cancelled', from: 'live', epoch: null, workerId: null, settlement: null },
    })
    const alive = await fleet(db)
    expect(await closeOrphanedAttempts(db, 100)).toBe(0)
    await clock.advance(11)
    await beat(db, alive.worker, [])
    const running2 = await alive.running()
    expect(await closeOrphanedAttempts(db, 100)).toBe(1)
    expect([await outcomes(cancelled), await outcomes(running2)]).toEqual([['unknown'], ['started']])
  })
})

it('an attempt of a living worker is closed when its task has ended longer ago than a call can last', async () => {
  const { running, outcomes, worker } = await fleet(db)
  const ended = await running()
  const kept = await running({ deadlineSeconds: 86_400 })
  await clock.advance(7200)
  await createEnder(db, () => {})({
    ...{ id: ended, status: 'expired', from: 'live', epoch: null, workerId: null, settlement: null },
  })
  await beat(db, worker, [])
  expect(await closeOrphanedAttempts(db, 100)).toBe(0)
  await clock.advance(3600)
  await beat(db, worker, [])
  expect(await closeOrphanedAttempts(db, 100), 'a call may last an hour').toBe(0)
  await clock.advance(360)
  await beat(db, worker, [])
  expect(await closeOrphanedAttempts(db, 100)).toBe(1)
  expect([await outcomes(ended), await outcomes(kept)]).toEqual([['unknown'], ['started']])
})

describe('a beat', () => {
  it('tells which claims are gone: ended, given back, another’s, or unknown', async () => {
    const { running, worker } = await fleet(db)
    const other = await fleet(db)
    const kept = await running()
    const ended = await running()
    const taken = await running()
    const foreign = await other.running()
    await createEnder(db, () => {})({
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
    const gone = await beat(db, worker, held)
    expect(gone.map(claim => claim.id).toSorted()).toEqual([ended, taken, foreign, nowhere].toSorted())
    expect(gone.every(claim => claim.epoch === 0)).toBe(true)
  })

  it('makes a worker known, for as long as it beats, with when it last fetched', async () => {
    const { worker } = await fleet(db)
    expect(await listWorkers(db)).toEqual([
      expect.objectContaining({ id: worker.id, host: 'here', queues: ['default'], last_fetch_at: null }),
    ])
    await beat(db, { ...worker, active: 3, fetchedAgoMs: 0 }, [])
    await beat(db, { ...worker, active: 4, fetchedAgoMs: null }, [])
    const [known] = await listWorkers(db)
    expect(known).toMatchObject({ active: 4, last_fetch_at: expect.any(Date) })
    await clock.advance(11)
    expect(await listWorkers(db)).toEqual([])
  })

  it('are those that have not beaten for ten seconds, and are struck off', async () => {
    const gone = await fleet(db)
    await clock.advance(11)
    const alive = await fleet(db)
    expect(await buryDead(db)).toEqual([gone.worker.id])
    expect(await buryDead(db)).toEqual([])
    expect((await listWorkers(db)).map(one => one.id)).toEqual([alive.worker.id])
  })

  it('are nobody while Postgres has been back for less than ten seconds', async () => {
    await clock.stop()
    await fleet(db)
    await clock.advance(60)
    await clock.startedAgo(9)
    expect(await buryDead(db)).toEqual([])
  })
})

it('overdue are live tasks whose deadline has passed, the longest overdue first', async () => {
  const { accept, running } = await fleet(db)
  const second = await running({ deadlineSeconds: 20 })
  const first = await accept({ deadlineSeconds: 10 })
  const ended = await accept({ deadlineSeconds: 10 })
  await accept({ deadlineSeconds: 100 })
  await createEnder(db, () => {})({
    ...{ id: ended, status: 'cancelled', from: 'live', epoch: null, workerId: null, settlement: null },
  })
  await clock.advance(30)
  expect(await findOverdue(db, 10)).toEqual([first, second])
  expect(await findOverdue(db, 1)).toEqual([first])
})

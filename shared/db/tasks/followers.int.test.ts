import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
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
import { createClaimer } from '../claims/claim.ts'
import { createRequeuer } from '../claims/requeue.ts'
import { readOccupancy } from '../dispatches.ts'
import type { Db } from '../pool.ts'
import { writeHeartbeat } from '../workers.ts'
import { createFinisher, type TaskOutcome } from './finish.ts'
import { createFollower } from './follow.ts'
import { createInserter } from './insert.ts'
import { releaseStrayFollowers } from './release.ts'
import type { FinishedTask } from './row.ts'

/** Tasks that wait for the answer of an identical task. */

const database = fileDatabase(2)
let db: Db
let clock: Clock
beforeEach(() => {
  db = database.dbs[0]
  clock = database.clock
})

const KEY = randomUUID()
async function accept(deadlineSeconds = 600): Promise<string> {
  const task = newTask({ apiKeyId: KEY, cacheKey: Buffer.alloc(32, 7), deadlineSeconds })
  await createInserter(db)(task)
  return task.id
}
const follow = (id: string, leaderId: string, epoch = 0) => createFollower(db)({ id, epoch, leaderId })
const row = async (id: string) =>
  (
    await ask<{
      status: string
      source: string | null
      quality: string | null
      leader: boolean
      backlog: boolean
      epoch: number
    }>(
      db,
      `SELECT status, source, quality, epoch, leader_id IS NOT NULL AS leader, dispatched_at IS NULL AS backlog FROM tasks WHERE id = $1`,
      [id],
    )
  )[0]!

/** Ends a queued task, and resolves when its followers are released. */
async function end(id: string, more: Partial<TaskOutcome>): Promise<FinishedTask[]> {
  const finished: FinishedTask[] = []
  const finish = createFinisher(db, ended => finished.push(...ended))
  await finish({ id, status: 'succeeded', from: 'queued', epoch: null, workerId: null, settlement: null, ...more })
  for (;;) {
    const [left] = await ask<{ n: number }>(db, 'SELECT count(*)::int AS n FROM tasks WHERE leader_id = $1', [id])
    if (left!.n === 0) return finished
  }
}

describe('a follower', () => {
  it('is in no queue and no backlog', async () => {
    const [leader, follower] = [await accept(), await accept()]
    expect(await follow(follower, leader)).toBe(true)
    expect(await row(follower)).toMatchObject({ status: 'queued', leader: true, backlog: false, epoch: 1 })
    await ask(db, 'UPDATE tasks SET dispatched_at = NULL WHERE id = $1', [leader])
    expect(await readOccupancy(db, 100)).toMatchObject([{ waiting: 0, delayed: 0 }])
  })

  it.each([
    ['an answer', { source: 'ai', quality: 'high' }, true],
    ['a fresh answer that was remembered', { source: 'cache', quality: 'high' }, true],
    ['a stale one', { source: 'cache', quality: 'medium' }, false],
    ['a template', { source: 'rules', quality: 'low' }, false],
  ] as const)('gets the result of its leader if that is %s', async (_, how, shared) => {
    const [leader, follower] = [await accept(), await accept()]
    await follow(follower, leader)
    const finished = await end(leader, { ...how, result: { text: 'Hi' }, provider: 'p', model: 'm' })
    if (shared) {
      expect(await row(follower)).toMatchObject({
        status: 'succeeded',
        source: 'cache',
        quality: 'high',
        leader: false,
      })
      expect(await ask(db, 'SELECT result, provider, model FROM tasks WHERE id = $1', [follower])).toEqual([
        { result: { text: 'Hi' }, provider: 'p', model: 'm' },
      ])
      expect(finished.map(one => one.id).toSorted()).toEqual([leader, follower].toSorted())
      expect(finished.map(one => one.result)).toEqual([{ text: 'Hi' }, { text: 'Hi' }])
    } else {
      expect(await row(follower)).toMatchObject({ status: 'queued', source: null, leader: false, backlog: true })
      expect(await ask(db, 'SELECT result FROM tasks WHERE id = $1', [follower])).toEqual([{ result: null }])
    }
  })

  it.each(['failed', 'cancelled', 'expired'] as const)(
    'returns to its backlog when its leader has %s',
    async status => {
      const [leader, follower] = [await accept(), await accept()]
      await follow(follower, leader)
      await end(leader, { status, from: 'live' })
      expect(await row(follower)).toMatchObject({ status: 'queued', leader: false, backlog: true })
    },
  )

  it('can be cancelled', async () => {
    const [leader, follower] = [await accept(), await accept()]
    await follow(follower, leader)
    await end(follower, { status: 'cancelled', from: 'live' })
    await end(leader, { source: 'ai', result: 1 })
    expect((await row(follower)).status).toBe('cancelled')
  })

  it('cannot follow itself, an ended task, a follower or a task that will not call soon, and cannot follow if it has followers', async () => {
    const [ended, leader, second, third] = [await accept(), await accept(), await accept(), await accept()]
    await end(ended, { status: 'cancelled' })
    expect(await follow(leader, ended)).toBe(false)
    expect(await follow(leader, leader)).toBe(false)
    expect(await follow(second, leader)).toBe(true)
    expect(await follow(third, second)).toBe(false)
    // A leader with followers cannot follow.
    expect(await follow(leader, third)).toBe(false)
    await createRequeuer(
      db,
      newBeat().id,
    )({
      ...{ id: leader, epoch: 0, delayMs: 60_000, tries: 0, settlement: null, claimed: false },
    })
    expect(await follow(third, leader)).toBe(false)
  })

  it('that began to follow while its leader ended is released', async () => {
    const [first, second] = database.dbs as [Db, Db]
    let begun = 0
    for (let n = 0; n < 40; n++) {
      const [leader, follower] = [await accept(), await accept()]
      const finish = createFinisher(first, () => {})
      const following = createFollower(second)({ id: follower, epoch: 0, leaderId: leader })
      // In varying order.
      await setTimeout(n % 4)
      await finish({
        ...{ id: leader, status: 'succeeded', from: 'queued', epoch: null, workerId: null, settlement: null },
        ...{ result: 1, source: 'ai', quality: 'high' },
      })
      if (!(await following)) continue
      begun++
      // By the finisher, or by the sweeper.
      for (let seen = await row(follower); seen.leader; seen = await row(follower)) await releaseStrayFollowers(db, 100)
    }
    expect(begun).toBeGreaterThan(0)
  })

  it('is released by the sweeper if its leader cannot answer, and only then', async () => {
    const worker = newBeat()
    await writeHeartbeat(db, worker, [])
    const leader = await accept()
    const [patient, urgent] = [await accept(), await accept(60)]
    await follow(patient, leader)
    await follow(urgent, leader)
    await createClaimer(db, worker.id)({ id: leader, epoch: 0, n: 1, reservation: newReservation() })
    expect(await releaseStrayFollowers(db, 100)).toBe(0)
    await clock.advance(56)
    expect(await releaseStrayFollowers(db, 100)).toBe(1)
    expect(await row(urgent)).toMatchObject({ leader: false, backlog: true })
    await createRequeuer(
      db,
      worker.id,
    )({
      ...{ id: leader, epoch: 0, delayMs: 60_000, tries: 1, settlement: settlement(1, 'overloaded'), claimed: true },
    })
    expect(await releaseStrayFollowers(db, 100)).toBe(1)
    expect(await row(patient)).toMatchObject({ leader: false, backlog: true })
  })
})

it('waiting between claims does not reset the count of dead workers', async () => {
  const worker = newBeat()
  await writeHeartbeat(db, worker, [])
  const id = await accept()
  await ask(db, 'UPDATE tasks SET claims = 3 WHERE id = $1', [id])
  const requeue = createRequeuer(db, worker.id)
  await requeue({ id, epoch: 0, delayMs: 0, tries: 0, settlement: null, claimed: false })
  expect(await ask(db, 'SELECT claims FROM tasks WHERE id = $1', [id])).toEqual([{ claims: 3 }])
  await createClaimer(db, worker.id)({ id, epoch: 1, n: 1, reservation: newReservation() })
  await requeue({ id, epoch: 1, delayMs: 0, tries: 0, settlement: settlement(1, 'timeout'), claimed: true })
  expect(await ask(db, 'SELECT claims FROM tasks WHERE id = $1', [id])).toEqual([{ claims: 0 }])
})

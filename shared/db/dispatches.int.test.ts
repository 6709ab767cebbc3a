import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, type Clock, fileDatabase, newBeat, newReservation, newTask } from '#shared/testing/postgres.ts'
import { createClaimer } from './claims/claim.ts'
import { createRequeuer } from './claims/requeue.ts'
import { type DispatchCursor, listDispatched, readHeadroom, readOccupancy, takeBacklog } from './dispatches.ts'
import type { Db } from './pool.ts'
import { createInserter } from './tasks/insert.ts'
import type { NewTask } from './tasks/new-task.ts'

const database = fileDatabase(1)
let db: Db
let clock: Clock
const [anna, bert] = [randomUUID(), randomUUID()].toSorted() as [string, string]
beforeEach(() => {
  db = database.dbs[0]
  clock = database.clock
})

const insert = (tasks: Partial<NewTask>[]) => {
  const insert = createInserter(db)
  return Promise.all(
    tasks.map(async more => {
      const task = newTask(more)
      await insert(task)
      return task.id
    }),
  )
}
const times = (count: number, task: Partial<NewTask>) => Array.from({ length: count }, () => task)
const flow = (apiKeyId: string, priority = 'normal') => ({ apiKeyId, priority })

describe('a backlog', () => {
  it('contains queued tasks that are not dispatched, by key and priority, with the tasks of each flow in the queue', async () => {
    await insert([
      ...times(3, { apiKeyId: anna, dispatched: false }),
      ...times(2, { apiKeyId: anna, dispatched: true }),
      { apiKeyId: anna, priority: 'low', dispatched: false },
      { apiKeyId: bert, dispatched: true },
    ])
    expect(await readOccupancy(db, 100)).toEqual([
      { api_key_id: anna, priority: 'low', weight: 1, waiting: 0, delayed: 0 },
      { api_key_id: anna, priority: 'normal', weight: 1, waiting: 2, delayed: 0 },
    ])
    expect((await readOccupancy(db, 1))[1]).toMatchObject({ waiting: 1 })
  })

  it('counts tasks due later separately, and no claimed tasks', async () => {
    const worker = newBeat()
    const [delayed, claimed] = await insert([
      ...times(4, { apiKeyId: anna, dispatched: true }),
      { apiKeyId: anna, dispatched: false },
    ])
    await createRequeuer(
      db,
      worker.id,
    )({ id: delayed!, epoch: 0, delayMs: 60_000, tries: 0, settlement: null, claimed: false })
    await createClaimer(db, worker.id)({ id: claimed!, epoch: 0, n: 1, reservation: newReservation() })
    expect(await readOccupancy(db, 100)).toMatchObject([{ waiting: 2, delayed: 1 }])
  })

  it('has the weight of its key', async () => {
    await ask(
      db,
      `INSERT INTO api_keys (id, name, secret_hash, hint, scopes, weight) VALUES ($1, 'a', '\\x00', 'h', '{submit}', 7)`,
      [anna],
    )
    await insert([{ apiKeyId: anna, dispatched: false }])
    expect(await readOccupancy(db, 100)).toMatchObject([{ weight: 7 }])
  })

  it('gives the oldest tasks first, each once, up to the room of each flow', async () => {
    const first = await insert(times(2, { apiKeyId: anna, dispatched: false }))
    await clock.advance(1)
    const second = await insert(times(2, { apiKeyId: anna, dispatched: false }))
    const others = await insert(times(3, { apiKeyId: bert, dispatched: false }))
    const take = async (anna_: number, bert_: number) =>
      (
        await takeBacklog(db, [
          { ...flow(anna), room: anna_ },
          { ...flow(bert), room: bert_ },
        ])
      ).map(task => task.id)
    const taken = await take(2, 1)
    expect(taken.filter(id => first.includes(id))).toHaveLength(2)
    expect(taken.filter(id => others.includes(id))).toHaveLength(1)
    expect(taken).toHaveLength(3)
    expect((await take(100, 0)).toSorted()).toEqual(second.toSorted())
    expect(await take(100, 100)).toHaveLength(2)
    expect(await take(100, 100)).toEqual([])
    expect(await readOccupancy(db, 100)).toEqual([])
  })

  it('can be read for one flow', async () => {
    await insert([...times(3, { apiKeyId: anna, dispatched: true }), { apiKeyId: bert, dispatched: false }])
    expect(await readHeadroom(db, flow(anna), 100)).toEqual({ backlog: 0, dispatched: 3 })
    expect(await readHeadroom(db, flow(anna), 2)).toEqual({ backlog: 0, dispatched: 2 })
    expect(await readHeadroom(db, flow(anna, 'low'), 100)).toEqual({ backlog: 0, dispatched: 0 })
    expect(await readHeadroom(db, flow(bert), 100)).toEqual({ backlog: 1, dispatched: 0 })
  })
})

describe('the walk over dispatched tasks', () => {
  it('returns each row once, in slices, and only rows dispatched more than three seconds ago', async () => {
    await clock.stop()
    const old = await insert([
      ...times(5, { apiKeyId: anna, dispatched: true }),
      ...times(4, { apiKeyId: bert, dispatched: true }),
      { apiKeyId: bert, dispatched: false },
    ])
    await clock.advance(4)
    await insert(times(3, { apiKeyId: anna, dispatched: true }))
    const seen: string[] = []
    let position: DispatchCursor | null = null
    for (;;) {
      const rows: Awaited<ReturnType<typeof listDispatched>> = await listDispatched(db, position, 2)
      seen.push(...rows.map(row => row.id))
      if (rows.length < 2) break
      position = rows.at(-1)!
    }
    expect(seen.toSorted()).toEqual(old.slice(0, 9).toSorted())
  })

  it('returns the remaining delay', async () => {
    const [id] = await insert([{ apiKeyId: anna, dispatched: true }])
    await createRequeuer(
      db,
      newBeat().id,
    )({ id: id!, epoch: 0, delayMs: 60_000, tries: 0, settlement: null, claimed: false })
    await clock.advance(10)
    const [row] = await listDispatched(db, null, 10)
    expect(row).toMatchObject({ id, epoch: 1, queue: 'default', priority: 'normal' })
    expect(row!.delayMs).toBeGreaterThan(40_000)
    expect(row!.delayMs).toBeLessThanOrEqual(50_000)
  })
})

import { randomBytes, randomUUID } from 'node:crypto'
import pg from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, fileDatabase, newTask } from '#shared/testing/postgres.ts'
import { pruneIdempotencyKeys } from '../idempotency.ts'
import { idempotencyLock } from '../locks.ts'
import type { Db } from '../pool.ts'
import { createInserter } from './insert.ts'
import type { NewTask } from './new-task.ts'

const database = fileDatabase(4)
let db: Db
beforeEach(() => {
  db = database.dbs[0]
})

const count = async (db: Db) => (await ask<{ n: number }>(db, 'SELECT count(*)::int AS n FROM tasks'))[0]!.n
const HASH = randomBytes(32)
const OTHER = randomBytes(32)
const owner = randomUUID()
/** A value that Postgres cannot store. */
const POISON = { kind: 'a\0b' }
const keyed = (key: string, requestHash = HASH, more: Partial<NewTask> = {}) =>
  newTask({ apiKeyId: owner, idempotency: { key, requestHash }, ...more })

describe('a task without an Idempotency-Key', () => {
  it('is stored unchanged and queued, with its deadline by the clock of Postgres', async () => {
    const task = newTask({ metadata: { a: ['ü', null] }, options: { stream: true }, deadlineSeconds: 30 })
    const outcome = await createInserter(db)(task)
    const [row] = await ask(
      db,
      `SELECT id, kind, status, queue, priority, api_key_id, input, options, metadata, epoch, attempts, tries, claims,
        worker_id, dispatched_at = created_at AS dispatched, created_at, run_at = created_at AS at_once,
        extract(epoch FROM deadline_at - created_at)::int AS seconds FROM tasks`,
    )
    expect(row).toEqual({
      id: task.id,
      kind: 'generate',
      status: 'queued',
      queue: 'default',
      priority: 'normal',
      api_key_id: task.apiKeyId,
      input: { prompt: 'Hi' },
      options: { stream: true },
      metadata: { a: ['ü', null] },
      epoch: 0,
      attempts: 0,
      tries: 0,
      claims: 0,
      worker_id: null,
      dispatched: true,
      created_at: outcome.kind === 'inserted' && outcome.createdAt,
      at_once: true,
      seconds: 30,
    })
  })

  it.each([[{ text: 'Hi' }], [null], [0], ['']])('stored with an answer has ended: %j', async result => {
    const answer = { result, provider: 'anthropic', model: 'claude' }
    await createInserter(db)(newTask({ answer, dispatched: false }))
    expect(await ask(db, 'SELECT status, source, result, finished_at = created_at AS at_once FROM tasks')).toEqual([
      { status: 'succeeded', source: 'cache', result, at_once: true },
    ])
  })

  it('shares a statement with 200 others, and fails alone if Postgres rejects it', async () => {
    const insert = createInserter(db)
    const tasks = Array.from({ length: 201 }, (_, n) => newTask(n === 77 ? POISON : {}))
    const outcomes = await Promise.allSettled(tasks.map(insert))
    expect(outcomes.flatMap((one, n) => (one.status === 'rejected' ? [n] : []))).toEqual([77])
    expect(await count(db)).toBe(200)
  })

  it('with an id that exists is refused', async () => {
    const insert = createInserter(db)
    const task = newTask()
    await insert(task)
    const again = insert(task)
    const stranger = insert(newTask())
    await expect(again).rejects.toThrow(/duplicate key/)
    expect((await stranger).kind).toBe('inserted')
    expect(await count(db)).toBe(2)
  })
})

describe('an Idempotency-Key', () => {
  it('creates one task, and later requests return it, whatever they contain', async () => {
    const insert = createInserter(db)
    const first = keyed('a')
    expect((await insert(first)).kind).toBe('inserted')
    expect(await insert(keyed('a'))).toEqual({ kind: 'exists', taskId: first.id, requestHash: HASH })
    expect(await insert(keyed('a', OTHER))).toEqual({ kind: 'exists', taskId: first.id, requestHash: HASH })
    expect(await count(db)).toBe(1)
  })

  it('belongs to one API key', async () => {
    const insert = createInserter(db)
    await insert(keyed('a'))
    expect((await insert(keyed('a', HASH, { apiKeyId: randomUUID() }))).kind).toBe('inserted')
  })

  it('is in flight while the first request is being accepted by the same process', async () => {
    const insert = createInserter(db)
    const outcomes = await Promise.all([insert(keyed('a')), insert(keyed('a')), insert(keyed('b'))])
    expect(outcomes.map(one => one.kind)).toEqual(['inserted', 'in_flight', 'inserted'])
    expect((await insert(keyed('a'))).kind).toBe('exists')
  })

  it('is in flight, without blocking other requests, until another process commits it', async () => {
    const insert = createInserter(db)
    // The other process is in the middle of its transaction.
    const holder = new pg.Client({ connectionString: database.url })
    await holder.connect()
    await holder.query(`SELECT pg_advisory_lock(${idempotencyLock('$1::uuid', '$2::text')})`, [owner, 'a'])
    const outcomes = await Promise.all([insert(keyed('a')), insert(keyed('b'))])
    await holder.query('SELECT pg_advisory_unlock_all()')
    await holder.end()
    expect(outcomes.map(one => one.kind)).toEqual(['in_flight', 'inserted'])
    expect((await insert(keyed('a'))).kind).toBe('inserted')
  })

  it('creates one task when many processes use it at once', async () => {
    const inserters = database.dbs.map(createInserter)
    const tasks = Array.from({ length: 10 }, (_, key) => inserters.map(() => keyed(`key ${key}`))).flat()
    const outcomes = await Promise.all(tasks.map((task, n) => inserters[n % 4]!(task)))
    expect(outcomes.filter(one => one.kind === 'inserted')).toHaveLength(10)
    expect(await count(db)).toBe(10)
    const [rows] = await ask<{ same: boolean }>(
      db,
      'SELECT bool_and(k.task_id = t.id) AS same FROM idempotency_keys k LEFT JOIN tasks t ON t.id = k.task_id',
    )
    expect(rows!.same).toBe(true)
    for (const [n, outcome] of outcomes.entries()) {
      if (outcome.kind !== 'exists') continue
      const winner = tasks.find(
        (task, m) => task.idempotency!.key === tasks[n]!.idempotency!.key && outcomes[m]!.kind === 'inserted',
      )
      expect(outcome.taskId).toBe(winner!.id)
    }
  })

  it('can be used again after 24 hours', async () => {
    const { clock } = database
    await clock.stop()
    const insert = createInserter(db)
    await insert(keyed('a'))
    await clock.advance(24 * 3600 - 1)
    expect((await insert(keyed('a', OTHER))).kind).toBe('exists')
    await clock.advance(1)
    const second = keyed('a', OTHER)
    expect((await insert(second)).kind).toBe('inserted')
    expect(await insert(keyed('a'))).toEqual({ kind: 'exists', taskId: second.id, requestHash: OTHER })
  })

  it('is deleted after it has expired, and not before', async () => {
    const { clock } = database
    const insert = createInserter(db)
    await insert(keyed('old'))
    await clock.advance(3600)
    await insert(keyed('new'))
    await clock.advance(23 * 3600)
    await pruneIdempotencyKeys(db)
    expect(await ask(db, 'SELECT key FROM idempotency_keys')).toEqual([{ key: 'new' }])
  })

  it('stays free if its task could not be stored', async () => {
    const insert = createInserter(db)
    const [bad, good] = await Promise.allSettled([insert(keyed('a', HASH, POISON)), insert(keyed('b'))])
    expect([bad.status, good.status]).toEqual(['rejected', 'fulfilled'])
    expect((await insert(keyed('a'))).kind).toBe('inserted')
  })
})

import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { newId } from '#shared/ids.ts'
import { ask, connect, fileDatabase, newBeat, newReservation, newTask } from '#shared/testing/postgres.ts'
import {
  MAX_ROWS,
  readCalls,
  readCapacity,
  readRunning,
  readWaitingLines,
  readWaitingTasks,
  type WaitingTasks,
} from './backlog-stats.ts'
import { createClaimer } from './claims/claim.ts'
import { createRequeuer } from './claims/requeue.ts'
import type { Db } from './pool.ts'
import { createInserter } from './tasks/insert.ts'
import type { NewTask } from './tasks/new-task.ts'
import { writeHeartbeat } from './workers.ts'

const database = fileDatabase(1)
let db: Db
beforeEach(() => {
  db = database.dbs[0]
})

const insert = (tasks: Partial<NewTask>[]) => {
  const insert = createInserter(db)
  return Promise.all(tasks.map(more => insert(newTask(more))))
}
const times = (count: number, task: Partial<NewTask>) => Array.from({ length: count }, () => task)
const sum = (rows: WaitingTasks[], queue: string) =>
  rows.filter(row => row.queue === queue).reduce((sum, row) => sum + row.waiting, 0)

describe('queued tasks', () => {
  it('are counted by queue and kind, whether dispatched or not', async () => {
    const key = randomUUID()
    await insert([
      ...times(3, { apiKeyId: key, dispatched: false }),
      ...times(2, { dispatched: true }),
      ...times(4, { kind: 'moderate', queue: 'moderate', priority: 'interactive', dispatched: true }),
    ])
    await database.clock.advance(7)
    const rows = await readWaitingTasks(db)
    expect([sum(rows, 'default'), sum(rows, 'moderate')]).toEqual([5, 4])
    expect(rows.every(row => row.oldest_seconds >= 7 && row.oldest_seconds < 20 && !row.at_least)).toBe(true)
  })

  it('are counted apart from tasks due soon and tasks due later', async () => {
    await database.clock.stop()
    const worker = newBeat()
    const tasks = [newTask(), newTask(), newTask()]
    await Promise.all(tasks.map(createInserter(db)))
    const requeue = createRequeuer(db, worker.id)
    for (const [index, delayMs] of [5000, 60_000].entries())
      await requeue({ id: tasks[index]!.id, epoch: 0, delayMs, tries: 0, settlement: null, claimed: false })
    const rows = await readWaitingTasks(db)
    expect(
      rows.reduce((all, row) => ({ waiting: all.waiting + row.waiting, soon: all.soon + row.soon }), {
        waiting: 0,
        soon: 0,
      }),
    ).toEqual({ waiting: 1, soon: 1 })
  })

  it('exclude followers and lines of batches, which need no slot', async () => {
    await insert(times(3, {}))
    await ask(db, "UPDATE tasks SET dispatched_at = 'infinity'")
    expect(await readWaitingTasks(db)).toEqual([])
  })

  it('are read up to a bound that the flows share', async () => {
    const [anna, bert] = [randomUUID(), randomUUID()]
    await ask(
      db,
      `INSERT INTO tasks (id, kind, queue, priority, api_key_id, input, options, run_at, deadline_at, created_at)
       SELECT gen_random_uuid(), 'generate', 'default', 'normal', CASE WHEN n % 2 = 0 THEN $1::uuid ELSE $2::uuid END, '{}', '{}', now(), now() + interval '1 hour', now()
       FROM generate_series(1, $3::int) n`,
      [anna, bert, MAX_ROWS * 3],
    )
    const rows = await readWaitingTasks(db)
    expect(sum(rows, 'default')).toBe(MAX_ROWS)
    expect(rows[0]!.at_least).toBe(true)
  })

  it('are read by index, whatever the statistics say', async () => {
    // Over one connection, so that it has all prepared statements.
    const one = connect(database.url, 1)
    onTestFinished(() => one.close())
    for (const read of [readWaitingLines, readRunning, readCalls, readWaitingTasks]) await read(one)
    const plans = await ask<{ name: string; statement: string }>(
      one,
      "SELECT name, statement FROM pg_prepared_statements WHERE name LIKE 'stats_%'",
    )
    expect(plans).toHaveLength(5)
    for (const { name } of plans) {
      const values = /backlog|dispatched/.test(name) ? '(10)' : ''
      const plan = await ask<Record<string, string>>(one, `EXPLAIN EXECUTE ${name}${values}`)
      expect(plan.map(row => row['QUERY PLAN']).join('\n')).not.toMatch(/Seq Scan on (tasks|attempts|batch_chunks)/)
    }
  })
})

describe('lines of batches', () => {
  it('are counted by the chunks that no worker holds', async () => {
    const batch = newId()
    await ask(
      db,
      `INSERT INTO batches (id, api_key_id, surface, kind, status, input_file_id, expires_at)
       VALUES ($1, $2, 'native', 'generate', 'in_progress', $3, now() + interval '1 day')`,
      [batch, randomUUID(), newId()],
    )
    for (const [first, status, age] of [
      [1, 'running', 30],
      [101, 'waiting', 20],
      [201, 'waiting', null],
    ] as const)
      await ask(
        db,
        `INSERT INTO batch_chunks (id, batch_id, step, first_line, last_line, status, dispatched_at)
         VALUES ($1, $2, 'run', $3, $4, $5, now() - make_interval(secs => $6))`,
        [newId(), batch, first, first + 99, status, age],
      )
    expect(await readWaitingLines(db)).toEqual([
      {
        queue: 'batch',
        kind: 'generate',
        waiting: 200,
        soon: 0,
        oldest_seconds: expect.closeTo(20, 0),
        at_least: false,
      },
    ])
  })
})

describe('running tasks and capacity', () => {
  it('counts running tasks and the slots of live workers', async () => {
    const worker = newBeat({ queues: ['default', 'moderate'], concurrency: 30 })
    await writeHeartbeat(db, worker, [])
    await writeHeartbeat(db, newBeat({ queues: ['default'], concurrency: 10 }), [])
    await writeHeartbeat(db, newBeat({ queues: ['default'], concurrency: 0 }), [])
    const task = newTask()
    await createInserter(db)(task)
    await createClaimer(db, worker.id)({ id: task.id, epoch: 0, n: 1, reservation: newReservation() })
    expect(await readRunning(db)).toEqual([{ queue: 'default', running: 1 }])
    expect((await readCapacity(db)).toSorted((a, b) => a.slots - b.slots)).toEqual([
      { queues: ['default'], workers: 1, slots: 10 },
      { queues: ['default', 'moderate'], workers: 1, slots: 30 },
    ])
    await database.clock.advance(11)
    expect(await readCapacity(db)).toEqual([])
  })

  const attempt = (kind: string, outcome: string, seconds: number, ago: number, model = 'm') =>
    ask(
      db,
      `INSERT INTO attempts (task_id, n, worker_id, provider, model, kind, api_key_id, reserved_usd, windows,
        booked_input_tokens, booked_output_tokens, outcome, input_tokens, output_tokens, started_at, finished_at)
       VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'openai', $5, $1, gen_random_uuid(), 0, '{}', 1, 1, $2, 100, 50,
        now() - make_interval(secs => $4), now() - make_interval(secs => $4 - $3))`,
      [kind, outcome, seconds, ago, model],
    )

  it('counts the outcomes of the latest calls, without outcomes that are neutral to the provider', async () => {
    await database.clock.stop()
    await attempt('ask', 'succeeded', 2, 40)
    await attempt('ask', 'succeeded', 4, 30)
    await attempt('ask', 'rate_limited', 0.1, 20)
    await attempt('ask', 'aborted', 9, 20)
    await attempt('ask', 'succeeded', 100, 500)
    await attempt('ask', 'succeeded', 3, 900)
    await attempt('classify', 'overloaded', 1, 10)
    const rows = (await readCalls(db)).toSorted((a, b) => a.kind.localeCompare(b.kind))
    expect(rows).toMatchObject([
      { kind: 'ask', provider: 'openai', model: 'm', calls: 3, answered: 2, input_tokens: 100, output_tokens: 50 },
      { kind: 'classify', calls: 1, answered: 0, call_seconds: null },
    ])
    expect(rows[0]!.call_seconds).toBeCloseTo(3, 3)
    expect(rows.map(row => Math.round(row.span_seconds))).toEqual([38, 38])
  })

  it('counts failures since a target last answered, without neutral outcomes', async () => {
    for (const [model, outcome, ago] of [
      ['up', 'timeout', 30],
      ['up', 'server_error', 20],
      ['up', 'succeeded', 10],
      ['down', 'succeeded', 50],
      ['down', 'rejected', 40],
      ['down', 'timeout', 30],
      ['down', 'rate_limited', 20],
      ['down', 'server_error', 10],
      // A long call that has just ended.
      ['slow', 'succeeded', 300],
    ] as const)
      await attempt('ask', outcome, model === 'slow' ? 299 : 1, ago, model)
    const rows = await readCalls(db)
    expect(Object.fromEntries(rows.map(row => [row.model, [row.answered, row.broken_since]]))).toEqual({
      up: [1, 0],
      down: [2, 2],
      slow: [1, 0],
    })
  })
})

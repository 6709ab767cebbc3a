import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { newId } from '#shared/ids.ts'
import { ask, fileDatabase, newBeat, newReservation, newTask, settlement } from '#shared/testing/postgres.ts'
import type { Settlement } from '../attempts.ts'
import { createClaimer } from '../claims/claim.ts'
import { createNextAttempt } from '../claims/next-attempt.ts'
import { createFinisher } from './finish.ts'
import { createInserter } from './insert.ts'
import type { NewTask } from './new-task.ts'
import { createTaskLister, createTaskReader, readStates, type TaskFilter } from './read.ts'

const database = fileDatabase()
const call = { provider: 'anthropic', model: 'claude' }
const ALL = { apiKeyId: null, status: null, kind: null, after: null, limit: 100 }

const listTasks = async (filter: TaskFilter) => (await createTaskLister(database.dbs[0])(filter))!

async function accept(more: Partial<NewTask> = {}): Promise<string> {
  const task = newTask(more)
  await createInserter(database.dbs[0])(task)
  return task.id
}

/** A task with these calls. The last one may be open (null). */
async function withAttempts(settlements: (Partial<Settlement> | null)[]): Promise<string> {
  const [db] = database.dbs
  const id = await accept()
  const worker = newBeat().id
  await createClaimer(db, worker)({ id, epoch: 0, n: 1, reservation: newReservation(call) })
  for (const [index, one] of settlements.entries()) {
    if (one === null) continue
    const n = index + 1
    const settled = settlement(n, 'timeout', one)
    if (n < settlements.length) {
      await createNextAttempt(
        db,
        worker,
      )({ id, epoch: 0, n: n + 1, reservation: newReservation(call), tries: n, settlement: settled })
    } else {
      await createFinisher(db, () => {})({
        ...{ id, status: 'succeeded', from: 'running', epoch: 0, workerId: worker, result: { text: 'Hi' } },
        settlement: settled,
      })
    }
  }
  return id
}
const view = (id: string) => createTaskReader(database.dbs[0])(id)
const tokens = (inputTokens: number, outputTokens: number) => ({
  inputTokens,
  outputTokens,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
})

it('a large result is read separately, through readLarge', async () => {
  const [db] = database.dbs
  const id = await withAttempts([{ costUsd: '0', usage: tokens(1, 1), outcome: 'succeeded' }])
  let read = 0
  const reader = (large: number) =>
    createTaskReader(db, {
      large,
      readLarge: work => {
        read++
        return work()
      },
    })
  const bytes = JSON.stringify({ text: 'Hi' }).length
  const whole = await reader(bytes)(id)
  expect([whole?.result, read]).toEqual([{ text: 'Hi' }, 0])
  expect(await reader(bytes - 1)(id)).toEqual(whole)
  expect(read).toBe(1)
  const busy = createTaskReader(db, { large: bytes - 1, readLarge: () => Promise.reject(new Error('busy')) })
  await expect(busy(id)).rejects.toThrow('busy')
  expect(await busy(newId())).toBeNull()
})

describe('the view of a task', () => {
  it('sums its attempts exactly', async () => {
    const id = await withAttempts([
      { costUsd: '0.000000000001', usage: tokens(10, 1) },
      { costUsd: '0', usage: null, outcome: 'rate_limited', error: { code: 'rate_limited', message: 'slow down' } },
      { costUsd: '123456789.000000000002', usage: tokens(20, 2), outcome: 'succeeded' },
    ])
    const task = await view(id)
    expect(task).toMatchObject({
      id,
      status: 'succeeded',
      result: { text: 'Hi' },
      input_tokens: 30,
      output_tokens: 3,
      cost_usd: '123456789.000000000003',
      stream: false,
    })
    expect(task!.attempt_list).toEqual([
      expect.objectContaining({ n: 1, ...call, outcome: 'timeout', error: null, finished_at: expect.any(String) }),
      expect.objectContaining({ n: 2, outcome: 'rate_limited', error: { code: 'rate_limited', message: 'slow down' } }),
      expect.objectContaining({ n: 3, outcome: 'succeeded' }),
    ])
  })

  it.each([['a call is still open', [{ costUsd: '1' }, null]]])('has no cost while %s', async (_, attempts) => {
    expect((await view(await withAttempts(attempts)))!.cost_usd).toBeNull()
  })

  it('costs nothing without calls', async () => {
    const task = await view(await accept({ options: { stream: true }, metadata: { a: 1 } }))
    expect(task).toMatchObject({ cost_usd: '0', input_tokens: 0, attempt_list: [], stream: true, metadata: { a: 1 } })
    expect(task!.result).toBeNull()
  })

  it('is null for an unknown task, and shared by concurrent readers', async () => {
    const id = await accept()
    const read = createTaskReader(database.dbs[0])
    const views = await Promise.all([read(id), read(newId()), read(id)])
    expect(views.map(one => one?.id ?? null)).toEqual([id, null, id])
  })
})

describe('a list of tasks', () => {
  it('is in order, newest first, without payloads', async () => {
    const ids = [await accept(), await accept(), await withAttempts([{ costUsd: '2', usage: tokens(1, 1) }])]
    const list = await listTasks(ALL)
    expect(list.map(task => task.id)).toEqual(ids.toReversed())
    expect(list[0]).toMatchObject({ cost_usd: '2.000000000000', input_tokens: 1 })
    for (const task of list) {
      expect(task).not.toHaveProperty('input')
      expect(task).not.toHaveProperty('result')
    }
  })

  it('can be read page by page: every task once, also while new tasks arrive', async () => {
    const ids: string[] = []
    for (let n = 0; n < 7; n++) ids.push(await accept())
    const seen: string[] = []
    for (let after: string | null = null; ; ) {
      const page = await listTasks({ ...ALL, after, limit: 3 })
      if (page.length === 0) break
      seen.push(...page.map(task => task.id))
      after = seen.at(-1)!
      await accept()
    }
    expect(seen).toEqual(ids.toReversed())
  })

  it('is filtered by any combination of key, status and kind', async () => {
    const [mine, yours] = [randomUUID(), randomUUID()]
    await ask(
      database.dbs[0],
      `INSERT INTO api_keys (id, name, secret_hash, hint, scopes) SELECT id, 'a key', id::text::bytea, 'h', '{}' FROM unnest($1::uuid[]) AS id`,
      [[mine, yours]],
    )
    for (const apiKeyId of [mine, yours]) for (const kind of ['generate', 'moderate']) await accept({ apiKeyId, kind })
    await ask(database.dbs[0], `UPDATE tasks SET status = 'failed' WHERE kind = 'moderate'`)
    for (const apiKeyId of [null, mine]) {
      for (const status of [null, 'queued', 'failed', 'running']) {
        for (const kind of [null, 'generate', 'moderate']) {
          const list = await listTasks({ ...ALL, apiKeyId, status, kind })
          const keys = apiKeyId ? 1 : 2
          const kinds = [kind ?? ['generate', 'moderate']].flat()
          const statuses = kinds.map(one => (one === 'generate' ? 'queued' : 'failed'))
          expect(list).toHaveLength(keys * statuses.filter(one => status === null || one === status).length)
          for (const task of list) {
            if (apiKeyId) expect(task.api_key_id).toBe(apiKeyId)
            if (status) expect(task.status).toBe(status)
            if (kind) expect(task.kind).toBe(kind)
          }
        }
      }
    }
  })
})

it('the states of many tasks are read in one query, without unknown ids', async () => {
  const queued = await accept()
  const running = await withAttempts([null])
  const states = await readStates(database.dbs[0], [queued, running, newId()])
  expect(states.toSorted((a, b) => a.attempts - b.attempts)).toEqual([
    { id: queued, status: 'queued', attempts: 0 },
    { id: running, status: 'running', attempts: 1 },
  ])
})

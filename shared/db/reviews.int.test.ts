import { describe, expect, it } from 'vitest'
import { newId } from '#shared/ids.ts'
import { ask, fileDatabase, newTask } from '#shared/testing/postgres.ts'
import { createInserter } from './insert.ts'
import { decideReview, listReviews } from './reviews.ts'
import { createEnder } from './tasks.ts'

const database = fileDatabase()
const REVIEW = { decision: 'review' }

/** A task that ended without a verdict, and waits for a person. */
async function undecided(): Promise<string> {
  const [db] = database.dbs
  const task = newTask({ kind: 'moderate' })
  await createInserter(db)(task)
  const end = createEnder(db, () => {}, { noVerdicts: new Map([['moderate', REVIEW]]) })
  const error = { code: 'provider_failed', message: 'Nobody answered.' }
  await end({ id: task.id, status: 'failed', from: 'queued', epoch: null, workerId: null, error, settlement: null })
  return task.id
}
/** As a batch that is tried anew leaves its lines, and what becomes of them. */
const becomes = (id: string, status: string, result: object | null) =>
  ask(database.dbs[0], 'UPDATE tasks SET status = $2, result = $3 WHERE id = $1', [
    id,
    status,
    result && JSON.stringify(result),
  ])
const decide = (taskId: string, decision: 'allow' | 'block' = 'allow') =>
  decideReview(database.dbs[0], { taskId, decision, note: null, by: newId() })
const decisions = async (id: string) =>
  (await ask(database.dbs[0], 'SELECT decision FROM review_decisions WHERE task_id = $1 ORDER BY id', [id])).map(
    one => (one as { decision: string }).decision,
  )

describe('a decision of a person', () => {
  it('is written down for a task that waits for one, and again in its place', async () => {
    const id = await undecided()
    expect(await decide(id)).toMatchObject({ kind: 'decided', review: { task_id: id, decision: 'allow' } })
    expect(await decide(id, 'block')).toMatchObject({ kind: 'decided', review: { decision: 'block' } })
    expect(await decisions(id)).toEqual(['allow', 'block'])
  })

  it.each([
    ['is judged again', 'queued', null],
    ['is being judged', 'running', null],
    ['was blocked by a model since', 'succeeded', { decision: 'block' }],
    ['was allowed by a model since', 'succeeded', { decision: 'allow' }],
  ])('is not for a task that %s', async (_, status, result) => {
    const id = await undecided()
    await becomes(id, status, result)
    expect(await decide(id)).toEqual({ kind: 'not_open' })
    expect(await decisions(id)).toEqual([])
    const pending = await listReviews(database.dbs[0], { status: 'pending', after: null, limit: 100 })
    expect(pending.map(one => one.task_id)).not.toContain(id)
    await becomes(id, 'failed', REVIEW)
    expect(await decide(id)).toMatchObject({ kind: 'decided' })
  })

  it('may be changed although a model has found a verdict since, but not while one is being asked', async () => {
    const id = await undecided()
    await decide(id)
    await becomes(id, 'running', null)
    expect(await decide(id, 'block')).toEqual({ kind: 'not_open' })
    await becomes(id, 'succeeded', { decision: 'allow' })
    expect(await decide(id, 'block')).toMatchObject({ kind: 'decided', review: { decision: 'block' } })
  })

  it('is not for what never waited for one', async () => expect(await decide(newId())).toEqual({ kind: 'not_found' }))
})

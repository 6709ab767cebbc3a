import { describe, expect, it } from 'vitest'
import { newId } from '#shared/ids.ts'
import { ask, fileDatabase, newTask } from '#shared/testing/postgres.ts'
import { decideReview, listReviews } from './reviews.ts'
import { createFinisher } from './tasks/finish.ts'
import { createInserter } from './tasks/insert.ts'

const database = fileDatabase()
const REVIEW = { decision: 'review' }

/** A task without a verdict, pending review. */
async function undecided(): Promise<string> {
  const [db] = database.dbs
  const task = newTask({ kind: 'moderate' })
  await createInserter(db)(task)
  const end = createFinisher(db, () => {}, { noVerdicts: new Map([['moderate', REVIEW]]) })
  const error = { code: 'provider_failed', message: 'Nobody answered.' }
  await end({ id: task.id, status: 'failed', from: 'queued', epoch: null, workerId: null, error, settlement: null })
  return task.id
}
/** Lines as a batch retry leaves them, and their next run. */
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

describe('a review decision', () => {
  it('is recorded for a pending task, and can be replaced', async () => {
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
  ])('is rejected for a task that %s', async (_, status, result) => {
    const id = await undecided()
    await becomes(id, status, result)
    expect(await decide(id)).toEqual({ kind: 'not_open' })
    expect(await decisions(id)).toEqual([])
    const pending = await listReviews(database.dbs[0], { status: 'pending', after: null, limit: 100 })
    expect(pending.map(one => one.task_id)).not.toContain(id)
    await becomes(id, 'failed', REVIEW)
    expect(await decide(id)).toMatchObject({ kind: 'decided' })
  })

  it('can be changed after a model found a verdict, but not while a model is being called', async () => {
    const id = await undecided()
    await decide(id)
    await becomes(id, 'running', null)
    expect(await decide(id, 'block')).toEqual({ kind: 'not_open' })
    await becomes(id, 'succeeded', { decision: 'allow' })
    expect(await decide(id, 'block')).toMatchObject({ kind: 'decided', review: { decision: 'block' } })
  })

  it('requires a review', async () => expect(await decide(newId())).toEqual({ kind: 'not_found' }))
})

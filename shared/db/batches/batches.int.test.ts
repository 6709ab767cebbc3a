import { v7 } from 'uuid'
import { beforeEach, describe, expect, it } from 'vitest'
import { newBatch, newLine, newLines } from '#shared/testing/batches.ts'
import {
  ask,
  type Clock,
  fileDatabase,
  newBeat,
  newReservation,
  newTask,
  settlement,
} from '#shared/testing/postgres.ts'
import { listBudgets } from '../budgets.ts'
import { createClaimer } from '../claims/claim.ts'
import { createRequeuer } from '../claims/requeue.ts'
import { takeOverDeadClaims } from '../claims/take-over.ts'
import { listDispatched, readHeadroom } from '../dispatches.ts'
import type { Db } from '../pool.ts'
import { createFinisher } from '../tasks/finish.ts'
import { createFollower } from '../tasks/follow.ts'
import { createInserter } from '../tasks/insert.ts'
import { createTaskLoader } from '../tasks/load.ts'
import { findOverdue } from '../tasks/overdue.ts'
import { pruneTasks } from '../tasks/prune.ts'
import type { TerminalStatus } from '../tasks/row.ts'
import { writeHeartbeat } from '../workers.ts'
import { cancelBatch } from './cancel.ts'
import type { ChunkJob } from './chunk.ts'
import { claimChunk, listHeldChunks, releaseChunk } from './claim-chunk.ts'
import { createBatch, type NewBatch, validationJob } from './create.ts'
import { dispatchNextChunks, listDispatchedChunks, listStoppedChunks } from './dispatch-chunks.ts'
import { endBatch } from './end.ts'
import { failBatch } from './fail.ts'
import { finalizeReady } from './finalize.ts'
import { finishChunk } from './finish-chunk.ts'
import { insertLines } from './insert-lines.ts'
import { pruneBatches } from './prune.ts'
import { type BatchView, countLiveBatches, findBatch, listBatches } from './read.ts'
import type { EndedLine } from './read-lines.ts'
import { listOpenLines, streamResults } from './read-lines.ts'
import { retryBatch } from './retry.ts'
import { startBatch } from './start.ts'
import { takeOverDeadChunks } from './take-over-chunks.ts'

const database = fileDatabase(3)
/** Seconds. */
const DAY = 86_400
let db: Db
let clock: Clock
beforeEach(() => {
  db = database.dbs[0]
  clock = database.clock
})

/** A live worker, a batch, and functions to drive them. */
async function scene(more: Partial<NewBatch> = {}) {
  // Workers stay alive, however long the test takes.
  await clock.stop()
  const worker = newBeat({ queues: ['default', 'batch'] })
  await writeHeartbeat(db, worker, [])
  const batch = newBatch(more)
  await createBatch(db, batch)
  const claimer = createClaimer(db, worker.id)
  const end = createFinisher(db, () => {})
  const claim = (job: { id: string; epoch: number }, workerId = worker.id) => ({
    id: job.id,
    epoch: job.epoch,
    workerId,
  })
  return {
    worker,
    batch,
    claim,
    end,
    view: async () => (await findBatch(db, batch.id))!,
    /** Validates a batch with a number of lines in chunks of a given size. */
    async start(count: number, size: number) {
      const { lines, chunks } = newLines(count, size)
      expect(await claimChunk(db, claim(validationJob(batch)))).not.toBeNull()
      expect(await insertLines(db, batch.id, lines, chunks)).toBe(true)
      const found = { total: count, boundUsd: '1.5', model: null }
      expect(await startBatch(db, claim(validationJob(batch)), found)).toBe('started')
      return { lines, chunks }
    },
    /** Runs the open lines of a claimed chunk. */
    async runAll(job: ChunkJob, status: TerminalStatus = 'succeeded', usd = '0.25') {
      for (const { id, epoch } of await listOpenLines(db, job, worker.id)) {
        const reservation = newReservation({ batchId: batch.id })
        expect(await claimer({ id, epoch, n: 1, reservation })).toEqual({ kind: 'claimed' })
        const spent = settlement(1, 'succeeded', {
          costUsd: usd,
          usage: { inputTokens: 10, outputTokens: 2, cacheReadTokens: 0, cacheWriteTokens: 0 },
        })
        const ending = { id, epoch, status, from: 'running', workerId: worker.id, settlement: spent } as const
        expect(await end({ ...ending, result: { text: 'Hi' } })).toEqual({ ended: true })
      }
    },
  }
}
const count = async (from: string) => (await ask<{ n: number }>(db, `SELECT count(*)::int AS n FROM ${from}`))[0]!.n

describe('a batch', () => {
  it('runs from its input to its end, with counts, cost and a webhook', async () => {
    const { batch, start, claim, runAll, view } = await scene({ webhookUrl: 'https://example.com/hook' })
    expect(await view()).toMatchObject({ status: 'validating', total: 0, rate: null, eta_seconds: null })
    expect(await countLiveBatches(db)).toEqual([{ status: 'validating', count: 1 }])
    await start(5, 2)
    expect(await view()).toMatchObject({ status: 'in_progress', total: 5, succeeded: 0, bound_usd: '1.5' })
    const jobs = await dispatchNextChunks(db, batch.id)
    expect(jobs).toHaveLength(3)
    expect(jobs[0]).toMatchObject({ queue: 'batch', epoch: 0, priority: 'normal' })

    for (const [index, job] of jobs.entries()) {
      expect(await claimChunk(db, claim(job))).toMatchObject({ step: 'run', batch_id: batch.id, claims: 1 })
      await runAll(job, index === 2 ? 'failed' : 'succeeded')
      // Counted from the lines first, then from the chunk.
      const before = await view()
      expect(await finishChunk(db, claim(job))).toMatchObject({ open: 0 })
      expect(await finishChunk(db, claim(job)), 'once').toBeNull()
      expect(counts(await view())).toEqual(counts(before))
    }
    expect(await view()).toMatchObject({
      status: 'in_progress',
      succeeded: 4,
      failed: 1,
      cost_usd: '1.25',
      input_tokens: 50,
    })

    const [job, ...others] = await finalizeReady(db, null)
    expect(others).toEqual([])
    expect(await finalizeReady(db, batch.id)).toEqual([])
    expect(await claimChunk(db, claim(job!))).toMatchObject({ step: 'finalize' })
    expect(await endBatch(db, claim(job!), { output: batch.inputFileId, error: null })).toBe('completed')
    expect(await endBatch(db, claim(job!), { output: null, error: null }), 'once').toBeNull()
    expect(await view()).toMatchObject({
      ...{ status: 'completed', total: 5, succeeded: 4, failed: 1, cost_usd: '1.25', output_tokens: 10 },
      ...{ output_file_id: batch.inputFileId, completed_at: expect.any(Date), cancelled_at: null },
    })
    expect(await ask(db, 'SELECT type, subject_id, url FROM webhook_deliveries')).toEqual([
      { type: 'batch.completed', subject_id: batch.id, url: 'https://example.com/hook' },
    ])
    expect(await countLiveBatches(db)).toEqual([])
  })

  it('with invalid input fails and reports the errors', async () => {
    const { batch, claim, view } = await scene({ webhookUrl: 'https://example.com', maxCostUsd: '1' })
    await claimChunk(db, claim(validationJob(batch)))
    const errors = [{ line: 3, code: 'invalid_json_line', message: 'It is not JSON.', param: null }]
    expect(await failBatch(db, claim(validationJob(batch)), errors)).toBe(true)
    expect(await view()).toMatchObject({ status: 'failed', errors, failed_at: expect.any(Date) })
    expect(await count('webhook_deliveries')).toBe(1)
    expect(await listBudgets(db)).toEqual([])
    expect(await cancelBatch(db, batch.id)).toBe('not_cancellable')
  })

  it('reports its rate and the remaining time', async () => {
    const { batch, start, claim, runAll, view } = await scene()
    await start(40, 10)
    const [job] = await dispatchNextChunks(db, batch.id)
    await claimChunk(db, claim(job!))
    await clock.advance(10)
    await runAll(job!)
    expect(await view()).toMatchObject({ rate: expect.closeTo(1, 0), eta_seconds: expect.closeTo(30, -1) })
    await finishChunk(db, claim(job!))
    expect(await view()).toMatchObject({ rate: expect.closeTo(1, 0), eta_seconds: expect.closeTo(30, -1) })
    await clock.advance(60)
    expect(await view()).toMatchObject({ rate: 0, eta_seconds: null })
  })
})

describe('an Idempotency-Key', () => {
  const idempotency = { key: 'nightly', requestHash: Buffer.alloc(32, 1) }
  const apiKeyId = newBatch().apiKeyId
  const make = (more: Partial<NewBatch> = {}) => {
    const batch = newBatch({ apiKeyId, idempotency, maxCostUsd: '1', ...more })
    return { id: batch.id, create: (by = db) => createBatch(by, batch) }
  }

  it('creates one batch and remembers it with the hash of the request', async () => {
    const first = make()
    expect(await first.create()).toMatchObject({ kind: 'created', batch: { id: first.id } })
    const known = { kind: 'exists', id: first.id, requestHash: idempotency.requestHash }
    expect(await first.create(), 'its answer was lost').toEqual(known)
    expect(await make({ idempotency: { ...idempotency, requestHash: Buffer.alloc(32, 2) } }).create()).toEqual(known)
    expect(await make({ apiKeyId: newBatch().apiKeyId }).create()).toMatchObject({ kind: 'created' })
    expect(await make({ idempotency: null }).create()).toMatchObject({ kind: 'created' })
    for (const table of ['batches', 'batch_chunks', 'budgets']) expect(await count(table), table).toBe(3)
  })

  it('creates one batch for concurrent requests', async () => {
    const made = await Promise.all(database.dbs.map(by => make().create(by)))
    const ids = made.map(one => (one.kind === 'created' ? one.batch.id : one.id))
    expect(new Set(ids).size).toBe(1)
    expect(made.filter(one => one.kind === 'created')).toHaveLength(1)
    expect(await count('batches')).toBe(1)
  })

  it('expires after a day', async () => {
    await clock.stop()
    const first = make()
    await first.create()
    await clock.advance(86_399)
    expect(await make().create()).toMatchObject({ kind: 'exists', id: first.id })
    await clock.advance(2)
    const second = make()
    expect(await second.create()).toMatchObject({ kind: 'created' })
    expect(await make().create()).toMatchObject({ kind: 'exists', id: second.id })
  })
})

const slicesOf = async (id: string) => {
  const slices: EndedLine[][] = []
  for await (const slice of streamResults(db, id)) slices.push(slice)
  return slices
}
const counts = ({ succeeded, failed, cost_usd, input_tokens }: BatchView) => ({
  succeeded,
  failed,
  cost_usd,
  input_tokens,
})

describe('the lines', () => {
  it('are written once, however often validation is repeated', async () => {
    const { batch, claim } = await scene()
    await claimChunk(db, claim(validationJob(batch)))
    const first = newLines(5, 2)
    await insertLines(db, batch.id, first.lines.slice(0, 4), first.chunks.slice(0, 2))
    const again = newLines(5, 2)
    await insertLines(db, batch.id, again.lines, again.chunks)
    expect(await count('tasks')).toBe(5)
    expect(await count(`batch_chunks WHERE step = 'run'`)).toBe(3)
  })

  it('do not run unless each is in exactly one chunk', async () => {
    const { batch, claim, view } = await scene()
    const job = claim(validationJob(batch))
    await claimChunk(db, job)
    const { lines, chunks } = newLines(6, 2)
    const found = { total: 6, boundUsd: null, model: null }
    const start = () => startBatch(db, job, found)
    expect(await start(), 'no line').toBe('uneven')
    await insertLines(db, batch.id, lines, [chunks[0]!, chunks[2]!])
    expect(await start(), 'a gap').toBe('uneven')
    await insertLines(db, batch.id, [], [{ ...chunks[1]!, lastLine: 5 }])
    expect(await start(), 'an overlap').toBe('uneven')
    expect(await view()).toMatchObject({ status: 'validating', total: 0 })
    await ask(db, 'UPDATE batch_chunks SET last_line = 4 WHERE last_line = 5')
    expect(await startBatch(db, job, { ...found, total: 7 }), 'a line is missing').toBe('uneven')
    expect(await start()).toBe('started')
    expect(await start(), 'again').toBe('lost')
  })

  it('rejected by validation fail and never run', async () => {
    const { batch, claim, end } = await scene()
    await claimChunk(db, claim(validationJob(batch)))
    const error = { code: 'invalid_request', message: 'No.' }
    const { chunks } = newLines(2, 2)
    await insertLines(db, batch.id, [newLine(1, { error: JSON.stringify(error) }), newLine(2)], chunks)
    await startBatch(db, claim(validationJob(batch)), { total: 2, boundUsd: null, model: null })
    const [job] = await dispatchNextChunks(db, batch.id)
    await claimChunk(db, claim(job!))
    const open = await listOpenLines(db, job!, null)
    expect(open).toHaveLength(1)
    const how = { status: 'failed', from: 'queued', epoch: 0, workerId: null, settlement: null } as const
    await end({ id: open[0]!.id, ...how })
    await finishChunk(db, claim(job!))
    const [last] = await finalizeReady(db, batch.id)
    await claimChunk(db, claim(last!))
    await endBatch(db, claim(last!), { output: null, error: null })
    const slices = await slicesOf(batch.id)
    expect(slices.flat()).toMatchObject([{ line: 1, error, custom_id: 'line-1' }, { line: 2 }])
    expect(await retryBatch(db, batch.id, 60)).toEqual({ kind: 'retried', lines: 1 })
  })

  it('are not written for a cancelled batch', async () => {
    const { batch, claim } = await scene()
    await claimChunk(db, claim(validationJob(batch)))
    expect(await cancelBatch(db, batch.id)).toBe('cancelling')
    const { lines, chunks } = newLines(2, 2)
    expect(await insertLines(db, batch.id, lines, chunks)).toBe(false)
    expect(await count('tasks')).toBe(0)
  })

  it('are in no queue and no backlog after any requeue', async () => {
    const { batch, worker, start, claim } = await scene()
    const { lines } = await start(3, 3)
    const [job] = await dispatchNextChunks(db, batch.id)
    await claimChunk(db, claim(job!))
    const claimTask = createClaimer(db, worker.id)
    const [first, second] = lines.map(one => one.id) as [string, string]
    await claimTask({ id: first, epoch: 0, n: 1, reservation: newReservation() })
    await claimTask({ id: second, epoch: 0, n: 1, reservation: newReservation() })
    const back = { delayMs: 100, tries: 1, settlement: settlement(1, 'server_error'), claimed: true }
    expect(await createRequeuer(db, worker.id)({ id: first, epoch: 0, ...back })).toBe(1)
    await clock.advance(11)
    expect(await takeOverDeadClaims(db, 100, 5)).toEqual({ taken: 1, exhausted: [] })
    expect(await count(`tasks WHERE status = 'queued' AND dispatched_at = 'infinity'`)).toBe(3)
    expect(await listDispatched(db, null, 100)).toEqual([])
    expect(await readHeadroom(db, { apiKeyId: batch.apiKeyId, priority: 'normal' }, 100)).toEqual({
      backlog: 0,
      dispatched: 0,
    })
  })

  it('never follow another task, and expire with their batch', async () => {
    const { start } = await scene({ windowSeconds: 60 })
    const { lines } = await start(2, 2)
    expect(await createFollower(db)({ id: lines[0]!.id, epoch: 0, leaderId: lines[1]!.id })).toBe(false)
    await clock.advance(60)
    expect((await findOverdue(db, 10)).toSorted()).toEqual(lines.map(one => one.id))
  })

  it('are read in slices, in order of lines', async () => {
    const { batch, start, end } = await scene()
    const { lines } = await start(1203, 200)
    const how = { status: 'failed', from: 'queued', epoch: 0, workerId: null, settlement: null } as const
    await Promise.all(lines.filter(one => one.line % 2).map(({ id }) => end({ id, ...how })))
    const slices = await slicesOf(batch.id)
    expect(slices.map(slice => slice.length)).toEqual([500, 102])
    expect(slices.flat().map(one => one.line)).toEqual(lines.map(one => one.line).filter(line => line % 2))
  })
})

describe('a chunk', () => {
  it('is claimed by one of many workers', async () => {
    const { batch } = await scene()
    const claims = database.dbs.map(db => claimChunk(db, { ...validationJob(batch), workerId: newBeat().id }))
    expect((await Promise.all(claims)).filter(one => one !== null)).toHaveLength(1)
  })

  it('is released under a new epoch, by its owner only', async () => {
    const { batch, start, claim } = await scene()
    await start(2, 2)
    const [job] = await dispatchNextChunks(db, batch.id)
    await claimChunk(db, claim(job!))
    expect(await releaseChunk(db, claim(job!, newBeat().id), { dispatched: true })).toBeNull()
    const again = await releaseChunk(db, claim(job!), { dispatched: true })
    expect(again).toEqual({ ...job, epoch: 1 })
    expect(await claimChunk(db, claim(job!))).toBeNull()
    expect(await claimChunk(db, claim(again!))).toMatchObject({ claims: 1 })
  })

  it('of a dead worker is taken over, and exhausted after five dead workers', async () => {
    const { batch, worker, start, claim } = await scene()
    await start(2, 2)
    let [job] = await dispatchNextChunks(db, batch.id)
    for (let n = 1; n <= 5; n++) {
      await writeHeartbeat(db, worker, [])
      expect(await claimChunk(db, claim(job!))).toMatchObject({ claims: n })
      expect(await listHeldChunks(db, worker.id)).toEqual([{ id: job!.id, epoch: job!.epoch }])
      expect(await takeOverDeadChunks(db, 10, 5)).toEqual({ taken: [], exhausted: [] })
      await clock.advance(11)
      const { taken, exhausted } = await takeOverDeadChunks(db, 10, 5)
      if (n === 5) expect(exhausted).toMatchObject([{ id: job!.id, batch_id: batch.id, step: 'run' }])
      else expect(taken).toMatchObject([{ id: job!.id, epoch: n }])
      job = taken[0]
    }
  })

  it('is listed as dispatched while its batch is live', async () => {
    const { batch } = await scene()
    expect(await listDispatchedChunks(db)).toEqual([])
    await clock.advance(4)
    expect(await listDispatchedChunks(db)).toEqual([validationJob(batch)])
  })

  it('is dispatched in turns between two batches', async () => {
    const large = await scene()
    await large.start(400, 10)
    // One worker has four slots.
    expect(await dispatchNextChunks(db, null)).toHaveLength(4)
    const small = newBatch()
    await createBatch(db, small)
    const { lines, chunks } = newLines(30, 10)
    await insertLines(db, small.id, lines, chunks)
    const job = validationJob(small)
    await claimChunk(db, large.claim(job))
    await startBatch(db, large.claim(job), { total: 30, boundUsd: null, model: null })
    const jobs = await dispatchNextChunks(db, null)
    const ids = new Set(chunks.map(one => one.id))
    expect(jobs.filter(one => ids.has(one.id))).toHaveLength(2)
    expect(jobs).toHaveLength(2)
  })
})

describe('a cancelled batch', () => {
  it('ends its waiting chunks and is cancelled with the results so far', async () => {
    const { batch, start, claim, runAll, end, view } = await scene()
    await start(6, 2)
    const jobs = await dispatchNextChunks(db, batch.id)
    await claimChunk(db, claim(jobs[0]!))
    expect(await cancelBatch(db, batch.id)).toBe('cancelling')
    expect(await cancelBatch(db, batch.id), 'again').toBe('cancelling')
    expect(await claimChunk(db, claim(jobs[1]!))).toBeNull()
    expect(await listHeldChunks(db, claim(jobs[0]!).workerId)).toEqual([])
    const stopped = await listStoppedChunks(db, 10)
    expect(stopped.map(one => [one.id, one.ending])).toEqual(jobs.slice(1).map(one => [one.id, 'cancelled']))
    for (const chunk of stopped) {
      for (const { id } of await listOpenLines(db, chunk, null)) {
        await end({ id, status: 'cancelled', from: 'queued', epoch: null, workerId: null, settlement: null })
      }
      expect(await finishChunk(db, { ...chunk, workerId: null })).toMatchObject({ cancelled: 2, open: 0 })
    }
    expect(await finalizeReady(db, null)).toEqual([])
    await runAll(jobs[0]!)
    await finishChunk(db, claim(jobs[0]!))
    const [job] = await finalizeReady(db, null)
    expect(await view()).toMatchObject({ status: 'cancelling' })
    expect(await finalizeReady(db, null)).toEqual([])
    await claimChunk(db, claim(job!))
    expect(await endBatch(db, claim(job!), { output: null, error: null })).toBe('cancelled')
    expect(await view()).toMatchObject({
      status: 'cancelled',
      succeeded: 2,
      cancelled: 4,
      cancelled_at: expect.any(Date),
    })
    expect(await cancelBatch(db, batch.id)).toBe('not_cancellable')
    expect(await cancelBatch(db, newBatch().id)).toBe('not_found')

    // A batch stopped during validation may have only some of its lines.
    const begun = (at: string) => db.query({ name: `begun_${at}`, text: `UPDATE batches SET in_progress_at = ${at}` })
    await begun('NULL')
    expect(await retryBatch(db, batch.id, 600)).toEqual({ kind: 'nothing_to_retry' })
    await begun('now()')
    expect(await retryBatch(db, batch.id, 600)).toEqual({ kind: 'retried', lines: 4 })
    expect(await retryBatch(db, batch.id, 600)).toEqual({ kind: 'nothing_to_retry' })
    expect(await view()).toMatchObject({ status: 'in_progress', succeeded: 2, cancelled: 0, cancelled_at: null })
    for (const again of await dispatchNextChunks(db, batch.id)) {
      expect(await claimChunk(db, claim(again))).toMatchObject({ claims: 1 })
      await runAll(again)
      await finishChunk(db, claim(again))
    }
    const [last] = await finalizeReady(db, null)
    expect(last).toEqual({ ...job, epoch: 1 })
    await claimChunk(db, claim(last!))
    expect(await endBatch(db, claim(last!), { output: null, error: null })).toBe('completed')
    expect(await view()).toMatchObject({ status: 'completed', succeeded: 6, cancelled: 0, cost_usd: '1.5' })
    expect(await retryBatch(db, batch.id, 600)).toEqual({ kind: 'nothing_to_retry' })
    expect(await retryBatch(db, newBatch().id, 600)).toEqual({ kind: 'not_found' })
  })

  it('that expires during validation has no lines', async () => {
    const { batch, claim, view } = await scene({ windowSeconds: 60 })
    await clock.advance(60)
    const stopped = await listStoppedChunks(db, 10)
    expect(stopped).toMatchObject([{ id: batch.id, ending: 'expired' }])
    await finishChunk(db, { ...stopped[0]!, workerId: null })
    const [job] = await finalizeReady(db, null)
    await claimChunk(db, claim(job!))
    expect(await endBatch(db, claim(job!), { output: null, error: null })).toBe('expired')
    expect(await view()).toMatchObject({ status: 'expired', total: 0 })
  })
})

describe('the budget of a batch', () => {
  it('limits the reservations of its lines and is deleted with the batch', async () => {
    const { batch, worker, start, claim, runAll } = await scene({ maxCostUsd: '0.6' })
    const { lines } = await start(3, 3)
    expect(await listBudgets(db)).toMatchObject([{ scope: `batch:${batch.id}`, window: 'total', limit_usd: '0.6' }])
    const claimTask = createClaimer(db, worker.id)
    const request = (line: number, usd: string) => ({
      ...{ id: lines[line]!.id, epoch: 0, n: 1 },
      reservation: newReservation({ batchId: batch.id, usd }),
    })
    expect(await claimTask(request(0, '0.7'))).toMatchObject({
      kind: 'refused',
      by: { scope: `batch:${batch.id}`, exceeded: true, resets_ms: null },
    })
    expect(await claimTask(request(1, '0.5'))).toEqual({ kind: 'claimed' })
    expect(await claimTask(request(2, '0.2'))).toMatchObject({ kind: 'refused', by: { exceeded: false } })
    // It does not limit lines of another batch, or tasks without a batch.
    expect(await claimTask({ ...request(2, '0.2'), reservation: newReservation({ usd: '0.2' }) })).toEqual({
      kind: 'claimed',
    })
    const end = createFinisher(db, () => {})
    for (const id of [lines[1]!.id, lines[2]!.id]) {
      const spent = settlement(1, 'succeeded', { costUsd: '0.1' })
      await end({ id, status: 'failed', from: 'running', epoch: 0, workerId: worker.id, settlement: spent })
    }
    const [job] = await dispatchNextChunks(db, batch.id)
    await claimChunk(db, claim(job!))
    await runAll(job!, 'failed')
    await finishChunk(db, claim(job!))
    const [last] = await finalizeReady(db, null)
    await claimChunk(db, claim(last!))
    await endBatch(db, claim(last!), { output: null, error: null })
    expect(await listBudgets(db)).toEqual([])
    expect(await count('budget_windows')).toBe(0)
    await retryBatch(db, batch.id, 60)
    expect(await listBudgets(db)).toMatchObject([{ scope: `batch:${batch.id}`, limit_usd: '0.6', spent_usd: '0.45' }])
  })
})

it('a retried line may call providers that refused it before', async () => {
  const { batch, worker, start, claim, end } = await scene()
  const { lines } = await start(1, 1)
  const { id } = lines[0]!
  const [job] = await dispatchNextChunks(db, batch.id)
  await claimChunk(db, claim(job!))
  await createClaimer(db, worker.id)({ id, epoch: 0, n: 1, reservation: newReservation() })
  const back = { delayMs: 0, tries: 1, settlement: settlement(1, 'auth'), claimed: true }
  await createRequeuer(db, worker.id)({ id, epoch: 0, ...back })
  const load = createTaskLoader(db, ['auth'])
  expect(await load({ id, epoch: 1 })).toMatchObject({ dead_ends: ['anthropic/claude'], batch_id: batch.id })
  await end({ id, status: 'failed', from: 'queued', epoch: 1, workerId: null, settlement: null })
  await finishChunk(db, claim(job!))
  const [last] = await finalizeReady(db, null)
  await claimChunk(db, claim(last!))
  await endBatch(db, claim(last!), { output: null, error: null })
  await retryBatch(db, batch.id, 60)
  expect(await load({ id, epoch: 2 })).toMatchObject({ dead_ends: [], tries: 0, attempts: 1 })
})

it('a retried batch is not counted line by line until its chunks are claimed', async () => {
  const { batch, claim, start, runAll, end, view } = await scene()
  const { lines } = await start(8, 2)
  await ask(db, `UPDATE tasks SET status = 'failed', run_at = 'infinity', finished_at = now() WHERE line IN (4, 6)`)
  const jobs = await dispatchNextChunks(db, batch.id)
  const outcomes = ['succeeded', 'failed', 'succeeded', 'succeeded'] as const
  for (const [index, job] of jobs.entries()) {
    await claimChunk(db, claim(job))
    if (index === 0) {
      const how = { status: 'expired', from: 'queued', epoch: 0, workerId: null, settlement: null } as const
      await end({ id: lines[1]!.id, ...how })
    }
    await runAll(job, outcomes[index])
    await finishChunk(db, claim(job))
  }
  const [last] = await finalizeReady(db, null)
  await claimChunk(db, claim(last!))
  await endBatch(db, claim(last!), { output: null, error: null })
  expect(await view()).toMatchObject({ succeeded: 4, failed: 3, expired: 1, cost_usd: '1.25' })

  expect(await retryBatch(db, batch.id, 600)).toEqual({ kind: 'retried', lines: 2 })
  expect(await count(`batch_chunks WHERE step = 'run' AND status = 'waiting'`)).toBe(3)
  expect(await count(`batch_chunks WHERE status = 'waiting' AND started_at IS NOT NULL`)).toBe(0)
  const kept = { succeeded: 4, failed: 2, expired: 0, cost_usd: '1.25', input_tokens: 50 }
  expect(await view()).toMatchObject(kept)
  const [first, ...others] = await dispatchNextChunks(db, batch.id)
  await claimChunk(db, claim(first!))
  expect(await view(), 'counted from its lines').toMatchObject(kept)
  await runAll(first!)
  expect(await view()).toMatchObject({ ...kept, succeeded: 5, cost_usd: '1.5', input_tokens: 60 })
  for (const job of [first!, ...others]) {
    await claimChunk(db, claim(job))
    for (const { id } of await listOpenLines(db, job, null))
      await end({ id, status: 'failed', from: 'queued', epoch: null, workerId: null, settlement: null })
    await finishChunk(db, claim(job))
  }
  expect(await view()).toMatchObject({ ...kept, succeeded: 5, failed: 3, cost_usd: '1.5', input_tokens: 60 })
})

it('reading a batch reads the lines of running chunks only', async () => {
  const { batch, claim, start, runAll } = await scene()
  await start(10, 2)
  const [done, running] = await dispatchNextChunks(db, batch.id)
  await claimChunk(db, claim(done!))
  await runAll(done!)
  await finishChunk(db, claim(done!))
  await claimChunk(db, claim(running!))
  const asked: [{ name: string; text: string }, unknown[]][] = []
  const spy = (async (statement, values = []) => {
    asked.push([statement, values])
    return await db.query(statement, values)
  }) as Db['query']
  await findBatch({ ...db, query: spy }, batch.id)
  const [{ text }, values] = asked[0]!
  const plan = (analyzed: string) =>
    db.transaction<[{ 'QUERY PLAN': string }[]]>([
      [{ name: '', text: `EXPLAIN (ANALYZE, TIMING OFF) ${analyzed}` }, values],
    ])
  const [lines] = await plan(text)
  const scans = lines.map(row => row['QUERY PLAN']).filter(row => / on tasks /.test(row))
  expect(scans).toEqual([expect.stringMatching(/tasks_lines on tasks t .*actual rows=2\.00 loops=1\)/)])
})

it('batches are listed, newest first, page by page', async () => {
  const one = newBatch()
  const batches = [one, newBatch({ apiKeyId: one.apiKeyId }), newBatch()]
  for (const batch of batches) await createBatch(db, batch)
  const ids = async (query: Parameters<typeof listBatches>[1]) => (await listBatches(db, query)).map(row => row.id)
  expect(await ids({ apiKeyId: null, limit: 2 })).toEqual([batches[2]!.id, batches[1]!.id])
  expect(await ids({ apiKeyId: null, after: batches[1]!.id, limit: 2 })).toEqual([one.id])
  expect(await ids({ apiKeyId: one.apiKeyId, limit: 2 })).toEqual([batches[1]!.id, one.id])
  expect(await ids({ apiKeyId: one.apiKeyId, after: batches[1]!.id, limit: 2 })).toEqual([one.id])
})

it('old tasks and batches are deleted, except live ones', async () => {
  const { batch, start, claim, runAll } = await scene()
  await start(4, 2)
  const [first, second] = await dispatchNextChunks(db, batch.id)
  await claimChunk(db, claim(first!))
  await runAll(first!)
  await finishChunk(db, claim(first!))
  await clock.advance(1000)
  // Their batch is live.
  expect(await pruneTasks(db, 0, 10)).toBe(0)
  await claimChunk(db, claim(second!))
  await runAll(second!)
  await finishChunk(db, claim(second!))
  const [last] = await finalizeReady(db, null)
  await claimChunk(db, claim(last!))
  await endBatch(db, claim(last!), { output: null, error: null })
  await clock.advance(30 * DAY - 1000)
  expect(await pruneTasks(db, 30, 10)).toBe(0)
  await clock.advance(1)
  // The lines of the first chunk.
  expect(await pruneTasks(db, 30, 10)).toBe(2)
  await clock.advance(1000)
  expect(await pruneBatches(db, 30, 10)).toBe(0)
  expect(await pruneTasks(db, 30, 1)).toBe(1)
  expect(await pruneTasks(db, 30, 10)).toBe(1)
  expect(await count('attempts')).toBe(0)
  expect(await pruneBatches(db, 30, 10)).toBe(1)
  expect(await count('batch_chunks')).toBe(0)
})

it('a task and a batch with ids from a clock 40 days behind are not deleted early', async () => {
  const id = v7({ msecs: Date.now() - 40 * DAY * 1000 })
  const { batch, start, claim, runAll } = await scene({ id })
  await start(2, 2)
  await ask(db, `UPDATE tasks SET id = overlay(id::text PLACING $1 FROM 1 FOR 13)::uuid`, [id.slice(0, 13)])
  const [chunk] = await dispatchNextChunks(db, batch.id)
  await claimChunk(db, claim(chunk!))
  await runAll(chunk!)
  await finishChunk(db, claim(chunk!))
  const [last] = await finalizeReady(db, null)
  await claimChunk(db, claim(last!))
  await endBatch(db, claim(last!), { output: null, error: null })
  await clock.advance(30 * DAY)
  expect(await pruneTasks(db, 30, 10)).toBe(0)
  await clock.advance(1)
  expect(await pruneTasks(db, 30, 10)).toBe(2)
  await ask(db, `UPDATE batches SET completed_at = now()`)
  expect(await pruneBatches(db, 30, 10)).toBe(0)
})

it('a retention longer than the epoch deletes nothing', async () => {
  await createInserter(db)(
    newTask({ answer: { result: 1, provider: 'anthropic', model: 'claude' }, dispatched: false }),
  )
  expect(await pruneTasks(db, 36_500, 10)).toBe(0)
  await clock.advance(DAY + 1)
  expect(await pruneTasks(db, 1, 10)).toBe(1)
})

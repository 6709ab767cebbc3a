import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cancelBatch } from '#shared/db/batches/cancel.ts'
import type { ChunkJob } from '#shared/db/batches/chunk.ts'
import { claimChunk } from '#shared/db/batches/claim-chunk.ts'
import { createBatch, validationJob } from '#shared/db/batches/create.ts'
import { dispatchNextChunks, listStoppedChunks } from '#shared/db/batches/dispatch-chunks.ts'
import { insertLines } from '#shared/db/batches/insert-lines.ts'
import { findBatch } from '#shared/db/batches/read.ts'
import { startBatch } from '#shared/db/batches/start.ts'
import { DatabaseUnavailable, type Db } from '#shared/db/pool.ts'
import { createFinisher } from '#shared/db/tasks/finish.ts'
import { writeHeartbeat } from '#shared/db/workers.ts'
import { jobs } from '#shared/jobs/index.ts'
import { takeOverChunks } from '#shared/maintenance/sweep-batches.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { LIVENESS } from '#shared/process/liveness.ts'
import { createLogger } from '#shared/process/logger.ts'
import { newBatch, newLines } from '#shared/testing/batches.ts'
import { contextWith } from '#shared/testing/kinds.ts'
import { ask, fileDatabase, newBeat } from '#shared/testing/postgres.ts'
import { createLineConcurrency } from './line-concurrency.ts'
import { type BatchWork, createBatchWork } from './work.ts'

const database = fileDatabase()
let db: Db
const working: BatchWork[] = []
beforeEach(() => {
  db = database.dbs[0]
})
afterEach(() => Promise.all(working.splice(0).map(one => one.stop())))

/** A live worker. It reads `input` in place of any file, and runs no line. */
async function createWorker({ through = db, input = '' } = {}) {
  const worker = newBeat({ queues: ['batch'] })
  await writeHeartbeat(db, worker, [])
  const file = async () => ({
    bytes: (async function* () {
      yield Buffer.from(input)
    })(),
  })
  const work = createBatchWork({
    db: through,
    workerId: worker.id,
    files: { read: file } as never,
    jobs,
    available: async () => [],
    prices: createPrices(),
    lookup: () => contextWith(),
    end: createFinisher(db, () => {}),
    producer: { dispatch: async () => {} },
    run: async () => 'done',
    lineConcurrency: createLineConcurrency(() => 1),
    draining: () => false,
    untilHealthy: async () => undefined,
    liveness: LIVENESS,
    metrics: createMetrics('worker'),
    tracing: null,
    logger: createLogger({ level: 'silent', name: 'test' }),
  })
  working.push(work)
  return { id: worker.id, work }
}

/** Postgres, but that the first answer to this statement is lost. Then `meanwhile` happens. */
function losing(statement: string, meanwhile: () => Promise<unknown>): Db {
  let lost = false
  return {
    ...db,
    async query(asked, values) {
      const rows = await db.query(asked, values)
      if (lost || asked.name !== statement) return rows as never
      lost = true
      await meanwhile()
      throw new DatabaseUnavailable(new Error('connection reset'))
    },
  }
}

const chunks = () => ask(db, `SELECT step, status, worker_id FROM batch_chunks WHERE step <> 'validate'`)

describe('a chunk whose claim was committed but not confirmed', () => {
  /** A batch of two lines in one chunk, which is dispatched. */
  async function dispatched(): Promise<{ id: string; job: ChunkJob }> {
    const batch = newBatch()
    await createBatch(db, batch)
    const claim = { ...validationJob(batch), workerId: newBeat().id }
    await claimChunk(db, claim)
    const { lines, chunks } = newLines(2, 2)
    await insertLines(db, batch.id, lines, chunks)
    await startBatch(db, claim, { total: 2, boundUsd: null, model: null })
    return { id: batch.id, job: (await dispatchNextChunks(db, batch.id))[0]! }
  }

  it('is released if its batch was cancelled meanwhile, so that its lines are ended', async () => {
    const { id, job } = await dispatched()
    const { work } = await createWorker({ through: losing('chunks_claim', () => cancelBatch(db, id)) })
    expect(await work.run(job)).toBe('done')
    expect(await chunks()).toEqual([{ step: 'run', status: 'waiting', worker_id: null }])
    expect(await listStoppedChunks(db, 10)).toMatchObject([{ id: job.id, ending: 'cancelled' }])
  })

  it('stays with the worker that has claimed it since', async () => {
    const { id, job } = await dispatched()
    const other = await createWorker()
    await claimChunk(db, { ...job, workerId: other.id })
    const { work } = await createWorker({ through: losing('chunks_claim', () => cancelBatch(db, id)) })
    expect(await work.run(job)).toBe('done')
    expect(await chunks()).toEqual([{ step: 'run', status: 'running', worker_id: other.id }])
    expect(await findBatch(db, id)).toMatchObject({ status: 'cancelling' })
  })
})

describe('a batch that fails after an earlier validation wrote lines', () => {
  const sweep = () =>
    takeOverChunks({
      db,
      end: createFinisher(db, () => {}),
      producer: { dispatch: async () => {} } as never,
      files: { sweep: async () => false },
      liveness: LIVENESS,
      metrics: createMetrics('api'),
      logger: createLogger({ level: 'silent', name: 'test' }),
      resultRetentionDays: 0,
    })
  const lines = () => ask(db, `SELECT line, status, error->>'code' AS code FROM tasks ORDER BY line`)

  /** A killed worker wrote five lines of a batch, and a live worker validates the batch again. */
  async function repeated(input: string, chunk: { size: number; lastLine?: number }) {
    const batch = newBatch({ maxCostUsd: '1', mapping: { format: 'jsonl' } })
    await createBatch(db, batch)
    const { lines, chunks } = newLines(5, chunk.size)
    if (chunk.lastLine) chunks[0]!.lastLine = chunk.lastLine
    await insertLines(db, batch.id, lines, chunks)
    const { work } = await createWorker({ input })
    await work.run(validationJob(batch))
    return (await findBatch(db, batch.id))!
  }
  const good = `${JSON.stringify({ input: { prompt: 'Hi' } })}\n`

  it('has its lines ended by the sweeper, chunk by chunk', async () => {
    const batch = await repeated(`${good.repeat(4)}{"input": {}}\n`, { size: 2 })
    expect(batch).toMatchObject({ status: 'failed', errors: [{ line: 5, code: 'invalid_input' }] })
    await sweep()
    const ended = { status: 'cancelled', code: 'cancelled' }
    expect(await lines()).toEqual([1, 2, 3, 4, 5].map(line => ({ line, ...ended })))
    expect(await chunks()).toEqual(Array(3).fill({ step: 'run', status: 'done', worker_id: null }))
    expect(await findBatch(db, batch.id)).toMatchObject({ status: 'failed', errors: batch.errors })
  })

  it('also fails if its chunks do not cover all lines, and runs none of them', async () => {
    const batch = await repeated(good.repeat(5), { size: 2, lastLine: 3 })
    expect(batch).toMatchObject({ status: 'failed', errors: [{ line: null, code: 'lines_uneven' }] })
    await sweep()
    expect(await ask(db, `SELECT FROM tasks WHERE status = 'cancelled'`)).toHaveLength(5)
    expect(await ask(db, `SELECT FROM batch_chunks WHERE status <> 'done'`)).toEqual([])
  })
})

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cancelBatch, createBatch, findBatch, startBatch, validateJob } from '#shared/db/batches.ts'
import { type ChunkJob, claimChunk, listStoppedChunks, topUp } from '#shared/db/chunks.ts'
import { insertLines } from '#shared/db/lines.ts'
import { DatabaseUnavailable, type Db } from '#shared/db/pool.ts'
import { createEnder } from '#shared/db/tasks.ts'
import { beat } from '#shared/db/workers.ts'
import { jobs } from '#shared/jobs/index.ts'
import { createLogger } from '#shared/logger.ts'
import { createMetrics } from '#shared/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { takeOverChunks } from '#shared/sweep-batches.ts'
import { newBatch, newLines } from '#shared/testing/batches.ts'
import { lookWith } from '#shared/testing/kinds.ts'
import { ask, fileDatabase, newBeat } from '#shared/testing/postgres.ts'
import { createShare } from './share.ts'
import { type BatchWork, createBatchWork } from './work.ts'

const database = fileDatabase()
let db: Db
const working: BatchWork[] = []
beforeEach(() => {
  db = database.dbs[0]
})
afterEach(() => Promise.all(working.splice(0).map(one => one.stop())))

/** A worker that lives; it reads `input` whichever file is asked for, and runs no line. */
async function createWorker({ through = db, input = '' } = {}) {
  const worker = newBeat({ queues: ['batch'] })
  await beat(db, worker, [])
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
    lookup: () => lookWith(),
    end: createEnder(db, () => {}),
    producer: { dispatch: async () => {} },
    run: async () => 'done',
    share: createShare(() => 1),
    draining: () => false,
    whenFit: async () => undefined,
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

describe('a chunk whose claim was committed while its answer was lost', () => {
  /** A batch of two lines in one chunk, which is dispatched. */
  async function dispatched(): Promise<{ id: string; job: ChunkJob }> {
    const batch = newBatch()
    await createBatch(db, batch)
    const claim = { ...validateJob(batch), workerId: newBeat().id }
    await claimChunk(db, claim)
    const { lines, chunks } = newLines(2, 2)
    await insertLines(db, batch.id, lines, chunks)
    await startBatch(db, claim, { total: 2, boundUsd: null, model: null })
    return { id: batch.id, job: (await topUp(db, batch.id))[0]! }
  }

  it('is given back if its batch was cancelled meanwhile, so that its lines are ended', async () => {
    const { id, job } = await dispatched()
    const { work } = await createWorker({ through: losing('chunks_claim', () => cancelBatch(db, id)) })
    expect(await work.run(job)).toBe('done')
    expect(await chunks()).toEqual([{ step: 'run', status: 'waiting', worker_id: null }])
    expect(await listStoppedChunks(db, 10)).toMatchObject([{ id: job.id, ending: 'cancelled' }])
  })

  it('stays with another that has it', async () => {
    const { id, job } = await dispatched()
    const other = await createWorker()
    await claimChunk(db, { ...job, workerId: other.id })
    const { work } = await createWorker({ through: losing('chunks_claim', () => cancelBatch(db, id)) })
    expect(await work.run(job)).toBe('done')
    expect(await chunks()).toEqual([{ step: 'run', status: 'running', worker_id: other.id }])
    expect(await findBatch(db, id)).toMatchObject({ status: 'cancelling' })
  })
})

describe('a batch that fails with lines that an earlier validation had written', () => {
  const sweep = () =>
    takeOverChunks({
      db,
      end: createEnder(db, () => {}),
      producer: { dispatch: async () => {} } as never,
      files: { sweep: async () => false },
      metrics: createMetrics('api'),
      logger: createLogger({ level: 'silent', name: 'test' }),
      resultRetentionDays: 0,
    })
  const lines = () => ask(db, `SELECT line, status, error->>'code' AS code FROM tasks ORDER BY line`)

  /** Five lines, of a worker that was killed, and the batch in the hands of one that lives. */
  async function repeated(input: string, chunk: { size: number; lastLine?: number }) {
    const batch = newBatch({ maxCostUsd: '1', mapping: { format: 'jsonl' } })
    await createBatch(db, batch)
    const { lines, chunks } = newLines(5, chunk.size)
    if (chunk.lastLine) chunks[0]!.lastLine = chunk.lastLine
    await insertLines(db, batch.id, lines, chunks)
    const { work } = await createWorker({ input })
    await work.run(validateJob(batch))
    return (await findBatch(db, batch.id))!
  }
  const good = `${JSON.stringify({ input: { prompt: 'Hi' } })}\n`

  it('has all of them ended by the sweeper, chunk by chunk', async () => {
    const batch = await repeated(`${good.repeat(4)}{"input": {}}\n`, { size: 2 })
    expect(batch).toMatchObject({ status: 'failed', errors: [{ line: 5, code: 'invalid_input' }] })
    await sweep()
    const ended = { status: 'cancelled', code: 'cancelled' }
    expect(await lines()).toEqual([1, 2, 3, 4, 5].map(line => ({ line, ...ended })))
    expect(await chunks()).toEqual(Array(3).fill({ step: 'run', status: 'done', worker_id: null }))
    expect(await findBatch(db, batch.id)).toMatchObject({ status: 'failed', errors: batch.errors })
  })

  it('fails also because its chunks do not fit together, and is not run in part', async () => {
    const batch = await repeated(good.repeat(5), { size: 2, lastLine: 3 })
    expect(batch).toMatchObject({ status: 'failed', errors: [{ line: null, code: 'lines_uneven' }] })
    await sweep()
    expect(await ask(db, `SELECT FROM tasks WHERE status = 'cancelled'`)).toHaveLength(5)
    expect(await ask(db, `SELECT FROM batch_chunks WHERE status <> 'done'`)).toEqual([])
  })
})

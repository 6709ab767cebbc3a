import fc from 'fast-check'
import { expect, it } from 'vitest'
import { failChunk, finishLines } from '#shared/batches/fail-chunk.ts'
import { newBatch, newLines } from '#shared/testing/batches.ts'
import { ask, fileDatabase, newBeat, newReservation, settlement } from '#shared/testing/postgres.ts'
import { cancelBatch } from './batches/cancel.ts'
import type { ChunkJob } from './batches/chunk.ts'
import { type ClaimedChunk, claimChunk, releaseChunk } from './batches/claim-chunk.ts'
import { createBatch, validationJob } from './batches/create.ts'
import { dispatchNextChunks, listDispatchedChunks, listStoppedChunks } from './batches/dispatch-chunks.ts'
import { endBatch } from './batches/end.ts'
import { finalizeReady } from './batches/finalize.ts'
import { finishChunk } from './batches/finish-chunk.ts'
import { insertLines } from './batches/insert-lines.ts'
import { findBatch } from './batches/read.ts'
import { listOpenLines } from './batches/read-lines.ts'
import { retryBatch } from './batches/retry.ts'
import { startBatch } from './batches/start.ts'
import { takeOverDeadChunks } from './batches/take-over-chunks.ts'
import { createClaimer } from './claims/claim.ts'
import { createRequeuer } from './claims/requeue.ts'
import { takeOverDeadClaims } from './claims/take-over.ts'
import type { Db } from './pool.ts'
import { createFinisher } from './tasks/finish.ts'
import { findOverdue } from './tasks/overdue.ts'
import type { FinishedTask } from './tasks/row.ts'
import { writeHeartbeat } from './workers.ts'

/**
 * A batch with several workers that claim its chunks, run their lines, release chunks, die and return; a client that cancels and
 * retries it; a queue that delivers late, twice or never; and the sweeper.
 */

const WORKERS = 3
const LINES = 7
const CHUNK = 2
const MAX_CLAIMS = 3
const ENDS = ['succeeded', 'failed', 'cancelled', 'expired'] as const
const BATCH_ENDS = ['completed', 'expired', 'cancelled', 'failed']

type Op =
  | { do: 'work' | 'deliver' | 'run' | 'requeue' | 'finish' | 'release'; worker: number; which: number }
  | { do: 'die' | 'beat'; worker: number }
  | { do: 'take over' | 'advance' | 'stop' | 'cancel' | 'retry' | 'late' }

const index = fc.nat({ max: 30 })
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 16,
    arbitrary: fc.record({
      do: fc.constantFrom('work', 'work', 'deliver', 'deliver', 'run', 'run', 'requeue', 'finish', 'release'),
      worker: index,
      which: index,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('die', 'beat'), worker: index }) },
  {
    weight: 7,
    arbitrary: fc.record({ do: fc.constantFrom('take over', 'advance', 'advance', 'stop', 'retry') }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('cancel', 'late') }) },
)

const database = fileDatabase(WORKERS)

/** A process, the chunks that it believes to hold, and their open lines. */
function createWorker(db: Db, onEnded: (ended: FinishedTask[]) => void) {
  const worker = newBeat({ queues: ['batch'] })
  return {
    db,
    id: worker.id,
    claim: createClaimer(db, worker.id),
    requeue: createRequeuer(db, worker.id),
    end: createFinisher(db, onEnded),
    beat: () => writeHeartbeat(db, worker, []),
    die: () => ask(db, `UPDATE workers SET beat_at = beat_at - interval '1 minute' WHERE id = $1`, [worker.id]),
    chunks: [] as (ClaimedChunk & { epoch: number })[],
  }
}
type Worker = ReturnType<typeof createWorker>

it('every line ends exactly once, the totals match the lines, and nothing is stuck, in any order of events', async () => {
  const reached = new Map<string, number>()
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(op, { minLength: 1, maxLength: 4 }), { minLength: 20, maxLength: 60 }),
      async rounds => {
        const [db] = database.dbs
        /** By line: number of reported ends since the last retry of the batch. */
        const ends = new Map<string, number>()
        const workers = database.dbs.map(one =>
          createWorker(one, ended => {
            for (const { id } of ended) ends.set(id, (ends.get(id) ?? 0) + 1)
          }),
        )
        await Promise.all(workers.map(worker => worker.beat()))
        const batch = newBatch({ maxCostUsd: '100', webhookUrl: 'https://example.com' })
        await createBatch(db, batch)
        const { lines, chunks } = newLines(LINES, CHUNK)
        const first = { ...validationJob(batch), workerId: workers[0]!.id }
        await claimChunk(db, first)
        await insertLines(db, batch.id, lines, chunks)
        await startBatch(db, first, { total: LINES, boundUsd: null, model: null })
        /** All dispatched jobs. The queue may deliver any of them at any time. */
        const jobs: ChunkJob[] = []
        let retries = 0

        const lineOf = async (worker: Worker, which: number) => {
          const chunk = worker.chunks[which % Math.max(1, worker.chunks.length)]
          if (!chunk) return null
          const open = (await listOpenLines(worker.db, chunk, worker.id)).filter(one => !one.running)
          return open[which % Math.max(1, open.length)] ?? null
        }
        const claimLine = async (worker: Worker, which: number) => {
          const line = await lineOf(worker, which)
          if (!line) return null
          const [row] = await ask<{ attempts: number }>(worker.db, 'SELECT attempts FROM tasks WHERE id = $1', [
            line.id,
          ])
          const n = row!.attempts + 1
          const reservation = newReservation({ batchId: batch.id, usd: '0.1' })
          const claimed = await worker.claim({ id: line.id, epoch: line.epoch, n, reservation })
          return claimed.kind === 'claimed' ? { ...line, n } : null
        }
        const drop = (worker: Worker, chunk: { id: string }) => {
          worker.chunks = worker.chunks.filter(one => one.id !== chunk.id)
        }

        const perform = async (op: Op): Promise<void> => {
          const worker = workers['worker' in op ? op.worker % WORKERS : 0]!
          const chunk = 'which' in op ? worker.chunks[op.which % Math.max(1, worker.chunks.length)] : undefined
          switch (op.do) {
            case 'deliver': {
              const job = jobs[Math.max(0, op.which) % Math.max(1, jobs.length)]
              // A process takes each dispatch once.
              if (!job || worker.chunks.some(one => one.id === job.id && one.epoch === job.epoch)) return
              const claimed = await claimChunk(worker.db, { ...job, workerId: worker.id })
              if (claimed) worker.chunks.push({ ...claimed, epoch: job.epoch })
              return
            }
            // All lines of the chunk, without interruption.
            case 'work': {
              const known = new Set(worker.chunks)
              await perform({ ...op, do: 'deliver', which: jobs.length - 1 - (op.which % 3) })
              const at = worker.chunks.findIndex(one => !known.has(one))
              if (at < 0) return
              for (let n = 0; n < CHUNK; n++) await perform({ ...op, do: 'run', which: at })
              return perform({ ...op, do: 'finish', which: at })
            }
            case 'run': {
              const line = await claimLine(worker, op.which)
              if (!line) return
              await worker.end({
                ...{ id: line.id, epoch: line.epoch, from: 'running', workerId: worker.id },
                ...{ status: op.which % 4 ? 'succeeded' : 'failed', result: { text: 'Hi' } },
                settlement: settlement(line.n, 'succeeded', { costUsd: '0.01' }),
              })
              return
            }
            case 'requeue': {
              const line = await claimLine(worker, op.which)
              if (!line) return
              const back = { delayMs: 0, tries: 1, settlement: settlement(line.n, 'server_error', { costUsd: '0' }) }
              await worker.requeue({ id: line.id, epoch: line.epoch, ...back, claimed: op.which % 2 === 0 })
              return
            }
            case 'finish': {
              if (!chunk) return
              const claim = { id: chunk.id, epoch: chunk.epoch, workerId: worker.id }
              if (chunk.step === 'finalize') await endBatch(worker.db, claim, { output: null, error: null })
              else if ((await finishChunk(worker.db, claim))?.open) return
              drop(worker, chunk)
              return
            }
            case 'release': {
              if (!chunk) return
              const job = await releaseChunk(
                worker.db,
                { id: chunk.id, epoch: chunk.epoch, workerId: worker.id },
                { dispatched: op.which % 2 === 0 },
              )
              if (job && op.which % 2 === 0) jobs.push(job)
              drop(worker, chunk)
              return
            }
            case 'die':
              await worker.die()
              return
            case 'beat':
              await worker.beat()
              return
            case 'take over': {
              await takeOverDeadClaims(db, 100, 100)
              const { taken, exhausted } = await takeOverDeadChunks(db, 100, MAX_CLAIMS)
              jobs.push(...taken)
              for (const one of exhausted) {
                reached.set('exhausted', (reached.get('exhausted') ?? 0) + 1)
                // Otherwise the batch fails, and no retry can start it again.
                if (one.step === 'run') await failChunk({ db, end: worker.end }, one)
              }
              return
            }
            case 'advance':
              jobs.push(...(await dispatchNextChunks(db, null)), ...(await finalizeReady(db, null)))
              return
            case 'stop':
              for (const one of await listStoppedChunks(db, 2)) {
                const open = (await listOpenLines(db, one, null)).filter(line => !line.running)
                await finishLines(worker.end, open, one.ending, { code: 'cancelled', message: '' }, 'queued')
                await finishChunk(db, { ...one, workerId: null })
              }
              return
            case 'cancel':
              await cancelBatch(db, batch.id)
              return
            case 'late': {
              const overdue = await findOverdue(db, 100)
              await finishLines(
                worker.end,
                overdue.map(id => ({ id })),
                'expired',
                { code: 'deadline_exceeded', message: '' },
              )
              return
            }
            case 'retry':
              return
          }
        }

        const check = async () => {
          const view = (await findBatch(db, batch.id))!
          const rows = await ask<{ id: string; line: number; status: string; dispatched: string }>(
            db,
            `SELECT id, line, status, dispatched_at::text AS dispatched FROM tasks WHERE batch_id = $1 ORDER BY line`,
            [batch.id],
          )
          const done = await ask<Record<string, number> & { status: string }>(
            db,
            `SELECT * FROM batch_chunks WHERE batch_id = $1 AND step = 'run'`,
            [batch.id],
          )
          const count = (of: typeof rows, status: string) => of.filter(row => row.status === status).length
          expect(rows).toHaveLength(LINES)
          for (const row of rows) {
            expect(row.dispatched, 'a line is in no queue').toBe('infinity')
            const terminal = (ENDS as readonly string[]).includes(row.status)
            if (!terminal) expect(ends.get(row.id) ?? 0).toBe(0)
            else if (retries === 0) expect(ends.get(row.id), 'every line ends once').toBe(1)
            else expect(ends.get(row.id) ?? 0).toBeLessThanOrEqual(1)
          }
          for (const chunk of done.filter(one => one.status === 'done')) {
            const own = rows.filter(row => row.line >= chunk.first_line! && row.line <= chunk.last_line!)
            for (const status of ENDS) expect(chunk[status], `${status} of a chunk`).toBe(count(own, status))
            expect(count(own, 'queued') + count(own, 'running'), 'nothing of a chunk that is done is open').toBe(0)
          }
          if (BATCH_ENDS.includes(view.status)) {
            for (const status of ENDS) expect(view[status], `${status} of the batch`).toBe(count(rows, status))
            expect(ENDS.reduce((sum, status) => sum + view[status], 0)).toBe(LINES)
            const [spent] = await ask<{ usd: string }>(
              db,
              `SELECT trim_scale(coalesce(sum(a.cost_usd), 0))::text AS usd FROM attempts a JOIN tasks t ON t.id = a.task_id
             WHERE t.batch_id = $1 AND a.outcome <> 'unknown'`,
              [batch.id],
            )
            expect(Number(view.cost_usd)).toBeGreaterThanOrEqual(Number(spent!.usd) - 1e-9)
          }
          reached.set(view.status, (reached.get(view.status) ?? 0) + 1)
          return view
        }

        /** Actions run concurrently, except those of one worker, which run in order. */
        const together = async (ops: Op[]) => {
          const chains = Map.groupBy(ops, op => ('worker' in op ? op.worker % WORKERS : op))
          await Promise.all(
            [...chains.values()].map(async chain => {
              for (const op of chain) await perform(op)
            }),
          )
        }
        for (const round of rounds) {
          await together(round)
          const view = await check()
          // Runs alone, so that the ends are counted from zero.
          if (round.some(one => one.do === 'retry') && BATCH_ENDS.includes(view.status)) {
            const outcome = await retryBatch(db, batch.id, 600)
            if (outcome.kind !== 'retried') continue
            retries++
            reached.set('retried', (reached.get('retried') ?? 0) + 1)
            ends.clear()
          }
        }

        // At the end all workers are gone, and a new one finishes the batch, whatever jobs the queue has lost.
        await Promise.all(workers.map(worker => worker.die()))
        const last = createWorker(db, ended => {
          for (const { id } of ended) ends.set(id, (ends.get(id) ?? 0) + 1)
        })
        for (let n = 0; !BATCH_ENDS.includes((await check()).status); n++) {
          expect(n, 'nothing is stuck').toBeLessThan(20)
          await last.beat()
          workers[0] = last
          for (const what of ['take over', 'stop', 'advance'] as const) await perform({ do: what })
          await ask(db, `UPDATE batch_chunks SET dispatched_at = dispatched_at - interval '1 minute'`)
          for (const job of await listDispatchedChunks(db)) {
            const claimed = await claimChunk(db, { ...job, workerId: last.id })
            if (!claimed) continue
            last.chunks = [{ ...claimed, epoch: job.epoch }]
            for (let which = 1; await lineOf(last, which); which++)
              await perform({ do: 'run', worker: 0, which: which | 1 })
            await perform({ do: 'finish', worker: 0, which: 0 })
          }
        }
        const view = await check()
        const hooks = await ask(db, 'SELECT type FROM webhook_deliveries WHERE subject_id = $1', [batch.id])
        expect(hooks).toHaveLength(retries + 1)
        expect(await ask(db, `SELECT scope FROM budgets WHERE scope = 'batch:' || $1::text`, [view.id])).toEqual([])
      },
    ),
    { numRuns: 40 },
  )
  // Guards against a model in which nothing happens.
  for (const state of ['completed', 'cancelled', 'cancelling', 'in_progress', 'retried'])
    expect(reached.get(state), state).toBeGreaterThan(0)
}, 120_000)

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { endLines, giveUpChunk } from '#shared/batches/give-up.ts'
import { newBatch, newLines } from '#shared/testing/batches.ts'
import { ask, fileDatabase, newBeat, newNeed, settlement } from '#shared/testing/postgres.ts'
import {
  cancelBatch,
  createBatch,
  endBatch,
  finalizeReady,
  findBatch,
  retryBatch,
  startBatch,
  validateJob,
} from './batches.ts'
import {
  type ChunkJob,
  type ClaimedChunk,
  claimChunk,
  finishChunk,
  listDispatchedChunks,
  listStoppedChunks,
  releaseChunk,
  takeOverDeadChunks,
  topUp,
} from './chunks.ts'
import { createClaimer, createRequeuer, takeOverDeadClaims } from './claims.ts'
import { insertLines, listOpenLines } from './lines.ts'
import type { Db } from './pool.ts'
import { createEnder, type Ended, findOverdue } from './tasks.ts'
import { beat } from './workers.ts'

/**
 * A batch in the hands of several workers that claim its chunks, run their lines, give back, die and come back, of a client
 * that cancels it and tries it again, of a queue that delivers late, twice or never, and of the sweeper.
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

/** A process, the chunks that it believes to hold, and what it has of each. */
function createWorker(db: Db, onEnded: (ended: Ended[]) => void) {
  const worker = newBeat({ queues: ['batch'] })
  return {
    db,
    id: worker.id,
    claim: createClaimer(db, worker.id),
    requeue: createRequeuer(db, worker.id),
    end: createEnder(db, onEnded),
    beat: () => beat(db, worker, []),
    die: () => ask(db, `UPDATE workers SET beat_at = beat_at - interval '1 minute' WHERE id = $1`, [worker.id]),
    chunks: [] as (ClaimedChunk & { epoch: number })[],
  }
}
type Worker = ReturnType<typeof createWorker>

it('every line ends exactly once, the sums are those of the lines, and nothing is stuck, in whatever order things happen', async () => {
  const reached = new Map<string, number>()
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(op, { minLength: 1, maxLength: 4 }), { minLength: 20, maxLength: 60 }),
      async rounds => {
        const [db] = database.dbs
        /** Of each line: how often it was said to have ended since the batch was last tried. */
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
        const first = { ...validateJob(batch), workerId: workers[0]!.id }
        await claimChunk(db, first)
        await insertLines(db, batch.id, lines, chunks)
        await startBatch(db, first, { total: LINES, boundUsd: null, model: null })
        /** All that was ever handed to the queue, which may deliver any of it at any time. */
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
          const need = newNeed({ batchId: batch.id, usd: '0.1' })
          const claimed = await worker.claim({ id: line.id, epoch: line.epoch, n, need })
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
              // A process takes a dispatch once.
              if (!job || worker.chunks.some(one => one.id === job.id && one.epoch === job.epoch)) return
              const claimed = await claimChunk(worker.db, { ...job, workerId: worker.id })
              if (claimed) worker.chunks.push({ ...claimed, epoch: job.epoch })
              return
            }
            // All of a chunk, as if nothing came between.
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
              const { taken, hopeless } = await takeOverDeadChunks(db, 100, MAX_CLAIMS)
              jobs.push(...taken)
              for (const one of hopeless) {
                reached.set('hopeless', (reached.get('hopeless') ?? 0) + 1)
                // Else the batch would fail, which no retry brings back.
                if (one.step === 'run') await giveUpChunk({ db, end: worker.end }, one)
              }
              return
            }
            case 'advance':
              jobs.push(...(await topUp(db, null)), ...(await finalizeReady(db, null)))
              return
            case 'stop':
              for (const one of await listStoppedChunks(db, 2)) {
                const open = (await listOpenLines(db, one, null)).filter(line => !line.running)
                await endLines(worker.end, open, one.ending, { code: 'cancelled', message: '' }, 'queued')
                await finishChunk(db, { ...one, workerId: null })
              }
              return
            case 'cancel':
              await cancelBatch(db, batch.id)
              return
            case 'late': {
              const overdue = await findOverdue(db, 100)
              await endLines(
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

        /** At once, but for what one worker does: that comes one after the other. */
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
          // Alone in its round: the ends are counted anew.
          if (round.some(one => one.do === 'retry') && BATCH_ENDS.includes(view.status)) {
            const outcome = await retryBatch(db, batch.id, 600)
            if (outcome.kind !== 'retried') continue
            retries++
            reached.set('retried', (reached.get('retried') ?? 0) + 1)
            ends.clear()
          }
        }

        // In the end all that were there are gone, and one that comes brings it to an end, whatever the queue has lost.
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
  // A model in which nothing happens would hold as well.
  for (const state of ['completed', 'cancelled', 'cancelling', 'in_progress', 'retried'])
    expect(reached.get(state), state).toBeGreaterThan(0)
}, 120_000)

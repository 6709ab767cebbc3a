import { type Counts, finishChunk } from '#shared/db/chunks.ts'
import { listOpenLines } from '#shared/db/lines.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import { toWire } from '#shared/ids.ts'
import type { Logger } from '#shared/logger.ts'
import type { RunOutcome } from '#workers/pipeline/run.ts'
import { createPace } from './pace.ts'
import type { Share } from './share.ts'

export type HeldChunk = { id: string; epoch: number; workerId: string; signal: AbortSignal }

/** `later`: none of its lines can run before `ms` are over. `stopped`: by its signal, nothing of it is under way any more. */
export type ChunkOutcome =
  | { kind: 'finished'; counts: Counts }
  | { kind: 'lost' }
  | { kind: 'later'; ms: number }
  | { kind: 'stopped' }

export type RunChunkDeps = {
  db: Db
  run(line: { id: string; epoch: number }, slow: () => void): Promise<RunOutcome>
  share: Share
  logger: Logger
}

/** A chunk all of whose lines wait for longer gives its place to another. */
const PARK_MS = 5000
/** The longest that it waits without looking around. */
const LOOK_MS = 250
/** Lines that should have ended and have not: of a dead worker, until they are taken over, or after a bug. */
const AGAIN_MS = 500

type Waiting = { id: string; epoch: number; target: string; due: number }

/** Runs the lines of a claimed chunk that have not ended, each through the pipeline of all tasks, until none is left. */
export async function runChunk(deps: RunChunkDeps, chunk: HeldChunk): Promise<ChunkOutcome> {
  const { db } = deps
  for (let pass = 0; ; pass++) {
    const open = await persist(() => listOpenLines(db, chunk, chunk.workerId))
    if (open.length === 0) {
      const finished = await persist(() => finishChunk(db, chunk))
      if (finished === null) return { kind: 'lost' }
      if (finished.open === 0) return { kind: 'finished', counts: finished }
    }
    if (chunk.signal.aborted) return { kind: 'stopped' }
    if (pass > 0) await pause(AGAIN_MS, chunk.signal)
    const now = performance.now()
    const waiting = open.flatMap(({ id, epoch, running, target, due_ms }) =>
      running ? [] : [{ id, epoch, target, due: now + due_ms }],
    )
    const outcome = await runLines(deps, waiting, chunk.signal)
    if (outcome) return outcome
  }
}

/** @returns null: all have been run */
async function runLines(deps: RunChunkDeps, lines: Waiting[], signal: AbortSignal): Promise<ChunkOutcome | null> {
  const { logger } = deps
  const pace = createPace()
  const share = deps.share.enter()
  let waiting = lines
  let active = 0
  let kick: () => void = () => undefined

  async function runLine({ id, epoch, target }: Waiting): Promise<void> {
    active++
    pace.started(target)
    share.started()
    let slow = false
    const again = (epoch: number, ms: number) => waiting.push({ id, epoch, target, due: performance.now() + ms })
    let ended: Parameters<typeof pace.ended>[1] = 'neither'
    try {
      const outcome = await deps.run({ id, epoch }, () => {
        slow ||= share.slow()
      })
      if (outcome === 'done') ended = 'answered'
      else if (outcome !== 'give_back') {
        if (!outcome.called) ended = { refused: outcome.ms }
        again(outcome.epoch, outcome.ms)
      }
    } catch (error) {
      logger.error({ err: error, task_id: toWire('task', id) }, 'a line failed outside its run')
    } finally {
      active--
      pace.ended(target, ended)
      share.ended(slow)
      kick()
    }
  }

  try {
    for (;;) {
      if (signal.aborted && active === 0) return { kind: 'stopped' }
      if (!signal.aborted) {
        const now = performance.now()
        const left: Waiting[] = []
        for (const line of waiting) {
          if (line.due <= now && share.mayStart() && pace.mayStart(line.target)) void runLine(line)
          else left.push(line)
        }
        waiting = left
      }
      if (waiting.length === 0 && active === 0) return null
      const soonest = Math.min(...waiting.map(line => Math.max(line.due, pace.waitsUntil(line.target))))
      const ms = soonest - performance.now()
      if (active === 0 && ms > PARK_MS) return { kind: 'later', ms }
      const { promise, resolve } = Promise.withResolvers<void>()
      kick = resolve
      // Those that are due wait for a place: they are kicked when there is one.
      const timer = setTimeout(resolve, ms > 0 ? Math.min(ms, LOOK_MS) : LOOK_MS)
      await promise
      clearTimeout(timer)
    }
  } finally {
    share.leave()
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  signal.addEventListener('abort', () => resolve(), { once: true })
  if (signal.aborted) resolve()
  return promise.finally(() => clearTimeout(timer))
}

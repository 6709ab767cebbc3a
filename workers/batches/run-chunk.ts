import type { LineCounts } from '#shared/db/batches/chunk.ts'
import { finishChunk } from '#shared/db/batches/finish-chunk.ts'
import { listOpenLines } from '#shared/db/batches/read-lines.ts'
import type { Db } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import type { RunOutcome } from '#shared/engine/conclude.ts'
import { toWire } from '#shared/ids.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { LineConcurrency } from './line-concurrency.ts'
import { createLineThrottle } from './line-throttle.ts'

export type HeldChunk = { id: string; epoch: number; workerId: string; signal: AbortSignal }

/** `later`: no line can run for `ms`. `stopped`: its signal stopped it, and no line is running. */
export type ChunkOutcome =
  | { kind: 'finished'; counts: LineCounts }
  | { kind: 'lost' }
  | { kind: 'later'; ms: number }
  | { kind: 'stopped' }

export type RunChunkDeps = {
  db: Db
  run(line: { id: string; epoch: number }, slow: () => void): Promise<RunOutcome>
  lineConcurrency: LineConcurrency
  logger: Logger
}

/** A chunk whose lines all wait longer than this is released, so that another can run. */
const PARK_MS = 5000
/** Maximum wait before the lines are examined again. */
const POLL_MS = 250
/** Pause before lines that should have ended are read again: those of a dead worker are taken over in the meantime. */
const AGAIN_MS = 500

type Waiting = { id: string; epoch: number; target: string; due: number }

/** Runs the open lines of a claimed chunk through the engine until all have ended. */
export async function runChunk(deps: RunChunkDeps, chunk: HeldChunk): Promise<ChunkOutcome> {
  const { db } = deps
  for (let pass = 0; ; pass++) {
    const open = await retryUnavailable(() => listOpenLines(db, chunk, chunk.workerId))
    if (open.length === 0) {
      const finished = await retryUnavailable(() => finishChunk(db, chunk))
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

/** @returns null: all lines were run */
async function runLines(deps: RunChunkDeps, lines: Waiting[], signal: AbortSignal): Promise<ChunkOutcome | null> {
  const { logger } = deps
  const throttle = createLineThrottle()
  const slots = deps.lineConcurrency.enter()
  let waiting = lines
  let active = 0
  let wake: () => void = () => undefined

  async function runLine({ id, epoch, target }: Waiting): Promise<void> {
    active++
    throttle.started(target)
    slots.started()
    let slow = false
    const again = (epoch: number, ms: number) => waiting.push({ id, epoch, target, due: performance.now() + ms })
    let ended: Parameters<typeof throttle.ended>[1] = 'neither'
    try {
      const outcome = await deps.run({ id, epoch }, () => {
        slow ||= slots.slow()
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
      throttle.ended(target, ended)
      slots.ended(slow)
      wake()
    }
  }

  try {
    for (;;) {
      if (signal.aborted && active === 0) return { kind: 'stopped' }
      if (!signal.aborted) {
        const now = performance.now()
        const left: Waiting[] = []
        for (const line of waiting) {
          if (line.due <= now && slots.mayStart() && throttle.mayStart(line.target)) void runLine(line)
          else left.push(line)
        }
        waiting = left
      }
      if (waiting.length === 0 && active === 0) return null
      const soonest = Math.min(...waiting.map(line => Math.max(line.due, throttle.waitsUntil(line.target))))
      const ms = soonest - performance.now()
      if (active === 0 && ms > PARK_MS) return { kind: 'later', ms }
      const { promise, resolve } = Promise.withResolvers<void>()
      wake = resolve
      // Lines that are due wait for a slot; a line that ends wakes them.
      const timer = setTimeout(resolve, ms > 0 ? Math.min(ms, POLL_MS) : POLL_MS)
      await promise
      clearTimeout(timer)
    }
  } finally {
    slots.leave()
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  signal.addEventListener('abort', () => resolve(), { once: true })
  if (signal.aborted) resolve()
  return promise.finally(() => clearTimeout(timer))
}

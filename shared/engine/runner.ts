import { isUnavailable } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import { type RunnableTask, toRunnable } from '#shared/db/tasks/load.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import { hasPrompt } from '#shared/jobs/prompt.ts'
import { jobId } from '#shared/queue/names.ts'
import { createClaimSession } from './claim-session.ts'
import { createConclude, type RunOutcome, requeued } from './conclude.ts'
import { answer, type LiveRun, type Run, type RunDeps } from './run.ts'
import { createStageTimer } from './stage-timer.ts'
import { logIds } from './task-log.ts'

/** A worker that does not know a kind or a version of its prompt is older than the API: a newer one may take the task. */
const UNKNOWN_KIND_WAIT_MS = 5000

/** Runs tasks through the stages: route, admit, claim, call, check, settle. */
export type Runner = {
  /** Runs a dispatched task. `onSlow` is called when its call takes unusually long. */
  run(job: { id: string; epoch: number }, onSlow?: () => void): Promise<RunOutcome>
  /** Runs a task that is not stored yet, for a client that waits. @throws DatabaseUnavailable, before any call */
  runNew(task: NewTask, live: LiveRun): Promise<void>
}

export function createRunner(deps: RunDeps): Runner {
  // After a Redis flush the queue may deliver a job twice to one process, and Postgres would take the second claim for a
  // repetition of the first.
  const inFlight = new Set<string>()
  return {
    async run(job, onSlow = () => undefined) {
      // By epoch: the next dispatch of a task may arrive before this one has returned.
      const dispatch = jobId(job)
      if (inFlight.has(dispatch)) return 'done'
      inFlight.add(dispatch)
      try {
        const task = await retryUnavailable(() => deps.load(job))
        if (!task) return 'done'
        if (deps.draining()) return 'give_back'
        return await runTask(deps, task, { session: createClaimSession(deps, task), onSlow })
      } finally {
        inFlight.delete(dispatch)
      }
    },
    async runNew(task, { signal, ...live }) {
      const runnable = toRunnable(task)
      const session = createClaimSession(deps, runnable, task)
      const leave = () => session.stop('disconnected')
      signal.addEventListener('abort', leave)
      try {
        await runTask(deps, runnable, { session, onSlow: () => undefined, ...live })
      } finally {
        signal.removeEventListener('abort', leave)
      }
    },
  }
}

type TaskRun = Pick<Run, 'session' | 'onSlow' | 'onEvent' | 'onTarget' | 'onEnd'>

async function runTask(deps: RunDeps, task: RunnableTask, started: TaskRun): Promise<RunOutcome> {
  const { session } = started
  const kind = deps.jobs.get(task.kind)
  if (!kind || !hasPrompt(kind, task.options)) {
    session.close()
    const wait = { delayMs: UNKNOWN_KIND_WAIT_MS, tries: task.tries, settlement: null, claimed: false }
    return requeued(task, await deps.settle.requeue(task, wait), wait.delayMs, false)
  }
  // A line queues with its chunk.
  if (!task.batch_id) deps.metrics.stageSeconds.observe({ stage: 'queue', kind: task.kind }, task.waited_ms / 1000)
  const run = { ...started, task, kind, time: createStageTimer(deps.metrics, kind.kind) }
  const { conclude, giveUp } = createConclude(deps, run)
  try {
    return await conclude(await answer(deps, run))
  } catch (error) {
    // A task without a row owes its client only an error.
    if (session.unstored && isUnavailable(error)) throw error
    deps.logger.error({ err: error, ...logIds(task), kind: task.kind }, 'a stage failed unexpectedly')
    return await giveUp()
  } finally {
    session.close()
  }
}

import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { Target } from '#shared/gate/target.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { type FinishReason, isRefusal } from '#shared/models/finish-reasons.ts'
import { DEMO } from '#shared/models/providers.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { CallAnswer, EmbedAnswer } from '#shared/providers/define.ts'
import { clean } from '#shared/text.ts'
import { type AnswerWithoutCall, type AnswerWithoutCallDeps, fallbackAnswer } from './answer-without-call.ts'
import type { CheckedAnswer } from './check.ts'
import type { ClaimSession, TaskEnd } from './claim-session.ts'
import type { Failed } from './no-answer.ts'
import type { StageTimer } from './stage-timer.ts'
import { logIds } from './task-log.ts'

export type ConcludeDeps = AnswerWithoutCallDeps & { logger: Logger }

/**
 * How a run ends. `use`: an answer that needed no call. `cancel`: the client that waited has left. `leave`: there is nothing to
 * write, because another run or the leader owns the task. `give_back`: not begun, since the process is stopping.
 */
export type Conclusion =
  | {
      kind: 'succeed'
      target: Target
      answer: CallAnswer | EmbedAnswer
      checked: Extract<CheckedAnswer, { ok: true }>
    }
  | { kind: 'use'; answer: AnswerWithoutCall }
  | { kind: 'fail'; error: Failed; finishReason?: FinishReason | null; mayFallBack?: boolean }
  | { kind: 'expire'; failed: Failed | null }
  | { kind: 'cancel' }
  | { kind: 'requeue'; delayMs: number }
  | { kind: 'leave' }
  | { kind: 'give_back' }

/**
 * `give_back`: the process is stopping and has not begun the job; the queue hands it to another worker.
 * `again`: a batch line runs again under a new epoch, in `ms` at the earliest; `called`: it was called in this run, and
 * does not only wait for a permit or a budget.
 */
export type RunOutcome = 'done' | 'give_back' | { kind: 'again'; epoch: number; ms: number; called: boolean }

/** A requeued task is in the queue; a requeued line is run again by its chunk. @param epoch null: the claim was lost */
export const requeued = (task: RunnableTask, epoch: number | null, ms: number, called: boolean): RunOutcome =>
  task.batch_id && epoch !== null ? { kind: 'again', epoch, ms, called } : 'done'

export function createConclude(
  deps: ConcludeDeps,
  run: {
    task: RunnableTask
    kind: JobKind
    session: ClaimSession
    time: StageTimer
    onEnd?: ((end: TaskEnd, answer: CallAnswer | EmbedAnswer | null) => void) | undefined
  },
) {
  const { coalescing, logger } = deps
  const { task, kind, session, time, onEnd } = run
  const options = task.options as StoredOptions

  async function finish(end: TaskEnd, answer: CallAnswer | EmbedAnswer | null = null): Promise<'done'> {
    const ended = await time('settle', () => session.finish(end))
    if (ended) onEnd?.(end, answer)
    coalescing.releaseLead(task)
    return 'done'
  }

  async function succeed({ target, answer, checked }: Extract<Conclusion, { kind: 'succeed' }>): Promise<'done'> {
    const { result, filtered } = checked
    const finishReason = 'parts' in answer ? answer.finishReason : null
    const by = { result, provider: target.provider, model: clean(answer.model), finishReason }
    const isEcho = target.provider === DEMO
    const cacheable = !isEcho && mayRepeat(finishReason) && kind.isCacheable(result)
    // Sent to the cache before the task ends, so that an identical task finds the one or the other. Awaited afterwards:
    // the end takes longer.
    const remembered = cacheable ? coalescing.remember(task, kind, by) : null
    const source = isEcho ? ({ source: 'demo', quality: 'low' } as const) : ({ source: 'ai', quality: 'high' } as const)
    await finish({ status: 'succeeded', ...source, ...by, outputFiltered: filtered }, answer)
    await remembered
    return 'done'
  }

  /** A repeated call may complete an answer that was cut off at our limit, and may answer where this one refused. */
  const mayRepeat = (reason: FinishReason | null) =>
    !isRefusal(reason) && (reason !== 'length' || options.max_tokens !== undefined)

  const fail = (error: Failed, finishReason: FinishReason | null = null) =>
    finish({ status: 'failed', error, finishReason })

  const expire = (failed: Failed | null) =>
    finish({
      status: 'expired',
      error: {
        code: 'deadline_exceeded',
        message: `There was no answer within the deadline.${failed ? ` ${failed.message}` : ''}`,
      },
    })

  return {
    async conclude(conclusion: Conclusion): Promise<RunOutcome> {
      switch (conclusion.kind) {
        case 'succeed':
          return await succeed(conclusion)
        case 'use':
          return await finish(conclusion.answer)
        case 'fail': {
          const instead = conclusion.mayFallBack ? await fallbackAnswer(deps, task, kind) : null
          return instead ? await finish(instead) : await fail(conclusion.error, conclusion.finishReason)
        }
        case 'expire':
          return await expire(conclusion.failed)
        case 'cancel':
          return session.unstored ? 'done' : await finish({ status: 'cancelled', error: DISCONNECTED })
        case 'requeue': {
          const { delayMs } = conclusion
          const epoch = await time('settle', () => session.requeue(delayMs))
          return requeued(task, epoch, delayMs, session.attempted)
        }
        case 'leave':
          return 'done'
        case 'give_back':
          return 'give_back'
      }
    },

    /** After a bug: fails the task, if necessary without the settlement that Postgres may have refused. */
    async giveUp(): Promise<'done'> {
      try {
        session.settleUnknown(BUG)
        return await fail(BUG)
      } catch (error) {
        logger.error({ err: error, ...logIds(task) }, 'the settlement was refused: ending the task without it')
        session.dropSettlement()
        return await fail(BUG)
      }
    },
  }
}

const DISCONNECTED = { code: 'cancelled', message: 'The client closed the connection.' } as const

const BUG = { code: 'internal', message: 'Something went wrong in the worker.' } as const

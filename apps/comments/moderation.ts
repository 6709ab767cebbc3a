import type { FastifyBaseLogger } from 'fastify'
import { type AcceptedTask, createClient, hasEnded, SluiceApiError, type Task } from '../client/index.ts'

export type NewComment = { id: string; post_id: string; author: string; text: string }
export type Held = NewComment & { task_id: string | null; verdict: object | null }
export type Settings = { baseUrl: string; apiKey: string; policy: string | undefined }
export type Verdict = { decision: 'allow' | 'block' | 'review'; violations: string[]; reason: string }
/** `taskId` is null if Sluice has no task for the comment. */
export type Outcome = { status: 'visible' | 'held' | 'blocked'; taskId: string | null; verdict: Verdict | null }

/** A comment is visible if a task that succeeded or a reviewer allows it. In doubt it is held. */
export function outcomeOf(task: AcceptedTask | Task<Verdict | null>): Outcome {
  const taskId = task.task_id
  if (!('result' in task) || !hasEnded(task.status)) return { status: 'held', taskId, verdict: null }
  const { result: verdict, review } = task
  const decision = review?.decision ?? verdict?.decision
  const allowed = decision === 'allow' && (review !== null || task.status === 'succeeded')
  return { status: decision === 'block' ? 'blocked' : allowed ? 'visible' : 'held', taskId, verdict }
}

/** Nothing is thrown: without an answer from Sluice the outcome is `held`. `stopping` ends the waits. */
export function createModeration({ policy, ...server }: Settings, log: FastifyBaseLogger, stopping: AbortSignal) {
  const { tasks } = createClient({ ...server, retries: 1, backoffMs: 200 })
  const within = (ms: number) => AbortSignal.any([stopping, AbortSignal.timeout(ms)])
  const hold = (err: unknown, comment: string, taskId: string | null): Outcome => {
    log.warn({ err, comment }, 'no answer from Sluice')
    return { status: 'held', taskId, verdict: null }
  }
  /** Moderation takes at most five seconds; a comment is held after nine. */
  function judge({ id, post_id, text }: NewComment, waitSeconds = 6): Promise<Outcome> {
    const input = { text, context: `A comment on post ${post_id}`, ...(policy && { policy }) }
    const request = { input, metadata: { comment_id: id, post_id } }
    // A repeated request with the same key returns the same task.
    const idempotencyKey = `comment-${id}-${policy ?? ''}`
    const options = { idempotencyKey, waitSeconds, signal: within((waitSeconds + 3) * 1000) }
    return tasks.submit<Verdict | null>('moderate', request, options).then(outcomeOf, error => hold(error, id, null))
  }
  function check(held: Held): Promise<Outcome> {
    if (held.task_id === null) return judge(held, 0)
    return tasks.get<Verdict | null>(held.task_id, { signal: within(3000) }).then(outcomeOf, error => {
      // Sluice deletes old tasks; the comment is then submitted again.
      const deleted = error instanceof SluiceApiError && error.code === 'task_not_found'
      return hold(error, held.id, deleted ? null : held.task_id)
    })
  }
  return { judge, check }
}

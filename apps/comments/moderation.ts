import type { FastifyBaseLogger } from 'fastify'
import { createClient, SluiceApiError } from '../client/index.ts'
import type { Held } from './store.ts'
import { type Outcome, outcomeOf, type Verdict } from './verdict.ts'

/** A little more than the five seconds that moderation has. */
const WAIT_SECONDS = 6
/** For Sluice to answer in, beyond what it was asked to wait. */
const ANSWER_MS = 3000

export type Judged = { id: string; postId: string; text: string }

export type Moderation = ReturnType<typeof createModeration>

export type ModerationOptions = {
  url: string
  apiKey: string
  policy: string | undefined
  log: FastifyBaseLogger
  /** Ends what is under way: the comment is held. */
  stopping: AbortSignal
}

/** Asks Sluice about comments. Whatever goes wrong, the outcome is `held`; nothing is thrown. */
export function createModeration({ url, apiKey, policy, log, stopping }: ModerationOptions) {
  const { tasks } = createClient({ baseUrl: url, apiKey, retries: 1, backoffMs: 200 })
  const within = (ms: number) => AbortSignal.any([stopping, AbortSignal.timeout(ms)])

  function heldBy(error: unknown, comment: string, taskId: string | null): Outcome {
    log.warn({ err: error, comment }, 'no word from Sluice')
    return { status: 'held', taskId, verdict: null }
  }

  async function ask({ id, postId, text }: Judged, waitSeconds: number): Promise<Outcome> {
    try {
      const task = await tasks.submit<Verdict | null>(
        'moderate',
        {
          input: { text, context: `A comment on post ${postId}`, ...(policy !== undefined && { policy }) },
          metadata: { comment_id: id, post_id: postId },
        },
        // The same task if it is asked for again because an answer was lost; under another policy it is another question.
        {
          idempotencyKey: `comment-${id}-${policy ?? ''}`,
          waitSeconds,
          signal: within(waitSeconds * 1000 + ANSWER_MS),
        },
      )
      return outcomeOf(task)
    } catch (error) {
      return heldBy(error, id, null)
    }
  }

  return {
    /** Before a comment is stored: waits some seconds for the verdict. */
    judge: (comment: Judged) => ask(comment, WAIT_SECONDS),

    /** What has become of a held comment. One that Sluice knows nothing (any more) of is asked about anew. */
    async look(held: Held): Promise<Outcome> {
      if (held.taskId === null) return ask(held, 0)
      try {
        return outcomeOf(await tasks.get<Verdict | null>(held.taskId, { signal: within(ANSWER_MS) }))
      } catch (error) {
        const gone = error instanceof SluiceApiError && error.code === 'task_not_found'
        return heldBy(error, held.id, gone ? null : held.taskId)
      }
    },
  }
}

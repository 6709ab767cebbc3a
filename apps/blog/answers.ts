import type { FastifyBaseLogger } from 'fastify'
import { createClient, hasEnded, SluiceApiError, type Task } from '../client/index.ts'
import { HttpError } from '../client-app/http-error.ts'
import type { Metrics } from './metrics.ts'

/** How long somebody waits for an answer. */
const WAIT_SECONDS = 30
/** For Sluice to answer in, beyond what it was asked to wait. */
const ANSWER_MS = 3000

/** What answered, and how good that is, as Sluice says it. */
export type Origin = { source: NonNullable<Task['source']>; quality: NonNullable<Task['quality']> }
export type Answer<Result> = Origin & { result: Result; taskId: string }

/**
 * Asks Sluice and waits. `user`: takes part in the experiment on the kind.
 * @throws HttpError: 400 or 413 for what Sluice does not take, 503 if there is no answer
 */
export type Ask = <Result>(kind: string, input: object, user: string | undefined) => Promise<Answer<Result>>

export type AnswersOptions = {
  url: string
  apiKey: string
  metrics: Metrics
  log: FastifyBaseLogger
  /** Ends what is under way. */
  stopping: AbortSignal
}

export function createAnswers({ url, apiKey, metrics, log, stopping }: AnswersOptions): Ask {
  const { tasks } = createClient({ baseUrl: url, apiKey, retries: 1, backoffMs: 200 })

  async function finished<Result>(kind: string, input: object, user: string | undefined): Promise<Answer<Result>> {
    const task = await tasks.submit<Result>(
      kind,
      { input, ...(user !== undefined && { options: { user_id: user } }) },
      {
        waitSeconds: WAIT_SECONDS,
        signal: AbortSignal.any([stopping, AbortSignal.timeout(WAIT_SECONDS * 1000 + ANSWER_MS)]),
      },
    )
    const taskId = task.task_id
    // It goes on, and its answer is remembered for whoever asks the same again.
    if (!('result' in task) || !hasEnded(task.status)) {
      log.warn({ kind, task: taskId }, 'too slow')
      throw new HttpError(503, 'too_slow', 'There is no answer yet. Ask again in a while.')
    }
    const { result, source, quality } = task
    if (task.status !== 'succeeded' || result === null || source === null || quality === null) {
      log.warn({ kind, task: taskId, status: task.status, code: task.error?.code }, 'no answer')
      throw new HttpError(503, 'no_answer', 'Neither a model nor anything that stands in for one has an answer.')
    }
    return { result, source, quality, taskId }
  }

  return async (kind, input, user) => {
    const began = performance.now()
    try {
      const answer = await finished<never>(kind, input, user)
      const { source, quality } = answer
      metrics.answers.inc({ kind, source, quality })
      metrics.answerSeconds.observe({ kind, source }, (performance.now() - began) / 1000)
      return answer
    } catch (error) {
      const told = error instanceof HttpError ? error : (refusal(error) ?? away(error, log))
      metrics.unanswered.inc({ kind, code: told.code })
      throw told
    }
  }
}

/** What Sluice has against the input, in the words of this application's own fields. */
function refusal(error: unknown): HttpError | null {
  if (!(error instanceof SluiceApiError) || ![413, 422].includes(error.status)) return null
  const { context } = error.body as { context?: { field?: unknown } }
  const field = typeof context?.field === 'string' ? context.field.replace(/^\/input\//, '') : null
  return new HttpError(error.status === 413 ? 413 : 400, 'invalid_request', error.message, field)
}

function away(error: unknown, log: FastifyBaseLogger): HttpError {
  const misconfigured = error instanceof SluiceApiError && [401, 403, 404].includes(error.status)
  log[misconfigured ? 'error' : 'warn']({ err: error }, 'no word from Sluice')
  return new HttpError(503, 'sluice_away', 'Sluice, which finds the answers, cannot be asked at the moment.')
}

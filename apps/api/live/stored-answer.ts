import type { TaskView } from '#shared/db/tasks/read.ts'
import { type ErrorCode, SluiceError, type TaskError } from '#shared/errors.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { ChatAnswer } from '#shared/requests/answer.ts'
import { answerOf, type StoredAnswer } from '#shared/requests/stored.ts'

/** The answer of a task that has ended. @throws SluiceError why there is none */
export function answerOfView(view: TaskView): ChatAnswer {
  if (view.status !== 'succeeded') throw failure(view.status, view.error ?? undefined)
  const { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens } = view
  return storedAnswer(view.result, {
    finishReason: view.finish_reason,
    model: view.model,
    usage: {
      inputTokens: input_tokens,
      outputTokens: output_tokens,
      cacheReadTokens: cache_read_tokens,
      cacheWriteTokens: cache_write_tokens,
      reasoningTokens: reasoning_tokens,
    },
  })
}

export const storedAnswer = (
  result: unknown,
  {
    finishReason,
    model,
    usage,
  }: { finishReason: FinishReason | null; model: string | null; usage: ChatAnswer['usage'] },
): ChatAnswer => answerOf(result as StoredAnswer, { finishReason: finishReason ?? 'stop', model: model ?? '', usage })

export const failure = (status: string, error: TaskError | undefined): SluiceError =>
  new SluiceError(
    (error?.code ?? (status === 'expired' ? 'deadline_exceeded' : 'internal')) as ErrorCode,
    error?.message,
    error?.context && { context: error.context },
  )

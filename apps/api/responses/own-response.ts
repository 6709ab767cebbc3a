import type { FastifyRequest } from 'fastify'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire } from '#shared/ids.ts'
import { renderAnswer, responseObject } from '#shared/requests/openai-responses/answer.ts'
import { type OwnStored, ownStored, type StoredDeps } from '../live/own-stored.ts'
import { answerOfView } from '../live/stored-answer.ts'

/** A stored response. */
export type OwnResponse = OwnStored

/**
 * The stored response with this id, if the key may see it.
 * @throws SluiceError response_not_found, naming `param`
 */
export async function ownResponse(
  deps: StoredDeps,
  request: Pick<FastifyRequest, 'apiKey'>,
  wireId: string,
  param: string,
): Promise<OwnResponse> {
  const found = await ownStored(deps, request, fromWire('resp', wireId), 'openai-responses')
  if (found) return found
  throw new SluiceError('response_not_found', `Response with id '${wireId.slice(0, 100)}' not found.`, {
    context: { param },
  })
}

const completedAt = (view: TaskView) =>
  view.finished_at === null ? {} : { completed_at: Math.floor(view.finished_at.getTime() / 1000) }

/** The response object of OpenAI's API, as it is now. */
export function responseJson({ view, context }: Pick<OwnResponse, 'view' | 'context'>): Record<string, unknown> {
  switch (view.status) {
    case 'succeeded':
      return { ...renderAnswer(answerOfView(view), context), ...completedAt(view) }
    case 'failed':
    case 'expired':
      return responseObject(context, { status: 'failed', output: [], error: responseError(view) })
    case 'cancelled':
      return responseObject(context, { status: 'cancelled', output: [] })
    default:
      return responseObject(context, { status: view.status === 'queued' ? 'queued' : 'in_progress', output: [] })
  }
}

/** OpenAI's codes for errors of responses. */
const CODES: Record<string, string> = { rate_limited: 'rate_limit_exceeded', invalid_request: 'invalid_prompt' }

const responseError = ({ status, error }: TaskView) => ({
  code: CODES[error?.code ?? ''] ?? 'server_error',
  message: error?.message ?? (status === 'expired' ? 'The deadline passed.' : 'The response failed.'),
})

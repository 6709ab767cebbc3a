import type { FastifyRequest } from 'fastify'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { readStoredTask, type StoredTask } from '#shared/db/tasks/stored.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire } from '#shared/ids.ts'
import { renderAnswer, responseObject } from '#shared/requests/openai-responses/answer.ts'
import { isStoredRequest, type StoredRequest } from '#shared/requests/stored.ts'
import type { AnswerContext } from '#shared/requests/wire.ts'
import type { ApiDeps } from '../deps.ts'
import { mayAccess } from '../http/auth.ts'
import { answerOfView } from '../live/stored-answer.ts'

/** A stored response: its task, its request and its present state. */
export type OwnResponse = { task: StoredTask; request: StoredRequest; view: TaskView; context: AnswerContext }

/**
 * The stored response with this id, if the key may see it.
 * @throws SluiceError response_not_found, naming `param`
 */
export async function ownResponse(
  deps: Pick<ApiDeps, 'db' | 'view' | 'responseMemory'>,
  { apiKey }: Pick<FastifyRequest, 'apiKey'>,
  wireId: string,
  param: string,
): Promise<OwnResponse> {
  const id = fromWire('resp', wireId)
  const task = id && (await deps.responseMemory.read(() => readStoredTask(deps.db, id)))
  const request = task && mayAccess(apiKey, task.api_key_id) && isStoredRequest(task.input) ? task.input : null
  const view = task && request?.wire === 'openai-responses' ? await deps.view(task.id) : null
  if (!task || !request || !view)
    throw new SluiceError('response_not_found', `Response with id '${wireId.slice(0, 100)}' not found.`, {
      context: { param },
    })
  return { task, request, view, context: contextOf(task, request) }
}

const contextOf = (task: StoredTask, { body }: StoredRequest): AnswerContext => ({
  id: task.id.replaceAll('-', ''),
  created: Math.floor(task.created_at.getTime() / 1000),
  body,
})

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

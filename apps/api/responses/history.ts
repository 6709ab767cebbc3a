import type { FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import { type Fields, isFields } from '#shared/requests/openai-fields.ts'
import { inputItems } from '#shared/requests/stored.ts'
import type { ApiDeps } from '../deps.ts'
import { BODY_LIMIT } from '../http/errors.ts'
import { type OwnResponse, ownResponse, responseJson } from './own-response.ts'

const PARAM = 'previous_response_id'

/** The items of the conversation that a request continues; undefined: it begins one. @throws SluiceError invalid_request */
export async function conversationBefore(
  deps: Pick<ApiDeps, 'db' | 'view' | 'responseMemory'>,
  request: FastifyRequest<{ Body: Record<string, unknown> }>,
): Promise<unknown[] | undefined> {
  const { previous_response_id: previous, conversation } = request.body
  if (conversation !== undefined && conversation !== null)
    throw refused('This server has no conversations. Continue a response with `previous_response_id`.', {
      param: 'conversation',
      code: 'unsupported_parameter',
    })
  if (typeof previous !== 'string') return undefined
  const before = await conversationUpTo(deps, request, previous)
  if (JSON.stringify(before).length > BODY_LIMIT)
    throw refused(`The conversation is larger than ${BODY_LIMIT / 1_048_576} MB.`, {
      param: PARAM,
      code: 'context_length_exceeded',
    })
  return before
}

/**
 * The conversation that ends with a response: its input, with everything before it, and its output.
 * @throws SluiceError invalid_request, naming `previous_response_id`
 */
async function conversationUpTo(
  deps: Pick<ApiDeps, 'db' | 'view' | 'responseMemory'>,
  request: FastifyRequest,
  responseId: string,
): Promise<unknown[]> {
  const previous = await ownResponse(deps, request, responseId, PARAM).catch(error => {
    if (!(error instanceof SluiceError) || error.code !== 'response_not_found') throw error
    throw refused(`Previous response with id '${responseId.slice(0, 100)}' not found.`, {
      param: PARAM,
      code: 'previous_response_not_found',
    })
  })
  const { status } = previous.view
  if (status !== 'succeeded')
    throw refused(`Previous response with id '${responseId}' has no output: its task is ${status}.`, {
      param: PARAM,
      code: 'invalid_value',
    })
  return [...inputOf(previous), ...outputOf(previous)]
}

const refused = (message: string, context: { param: string; code: string }) =>
  new SluiceError('invalid_request', message, { context })

export const inputOf = ({ request }: Pick<OwnResponse, 'request'>): unknown[] => [
  ...(request.before ?? []),
  ...inputItems(request.body.input),
]

/** Without ids: the provider of the next request may be another one, which does not know them. */
export const outputOf = (response: Pick<OwnResponse, 'view' | 'context'>): Fields[] => {
  const { output } = responseJson(response)
  return (Array.isArray(output) ? output.filter(isFields) : []).map(({ id: _, status: __, ...item }) => item)
}

const PREFIXES: Record<string, string> = {
  message: 'msg',
  function_call: 'fc',
  function_call_output: 'fco',
  reasoning: 'rs',
}

/** The input of a response as `GET /v1/responses/{id}/input_items` lists it: every item has an id, every message a list of parts. */
export function listedInput(response: Pick<OwnResponse, 'request' | 'context'>): (Fields & { id: string })[] {
  return inputOf(response)
    .filter(isFields)
    .map((given, n) => {
      const type = typeof given.type === 'string' ? given.type : 'message'
      const id = `${PREFIXES[type] ?? 'item'}_${response.context.id}i${n.toString(16).padStart(4, '0')}`
      const item = { id, status: 'completed', ...given, type }
      return type === 'message' ? { ...item, content: partsOf(given) } : item
    })
}

const partsOf = ({ role, content }: Fields): unknown =>
  typeof content !== 'string'
    ? content
    : role === 'assistant'
      ? [{ type: 'output_text', text: content, annotations: [], logprobs: [] }]
      : [{ type: 'input_text', text: content }]

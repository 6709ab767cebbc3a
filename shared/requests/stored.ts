import { cleanDeep } from '#shared/text.ts'
import type { ChatAnswer } from './answer.ts'
import type { AssistantPart, ChatRequest, Original } from './request.ts'
import { isFault, type ParsedRequest } from './wire.ts'
import { wireFormat } from './wires.ts'

/**
 * The input of a task whose request came in a wire format. `before`: the items of the conversation that the request continues, which
 * the body names by id.
 */
export type StoredRequest = Original & { before?: unknown[] }

/** The result of such a task: the provider's answer as it was written, or its parts if the provider speaks another format. */
export type StoredAnswer = { original: Original } | { parts: AssistantPart[]; stop_sequence?: string }

export const isStoredRequest = (input: unknown): input is StoredRequest =>
  typeof input === 'object' && input !== null && 'wire' in input && 'body' in input

/** @throws Error if the request is invalid; it was valid when it was accepted */
export function requestOf(stored: StoredRequest): ChatRequest {
  const parsed = wireFormat(stored.wire).parse(wholeBody(stored))
  if (isFault(parsed)) throw new Error(`${parsed.param ?? 'the body'}: ${parsed.message}`)
  return wholeRequest(parsed)
}

/** The body with the whole conversation instead of the name of its beginning. */
export function wholeBody({ body, before }: StoredRequest): Record<string, unknown> {
  if (!before) return body
  const { previous_response_id: _, conversation: __, ...rest } = body
  return { ...rest, input: [...before, ...inputItems(body.input)] }
}

/** The items of a request to /v1/responses, of which a text is one. */
export const inputItems = (input: unknown): unknown[] =>
  typeof input === 'string' ? [{ type: 'message', role: 'user', content: input }] : Array.isArray(input) ? input : []

/** The request with the names of the fields that only its original has. */
export const wholeRequest = ({ request, untranslated }: ParsedRequest): ChatRequest =>
  untranslated.length > 0 ? { ...request, untranslated } : request

export const toStored = ({ original, parts, stopSequence }: ChatAnswer): StoredAnswer =>
  cleanDeep(original ? { original } : { parts, ...(stopSequence !== undefined && { stop_sequence: stopSequence }) })

/** The answer of a task, from its result and the ledger. */
export function answerOf(
  result: StoredAnswer,
  known: Pick<ChatAnswer, 'finishReason' | 'usage' | 'model'>,
): ChatAnswer {
  if ('original' in result)
    return { ...wireFormat(result.original.wire).readAnswer(result.original.body), ...known, original: result.original }
  const { parts, stop_sequence: stopSequence } = result
  return { parts, ...(stopSequence !== undefined && { stopSequence }), ...known }
}

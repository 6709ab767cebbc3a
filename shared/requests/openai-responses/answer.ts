import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'
import type { ChatAnswer } from '../answer.ts'
import { type Fields, isFields } from '../openai-fields.ts'
import type { AssistantPart } from '../request.ts'
import type { AnswerContext } from '../wire.ts'
import { encryptRedacted, encryptSignature } from './reasoning.ts'

export type Item = Fields & { id: string; type: string }
export type ResponseStatus = 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled'

/** OpenAI's reasons for incomplete responses. */
const INCOMPLETE: { [Reason in FinishReason]?: string } = {
  length: 'max_output_tokens',
  content_filter: 'content_filter',
}

export const statusOf = ({ finishReason }: Pick<ChatAnswer, 'finishReason'>): 'completed' | 'incomplete' =>
  INCOMPLETE[finishReason] ? 'incomplete' : 'completed'

/** The answer as the client's response object. */
export function renderAnswer(answer: ChatAnswer, context: AnswerContext): Fields {
  if (answer.original?.wire === 'openai-responses') return asOwn(answer.original.body, context)
  const reason = INCOMPLETE[answer.finishReason]
  return responseObject(context, {
    status: statusOf(answer),
    model: answer.model,
    output: outputItems(answer, context),
    ...(reason && { incomplete_details: { reason } }),
    ...(answer.usage && { usage: usageJson(answer.usage) }),
  })
}

/** The provider's response object with the values that this server decides. */
export const asOwn = (response: Fields, { id, body }: AnswerContext): Fields => ({
  ...response,
  id: `resp_${id}`,
  ...ownFields(body),
})

/** The fields that this server honours instead of the provider. */
const ownFields = (body: Fields) => ({
  background: body.background ?? false,
  conversation: conversationOf(body.conversation),
  previous_response_id: body.previous_response_id ?? null,
  store: body.store ?? true,
})

/** A request names its conversation by id or as an object with it. */
const conversationOf = (asked: unknown) =>
  typeof asked === 'string' ? { id: asked } : isFields(asked) ? { id: asked.id } : null

/** A response object. Its fields repeat the request, with OpenAI's defaults. */
export function responseObject(
  { id, created, body }: AnswerContext,
  state: Fields & { status: ResponseStatus; output: Item[] },
): Fields {
  const text = isFields(body.text) ? body.text : {}
  const reasoning = isFields(body.reasoning) ? body.reasoning : {}
  return {
    id: `resp_${id}`,
    object: 'response',
    created_at: created,
    error: null,
    incomplete_details: null,
    access_programs: null,
    ...ownFields(body),
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    metadata: body.metadata ?? {},
    model: body.model ?? null,
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: { effort: reasoning.effort ?? null, summary: reasoning.summary ?? null },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: body.service_tier ?? 'auto',
    temperature: body.temperature ?? 1,
    text: { format: text.format ?? { type: 'text' }, verbosity: text.verbosity ?? 'medium' },
    tool_choice: body.tool_choice ?? 'auto',
    tools: Array.isArray(body.tools) ? body.tools.map(toolJson) : [],
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? 1,
    truncation: body.truncation ?? 'disabled',
    ...(typeof body.user === 'string' && { user: body.user }),
    ...state,
  }
}

/** Functions have both fields in every response. */
const toolJson = (tool: Fields): Fields =>
  tool.type === 'function' ? { ...tool, parameters: tool.parameters ?? null, strict: tool.strict ?? true } : tool

export const usageJson = (usage: TokenUsage): Fields => ({
  input_tokens: usage.inputTokens,
  input_tokens_details: { cached_tokens: usage.cacheReadTokens, cache_write_tokens: usage.cacheWriteTokens },
  output_tokens: usage.outputTokens,
  output_tokens_details: { reasoning_tokens: usage.reasoningTokens ?? 0 },
  total_tokens: usage.inputTokens + usage.outputTokens,
})

const PREFIXES: Record<string, string> = { message: 'msg', function_call: 'fc', reasoning: 'rs' }

/** The id of an output item: a pure function of the response's id and the item's position. */
export const itemId = (type: string, id: string, index: number): string =>
  `${PREFIXES[type] ?? type}_${id}${index.toString(16).padStart(4, '0')}`

/** Texts and refusals that follow one another are one message. */
export function outputItems(
  answer: Pick<ChatAnswer, 'parts' | 'finishReason'>,
  { id }: Pick<AnswerContext, 'id'>,
): Item[] {
  const items: Item[] = []
  for (const part of answer.parts) {
    const last = items.at(-1)
    const isText = part.type === 'text' || part.type === 'refusal'
    if (isText && part.text === '') continue
    if (isText && last?.type === 'message') (last.content as Fields[]).push(contentPart(part.type, part.text))
    else items.push(newItem(part, itemId(itemType(part), id, items.length), 'completed'))
  }
  const last = items.at(-1)
  if (last && last.type !== 'reasoning') last.status = statusOf(answer)
  return items
}

export const itemType = ({ type }: Pick<AssistantPart, 'type'>): 'message' | 'function_call' | 'reasoning' =>
  type === 'tool_call' ? 'function_call' : type === 'text' || type === 'refusal' ? 'message' : 'reasoning'

export function newItem(part: AssistantPart, id: string, status: ResponseStatus): Item {
  switch (part.type) {
    case 'tool_call':
      return { id, type: 'function_call', status, call_id: part.id, name: part.name, arguments: part.arguments }
    case 'thinking':
      return {
        id,
        type: 'reasoning',
        summary: part.text === '' ? [] : [summaryPart(part.text)],
        ...(part.signature !== undefined && { encrypted_content: encryptSignature(part.signature) }),
      }
    case 'redacted_thinking':
      return { id, type: 'reasoning', summary: [], encrypted_content: encryptRedacted(part.data) }
    default:
      return { id, type: 'message', role: 'assistant', status, content: [contentPart(part.type, part.text)] }
  }
}

export const summaryPart = (text: string): Fields => ({ type: 'summary_text', text })

export const contentPart = (type: 'text' | 'refusal', text: string): Fields =>
  type === 'refusal' ? { type, refusal: text } : { type: 'output_text', text, annotations: [], logprobs: [] }

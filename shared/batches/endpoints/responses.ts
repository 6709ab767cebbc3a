import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { isObject } from '../checks.ts'
import { conversation, finishReasonOf, readFormat, readTurn, type Turn, textOf } from './conversation.ts'
import { answeredAt, type Endpoint, findUnsupportedField, idSuffix, isRejected, rejection } from './define.ts'

const MESSAGE = {
  type: ['message'],
  role: 'read',
  content: 'read',
  // Fields of a response that is sent back as a turn.
  id: 'ignored',
  status: 'ignored',
  phase: 'ignored',
} as const

/** OpenAI's reasons for incomplete responses. */
const INCOMPLETE: { [Reason in FinishReason]?: string } = {
  length: 'max_output_tokens',
  content_filter: 'content_filter',
}

export const responses: Endpoint = {
  path: '/v1/responses',
  kind: 'generate',
  refusals: true,
  fields: {
    model: 'read',
    input: 'read',
    instructions: 'read',
    max_output_tokens: 'read',
    temperature: 'read',
    text: 'read',
    metadata: 'ignored',
    parallel_tool_calls: 'ignored',
    max_tool_calls: 'ignored',
    prompt_cache_key: 'ignored',
    prompt_cache_options: 'ignored',
    prompt_cache_retention: 'ignored',
    safety_identifier: 'ignored',
    service_tier: 'ignored',
    store: 'ignored',
    stream_options: 'ignored',
    user: 'ignored',
    access_programs: [],
    background: [false],
    context_management: [[]],
    conversation: [],
    image: [],
    include: [[]],
    moderation: [],
    previous_response_id: [],
    prompt: [],
    reasoning: [{}],
    stream: [false],
    tool_choice: ['none', 'auto'],
    tools: [[]],
    top_logprobs: [0],
    top_p: [1],
    truncation: ['disabled'],
  },
  params: {
    '/input/messages': 'input',
    '/input/system': 'instructions',
    '/input/schema': 'text.format.schema',
    '/options/max_tokens': 'max_output_tokens',
    '/options/temperature': 'temperature',
    '/options/model': 'model',
  },

  read({ input: asked, instructions, max_output_tokens, temperature, text }) {
    const turns: Turn[] = []
    if (instructions !== undefined && instructions !== null) {
      if (typeof instructions !== 'string')
        return rejection('invalid_type', 'instructions', "'instructions' must be a string.")
      turns.push({ role: 'system', text: instructions })
    }
    const items = typeof asked === 'string' ? [{ role: 'user', content: asked }] : asked
    if (!Array.isArray(items) || items.length === 0) {
      return rejection('invalid_value', 'input', "'input' must be a string or a list with at least one message.")
    }
    for (const [i, item] of items.entries()) {
      const path = typeof asked === 'string' ? 'input' : `input[${i}]`
      if (isObject(item) && (item.type ?? 'message') !== 'message') {
        return rejection('unsupported_value', `${path}.type`, 'Unsupported: only messages can be asked.')
      }
      const turn = readTurn(item, path, MESSAGE, ['input_text', 'output_text'])
      if (isRejected(turn)) return turn
      turns.push(turn)
    }
    const input = conversation(turns, 'input')
    if (isRejected(input)) return input
    const format = readText(text)
    if (isRejected(format)) return format
    return { input: { ...input, ...format }, options: { max_tokens: max_output_tokens, temperature } }
  },

  answer(line) {
    const reason = finishReasonOf(line)
    const incomplete = INCOMPLETE[reason]
    const status = incomplete ? 'incomplete' : 'completed'
    const { schema } = (line.input ?? {}) as { schema?: Record<string, unknown> }
    const { max_tokens, temperature } = line.options
    return {
      id: `resp_${idSuffix(line)}`,
      object: 'response',
      created_at: answeredAt(line),
      status,
      error: null,
      access_programs: null,
      incomplete_details: incomplete ? { reason: incomplete } : null,
      instructions: null,
      max_output_tokens: max_tokens ?? null,
      metadata: null,
      model: line.model,
      output: [
        {
          id: `msg_${idSuffix(line)}`,
          type: 'message',
          role: 'assistant',
          status,
          content: [
            reason === 'refusal'
              ? { type: 'refusal', refusal: textOf(line) }
              : { type: 'output_text', text: textOf(line), annotations: [], logprobs: [] },
          ],
        },
      ],
      parallel_tool_calls: true,
      previous_response_id: null,
      temperature: temperature ?? 1,
      text: { format: schema === undefined ? { type: 'text' } : { type: 'json_schema', name: 'result', schema } },
      tool_choice: 'auto',
      tools: [],
      top_p: 1,
      truncation: 'disabled',
      usage: {
        input_tokens: line.input_tokens,
        input_tokens_details: { cached_tokens: line.cache_read_tokens, cache_write_tokens: line.cache_write_tokens },
        output_tokens: line.output_tokens,
        output_tokens_details: { reasoning_tokens: line.reasoning_tokens },
        total_tokens: line.input_tokens + line.output_tokens,
      },
    }
  },
}

function readText(text: unknown) {
  if (text === undefined || text === null) return {}
  if (!isObject(text)) return rejection('invalid_type', 'text', "'text' must be an object.")
  const wrong = findUnsupportedField(text, { format: 'read', verbosity: ['medium'] }, 'text')
  return wrong ?? readFormat(text.format, 'text.format', false)
}

import type { EndedLine } from '#shared/db/batches/read-lines.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { conversation, finishReasonOf, readFormat, readTurn, type Turn, textOf } from './conversation.ts'
import { answeredAt, type Endpoint, idSuffix, isRejected, rejection } from './define.ts'

const MESSAGE = {
  role: 'read',
  content: 'read',
  // Fields of a response that is sent back as a turn.
  refusal: [],
  annotations: 'ignored',
  audio: [],
  function_call: [],
  tool_calls: [[]],
  // The model would see it.
  name: [],
} as const

/** OpenAI reports refusals as `stop`, and has no value for other reasons. */
const FINISH_REASONS: Record<FinishReason, string> = {
  stop: 'stop',
  length: 'length',
  content_filter: 'content_filter',
  refusal: 'stop',
  tool_calls: 'tool_calls',
  other: 'stop',
}

function messageOf(line: EndedLine) {
  const text = textOf(line)
  if (line.finish_reason === 'refusal') return { role: 'assistant', content: null, refusal: text }
  // An answer that was withheld completely is null, not an empty string.
  return { role: 'assistant', content: text === '' ? null : text, refusal: null }
}

export const chatCompletions: Endpoint = {
  path: '/v1/chat/completions',
  kind: 'generate',
  refusals: true,
  fields: {
    model: 'read',
    messages: 'read',
    max_tokens: 'read',
    max_completion_tokens: 'read',
    temperature: 'read',
    response_format: 'read',
    metadata: 'ignored',
    parallel_tool_calls: 'ignored',
    prompt_cache_key: 'ignored',
    prompt_cache_options: 'ignored',
    prompt_cache_retention: 'ignored',
    safety_identifier: 'ignored',
    // Best effort in OpenAI's API too.
    seed: 'ignored',
    service_tier: 'ignored',
    store: 'ignored',
    stream_options: 'ignored',
    user: 'ignored',
    audio: [],
    frequency_penalty: [0],
    function_call: ['none', 'auto'],
    functions: [[]],
    logit_bias: [{}],
    logprobs: [false],
    modalities: [['text']],
    moderation: [],
    n: [1],
    prediction: [],
    presence_penalty: [0],
    reasoning_effort: [],
    stop: [[]],
    stream: [false],
    tool_choice: ['none', 'auto'],
    tools: [[]],
    top_logprobs: [0],
    top_p: [1],
    verbosity: ['medium'],
    web_search_options: [],
  },
  params: {
    '/input/messages': 'messages',
    '/input/system': 'messages',
    '/input/schema': 'response_format.json_schema.schema',
    '/options/max_tokens': 'max_completion_tokens',
    '/options/temperature': 'temperature',
    '/options/model': 'model',
  },

  read({ messages, max_tokens, max_completion_tokens, temperature, response_format }) {
    if (!Array.isArray(messages) || messages.length === 0) {
      return rejection('invalid_value', 'messages', "'messages' must be a list with at least one message.")
    }
    const turns: Turn[] = []
    for (const [i, message] of messages.entries()) {
      const turn = readTurn(message, `messages[${i}]`, MESSAGE, ['text'])
      if (isRejected(turn)) return turn
      turns.push(turn)
    }
    const input = conversation(turns, 'messages')
    if (isRejected(input)) return input
    const format = readFormat(response_format, 'response_format', true)
    if (isRejected(format)) return format
    const limits = new Set([max_completion_tokens, max_tokens].filter(one => one !== undefined && one !== null))
    if (limits.size > 1) {
      return rejection('invalid_value', 'max_tokens', "'max_tokens' and 'max_completion_tokens' differ.")
    }
    return { input: { ...input, ...format }, options: { max_tokens: [...limits][0], temperature } }
  },

  answer: line => ({
    id: `chatcmpl-${idSuffix(line)}`,
    object: 'chat.completion',
    created: answeredAt(line),
    model: line.model,
    choices: [
      {
        index: 0,
        message: messageOf(line),
        logprobs: null,
        finish_reason: FINISH_REASONS[finishReasonOf(line)],
      },
    ],
    usage: {
      prompt_tokens: line.input_tokens,
      completion_tokens: line.output_tokens,
      total_tokens: line.input_tokens + line.output_tokens,
      prompt_tokens_details: { cached_tokens: line.cache_read_tokens, cache_write_tokens: line.cache_write_tokens },
      completion_tokens_details: { reasoning_tokens: line.reasoning_tokens },
    },
  }),
}

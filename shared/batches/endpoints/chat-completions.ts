import { conversation, isCutOff, readFormat, readTurn, type Turn, textOf } from './conversation.ts'
import { answeredAt, type Endpoint, isRejected, reject, tail } from './define.ts'

const MESSAGE = {
  role: 'read',
  content: 'read',
  // What an answer has when it is sent back as a turn.
  refusal: [],
  annotations: 'ignored',
  audio: [],
  function_call: [],
  tool_calls: [[]],
  // The model would see it.
  name: [],
} as const

export const chatCompletions: Endpoint = {
  path: '/v1/chat/completions',
  kind: 'generate',
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
    // OpenAI promises no more than to try.
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
      return reject('invalid_value', 'messages', "'messages' must be a list with at least one message.")
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
      return reject('invalid_value', 'max_tokens', "'max_tokens' and 'max_completion_tokens' say different things.")
    }
    return { input: { ...input, ...format }, options: { max_tokens: [...limits][0], temperature } }
  },

  answer: line => ({
    id: `chatcmpl-${tail(line)}`,
    object: 'chat.completion',
    created: answeredAt(line),
    model: line.model,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: textOf(line), refusal: null },
        logprobs: null,
        finish_reason: isCutOff(line) ? 'length' : 'stop',
      },
    ],
    usage: {
      prompt_tokens: line.input_tokens,
      completion_tokens: line.output_tokens,
      total_tokens: line.input_tokens + line.output_tokens,
    },
  }),
}

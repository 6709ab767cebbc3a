import { type Fields, fault, isAbsent, reading } from '../openai-fields.ts'
import { type ChatRequest, EFFORTS, type Tool, type ToolChoice } from '../request.ts'
import { createToolCheck, unmatchedCall } from '../tools.ts'
import type { ParsedRequest, RequestFault } from '../wire.ts'
import { among, decimal, fields, flag, integer, invalid, list, optional, required, text } from './fields.ts'
import { readMessages, readSystem } from './parse-blocks.ts'

/** Fields that the neutral request carries, or that do not change the answer. */
const TRANSLATED = new Set([
  ...['model', 'max_tokens', 'messages', 'system', 'stream', 'stop_sequences', 'tools', 'tool_choice', 'thinking'],
  ...['output_config', 'output_format', 'temperature', 'top_k', 'top_p', 'metadata'],
  // They only save time or money.
  ...['cache_control', 'service_tier', 'speed', 'inference_geo', 'diagnostics'],
])

const MIN_THINKING_TOKENS = 1024

/** The error code by which Anthropic's SDK recognizes a server without message threads. */
export const THREAD_UNSUPPORTED = 'thread_unsupported_request'

/** Reads the body of `POST /v1/messages`, of API versions 2023-06-01 and 2026-10-21. */
export const parse = (body: Fields): ParsedRequest | RequestFault => reading(() => readBody(body))

function readBody(body: Fields): ParsedRequest {
  // Anthropic's SDK then sends the whole conversation.
  if (!isAbsent(body.thread))
    fault(
      THREAD_UNSUPPORTED,
      'thread',
      'thread: This server keeps no conversation between requests. Send all messages, without `thread`.',
    )
  const untranslated = Object.keys(body).filter(name => !TRANSLATED.has(name) && !isAbsent(body[name]))
  const model = required(body.model, 'model', text)
  const maxTokens = required(body.max_tokens, 'max_tokens', integer(1))
  const system = isAbsent(body.system) ? '' : readSystem(body.system)
  const messages = readMessages(required(body.messages, 'messages', list), untranslated)
  const request: ChatRequest = {
    ...(system !== '' && { system }),
    messages,
    ...readTools(body, untranslated),
    ...readThinking(body, maxTokens),
    ...readOutput(body, untranslated),
    ...readModes(body),
    original: { wire: 'anthropic-messages', body },
  }
  checkCalls(request, untranslated)
  return { request, model, maxTokens, stream: optional(body.stream, 'stream', flag) ?? false, untranslated }
}

/** Blocks that only Anthropic knows may contain the calls or their results. */
function checkCalls({ messages }: ChatRequest, untranslated: string[]): void {
  if (untranslated.length > 0) return
  const unmatched = unmatchedCall({ messages })
  if (!unmatched) return
  const id = unmatched.id.slice(0, 100)
  invalid(
    'messages',
    unmatched.type === 'result'
      ? `unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${id}. Each \`tool_result\` block must have a corresponding \`tool_use\` block in the previous message.`
      : `\`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${id}.`,
  )
}

function readTools(body: Fields, untranslated: string[]): Partial<ChatRequest> {
  const given = optional(body.tools, 'tools', list) ?? []
  const check = createToolCheck()
  const tools = given.flatMap((one, i): Tool[] => {
    const path = `tools.${i}`
    const tool = fields(one, path)
    if (!isAbsent(tool.type) && tool.type !== 'custom') {
      untranslated.push(path)
      return []
    }
    const read = readTool(tool, path)
    const problem = check(read)
    if (problem) invalid(`${path}.${problem.field === 'name' ? 'name' : 'input_schema'}`, problem.message)
    return [read]
  })
  const choice = optional(body.tool_choice, 'tool_choice', fields)
  if (!choice) return tools.length > 0 ? { tools } : {}
  const isOneAtATime = optional(choice.disable_parallel_tool_use, 'tool_choice.disable_parallel_tool_use', flag)
  return {
    ...(tools.length > 0 && { tools }),
    ...readChoice(choice, tools, untranslated),
    ...(isOneAtATime && { parallelToolCalls: false }),
  }
}

function readTool(tool: Fields, path: string): Tool {
  const description = optional(tool.description, `${path}.description`, text)
  const strict = optional(tool.strict, `${path}.strict`, flag)
  return {
    name: required(tool.name, `${path}.name`, text),
    ...(description !== undefined && { description }),
    parameters: required(tool.input_schema, `${path}.input_schema`, fields),
    ...(strict !== undefined && { strict }),
  }
}

const CHOICES: Record<string, ToolChoice> = { auto: 'auto', any: 'required', none: 'none' }

function readChoice(choice: Fields, tools: Tool[], untranslated: string[]): { toolChoice?: ToolChoice } {
  const type = required(choice.type, 'tool_choice.type', among(['auto', 'any', 'tool', 'none']))
  if (type !== 'tool') return { toolChoice: CHOICES[type]! }
  const name = required(choice.name, 'tool_choice.name', text)
  if (tools.some(one => one.name === name)) return { toolChoice: { name } }
  // The choice may name one of Anthropic's own tools.
  if (!untranslated.some(one => one.startsWith('tools.')))
    invalid('tool_choice', `Tool '${name.slice(0, 100)}' not found in provided tools`)
  return {}
}

function readThinking(body: Fields, maxTokens: number): Partial<ChatRequest> {
  const thinking = optional(body.thinking, 'thinking', fields)
  if (!thinking) return {}
  const type = required(thinking.type, 'thinking.type', among(['enabled', 'disabled', 'adaptive', 'between_tools']))
  if (type !== 'enabled') return { thinking: { enabled: type !== 'disabled' } }
  const path = 'thinking.budget_tokens'
  const budgetTokens = required(thinking.budget_tokens, path, integer(MIN_THINKING_TOKENS))
  if (budgetTokens >= maxTokens) invalid('max_tokens', '`max_tokens` must be greater than `thinking.budget_tokens`')
  return { thinking: { enabled: true, budgetTokens } }
}

/** `output_format` is the older name of `output_config.format`. */
function readOutput(body: Fields, untranslated: string[]): Partial<ChatRequest> {
  const config = optional(body.output_config, 'output_config', fields) ?? {}
  for (const name of Object.keys(config))
    if (name !== 'effort' && name !== 'format' && !isAbsent(config[name])) untranslated.push(`output_config.${name}`)
  const effort = optional(config.effort, 'output_config.effort', among(EFFORTS))
  const path = isAbsent(config.format) ? 'output_format' : 'output_config.format'
  const format = optional(config.format ?? body.output_format, path, fields)
  if (!format) return effort ? { effort } : {}
  required(format.type, `${path}.type`, among(['json_schema']))
  return { ...(effort && { effort }), schema: required(format.schema, `${path}.schema`, fields) }
}

function readModes(body: Fields): Partial<ChatRequest> {
  const stop = optional(body.stop_sequences, 'stop_sequences', list)?.map((one, i) => text(one, `stop_sequences.${i}`))
  const temperature = optional(body.temperature, 'temperature', decimal(0, 1))
  const topP = optional(body.top_p, 'top_p', decimal(0, 1))
  const topK = optional(body.top_k, 'top_k', integer(0))
  const sampling = {
    ...(temperature !== undefined && { temperature }),
    ...(topP !== undefined && { topP }),
    ...(topK !== undefined && { topK }),
  }
  const metadata = optional(body.metadata, 'metadata', fields)
  const user = optional(metadata?.user_id, 'metadata.user_id', text)
  return {
    ...(stop?.length && { stop }),
    ...(Object.keys(sampling).length > 0 && { sampling }),
    ...(user !== undefined && { user }),
  }
}

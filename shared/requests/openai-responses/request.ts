import {
  among,
  decimal,
  type Fields,
  fault,
  fields,
  flag,
  integer,
  invalidType,
  isAbsent,
  isFields,
  list,
  metadata,
  optional,
  reading,
  required,
  text,
} from '../openai-fields.ts'
import { EFFORTS } from '../request.ts'
import { unmatchedCall } from '../tools.ts'
import type { ParsedRequest, RequestFault } from '../wire.ts'
import { readInput } from './input.ts'
import { readToolChoice, readTools } from './tools.ts'

/** OpenAI refuses smaller output limits. */
const MIN_OUTPUT_TOKENS = 16

/**
 * Fields that the neutral request carries (`read`), that do not change the answer (`harmless`), or that do not in some cases. All
 * others need a provider with this wire format.
 */
const FIELDS: Record<string, 'read' | 'harmless' | ((value: unknown) => boolean)> = {
  model: 'read',
  input: 'read',
  instructions: 'read',
  max_output_tokens: 'read',
  temperature: 'read',
  top_p: 'read',
  text: 'read',
  reasoning: 'read',
  tools: 'read',
  tool_choice: 'read',
  parallel_tool_calls: 'read',
  stream: 'read',
  user: 'read',
  safety_identifier: 'read',
  // The API resolves these three before the request becomes a task.
  background: 'harmless',
  conversation: 'harmless',
  previous_response_id: 'harmless',
  background_options: 'harmless',
  max_tool_calls: 'harmless',
  metadata: 'harmless',
  prompt_cache_key: 'harmless',
  prompt_cache_options: 'harmless',
  prompt_cache_retention: 'harmless',
  service_tier: 'harmless',
  store: 'harmless',
  stream_options: 'harmless',
  context_management: value => Array.isArray(value) && value.length === 0,
  include: value => Array.isArray(value) && !value.includes('message.output_text.logprobs'),
  top_logprobs: value => value === 0,
  truncation: value => value === 'disabled',
}

/** Reads the body of `POST /v1/responses`. */
export const parse = (body: Fields): ParsedRequest | RequestFault => reading(() => read(body))

function read(body: Fields): ParsedRequest {
  checkHarmless(body)
  const instructions = optional(body.instructions, 'instructions', text)
  const conversation = readInput(required(body.input, 'input', value => value))
  checkCalls(body, conversation)
  const { tools, untranslated: hostedTools } = readTools(optional(body.tools, 'tools', list) ?? [])
  const choice = readToolChoice(body.tool_choice, tools)
  const format = readText(optional(body.text, 'text', fields) ?? {})
  const sampling = {
    ...defined('temperature', optional(body.temperature, 'temperature', decimal(0, 2))),
    ...defined('topP', optional(body.top_p, 'top_p', decimal(0, 1))),
  }
  const reasoning = optional(body.reasoning, 'reasoning', fields) ?? {}
  const system = [instructions, ...conversation.system].filter(one => one !== undefined && one !== '')
  const used = choice.tools ?? tools
  return {
    request: {
      ...(system.length > 0 && { system: system.join('\n\n') }),
      messages: conversation.messages,
      ...defined('schema', format.schema),
      ...(used.length > 0 && { tools: used }),
      ...defined('toolChoice', choice.choice),
      ...defined('parallelToolCalls', optional(body.parallel_tool_calls, 'parallel_tool_calls', flag)),
      ...(Object.keys(sampling).length > 0 && { sampling }),
      ...defined('effort', optional(reasoning.effort, 'reasoning.effort', among(EFFORTS))),
      ...defined('verbosity', format.verbosity),
      ...defined('user', userOf(body)),
      original: { wire: 'openai-responses', body },
    },
    model: optional(body.model, 'model', text),
    maxTokens: optional(body.max_output_tokens, 'max_output_tokens', integer(MIN_OUTPUT_TOKENS)),
    stream: optional(body.stream, 'stream', flag) ?? false,
    untranslated: [
      ...untranslatedFields(body),
      ...conversation.untranslated,
      ...hostedTools,
      ...choice.untranslated,
      ...format.untranslated,
      ...untranslatedReasoning(reasoning),
    ],
  }
}

/** Earlier responses, and items that only OpenAI knows, may contain the calls or their results. */
function checkCalls(body: Fields, { messages, untranslated }: ReturnType<typeof readInput>): void {
  if (!isAbsent(body.previous_response_id) || !isAbsent(body.conversation) || untranslated.length > 0) return
  const unmatched = unmatchedCall({ messages })
  if (!unmatched) return
  const { type, id } = unmatched
  fault(
    'invalid_value',
    'input',
    type === 'result'
      ? `No tool call found for function call output with call_id ${id.slice(0, 100)}.`
      : `No tool output found for function call ${id.slice(0, 100)}.`,
  )
}

const defined = <Name extends string, T>(name: Name, value: T | undefined): { [name in Name]?: T } =>
  (value === undefined ? {} : { [name]: value }) as { [name in Name]?: T }

/** Checks fields that have no part in the neutral request, but mean something to this server or to its answers. */
function checkHarmless(body: Fields): void {
  const background = optional(body.background, 'background', flag)
  const store = optional(body.store, 'store', flag)
  if (background && store === false)
    fault('invalid_value', 'background', "Background mode requires 'store' to be true.")
  optional(body.metadata, 'metadata', metadata)
  optional(body.include, 'include', list)
  optional(body.max_tool_calls, 'max_tool_calls', integer(1))
  optional(body.prompt_cache_key, 'prompt_cache_key', text)
  optional(body.service_tier, 'service_tier', text)
  optional(body.stream_options, 'stream_options', fields)
  optional(body.top_logprobs, 'top_logprobs', integer(0, 20))
  optional(body.truncation, 'truncation', among(['auto', 'disabled']))
}

function untranslatedFields(body: Fields): string[] {
  return Object.entries(body).flatMap(([name, value]) => {
    if (isAbsent(value)) return []
    const rule = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined
    if (rule === undefined) return [name]
    return typeof rule === 'string' || rule(value) ? [] : [name]
  })
}

function userOf(body: Fields): string | undefined {
  const user = optional(body.user, 'user', text)
  return optional(body.safety_identifier, 'safety_identifier', text) ?? user
}

/** `summary` asks for a view of the reasoning that other providers give or withhold by themselves. */
const REASONING = new Set(['effort', 'summary', 'generate_summary'])

const untranslatedReasoning = (reasoning: Fields): string[] =>
  Object.entries(reasoning).flatMap(([name, value]) =>
    isAbsent(value) || REASONING.has(name) ? [] : [`reasoning.${name}`],
  )

type Format = {
  schema?: Record<string, unknown>
  verbosity?: 'low' | 'medium' | 'high'
  untranslated: string[]
}

function readText(asked: Fields): Format {
  const verbosity = optional(asked.verbosity, 'text.verbosity', among(['low', 'medium', 'high']))
  const untranslated = Object.keys(asked).flatMap(name =>
    name === 'format' || name === 'verbosity' || isAbsent(asked[name]) ? [] : [`text.${name}`],
  )
  const more = { ...defined('verbosity', verbosity), untranslated }
  const format = optional(asked.format, 'text.format', fields)
  if (!format) return more
  const type = required(format.type, 'text.format.type', among(['text', 'json_object', 'json_schema']))
  if (type === 'text') return more
  if (type === 'json_object') return { ...more, schema: { type: 'object' } }
  required(format.name, 'text.format.name', text)
  optional(format.strict, 'text.format.strict', flag)
  const schema = required(format.schema, 'text.format.schema', value =>
    isFields(value) ? value : invalidType(value, 'text.format.schema', 'an object'),
  )
  return { ...more, schema }
}

import { compileSchema } from '#shared/json/schema.ts'
import {
  among,
  decimal,
  type Fields,
  fault,
  fields,
  flag,
  integer,
  isAbsent,
  list,
  metadata,
  missing,
  optional,
  reading,
  required,
  text,
} from '../openai-fields.ts'
import { type ChatRequest, EFFORTS } from '../request.ts'
import type { ParsedRequest, RequestFault } from '../wire.ts'
import { readMessages } from './parse-messages.ts'
import { readTools } from './parse-tools.ts'

/** Fields that the neutral request carries, or that do not change the answer. */
const TRANSLATED = new Set([
  ...['model', 'messages', 'max_completion_tokens', 'max_tokens', 'temperature', 'top_p', 'presence_penalty'],
  ...['frequency_penalty', 'seed', 'stop', 'response_format', 'tools', 'tool_choice', 'functions', 'function_call'],
  ...['parallel_tool_calls', 'reasoning_effort', 'verbosity', 'user', 'safety_identifier'],
  ...['stream', 'stream_options', 'store', 'metadata', 'service_tier'],
  // They only save time or money.
  ...['prediction', 'prompt_cache_key', 'prompt_cache_options', 'prompt_cache_retention'],
])
/** Fields that change the answer, unless they have this value. */
const WITHOUT_EFFECT: Record<string, (value: unknown) => boolean> = {
  n: value => value === 1,
  logprobs: value => value === false,
  top_logprobs: value => value === 0,
  logit_bias: value => Object.keys(value as object).length === 0,
  modalities: value => (value as unknown[]).every(one => one === 'text'),
}

export const parse = (body: Fields): ParsedRequest | RequestFault => reading(() => readBody(body))

function readBody(body: Fields): ParsedRequest {
  const untranslated = fieldsToForward(body)
  const request: ChatRequest = {
    ...readMessages(required(body.messages, 'messages', list), untranslated),
    original: { wire: 'openai-chat', body },
  }
  Object.assign(request, readTools(body, untranslated), defined(readModes(body)))
  const schema = readFormat(body)
  if (schema) request.schema = schema
  const sampling = defined({
    temperature: optional(body.temperature, 'temperature', decimal(0, 2)),
    topP: optional(body.top_p, 'top_p', decimal(0, 1)),
    presencePenalty: optional(body.presence_penalty, 'presence_penalty', decimal(-2, 2)),
    frequencyPenalty: optional(body.frequency_penalty, 'frequency_penalty', decimal(-2, 2)),
    seed: optional(body.seed, 'seed', integer(Number.MIN_SAFE_INTEGER)),
  })
  if (Object.keys(sampling).length > 0) request.sampling = sampling
  checkOthers(body)
  return {
    request,
    model: optional(body.model, 'model', text),
    maxTokens: readLimit(body),
    stream: optional(body.stream, 'stream', flag) ?? false,
    untranslated,
  }
}

function fieldsToForward(body: Fields): string[] {
  optional(body.n, 'n', integer(1, 128))
  optional(body.logprobs, 'logprobs', flag)
  optional(body.top_logprobs, 'top_logprobs', integer(0, 20))
  optional(body.logit_bias, 'logit_bias', fields)
  optional(body.modalities, 'modalities', list)
  return Object.keys(body).filter(
    name => !TRANSLATED.has(name) && !isAbsent(body[name]) && !WITHOUT_EFFECT[name]?.(body[name]),
  )
}

/** Checks fields that no provider of another wire format receives. */
function checkOthers(body: Fields): void {
  optional(body.stream_options, 'stream_options', fields)
  optional(body.store, 'store', flag)
  optional(body.metadata, 'metadata', metadata)
  optional(body.service_tier, 'service_tier', text)
  optional(body.prediction, 'prediction', fields)
}

function readModes(body: Fields): Partial<ChatRequest> {
  const stop = typeof body.stop === 'string' ? [body.stop] : optional(body.stop, 'stop', list)
  if (stop && stop.length > 4)
    fault('array_above_max_length', 'stop', `Invalid 'stop': array too long. Expected at most 4 texts.`)
  const stops = stop?.map((one, i) => text(one, `stop[${i}]`))
  const identifier = optional(body.safety_identifier, 'safety_identifier', text)
  return {
    stop: stops?.length ? stops : undefined,
    effort: optional(body.reasoning_effort, 'reasoning_effort', among(EFFORTS)),
    verbosity: optional(body.verbosity, 'verbosity', among(['low', 'medium', 'high'])),
    user: identifier ?? optional(body.user, 'user', text),
  } as Partial<ChatRequest>
}

/** Without fields that are undefined, which exact optional properties do not allow. */
const defined = <T extends object>(value: T): { [K in keyof T]?: NonNullable<T[K]> } =>
  Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never

/** `max_tokens` is the older name. */
function readLimit(body: Fields): number | undefined {
  const limit = optional(body.max_completion_tokens, 'max_completion_tokens', integer(1))
  const older = optional(body.max_tokens, 'max_tokens', integer(1))
  if (limit !== undefined && older !== undefined && limit !== older)
    fault('invalid_value', 'max_tokens', "'max_tokens' and 'max_completion_tokens' differ. Send only the latter.")
  return limit ?? older
}

const FORMATS = ['text', 'json_object', 'json_schema'] as const

/** @returns the schema of the answer; null: any text */
function readFormat(body: Fields): Fields | null {
  const format = optional(body.response_format, 'response_format', fields)
  if (!format) return null
  const type = required(format.type, 'response_format.type', among(FORMATS))
  if (type === 'text') return null
  if (type === 'json_object') return { type: 'object' }
  const path = 'response_format.json_schema'
  if (isAbsent(format.json_schema)) missing(path)
  const { schema: given } = fields(format.json_schema, path)
  const schema = optional(given, `${path}.schema`, fields)
  if (!schema) return { type: 'object' }
  try {
    compileSchema(schema)
  } catch (error) {
    const why = (error as Error).message
    fault('invalid_value', `${path}.schema`, `Invalid schema for response_format: '${path}.schema': ${why}.`)
  }
  return schema
}

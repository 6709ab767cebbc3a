import { openaiChat } from '#shared/requests/openai-chat/index.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import type { CallRequest } from './define.ts'
import { schemaInstruction } from './guard.ts'
import { providerSchemas } from './schemas/provider-schemas.ts'

type Body = Record<string, unknown>

/** Differences between the servers that speak OpenAI's format. */
export type Dialect = {
  /** OpenAI's newer models reject `max_tokens`; compatible servers know only that. */
  maxTokens: 'max_tokens' | 'max_completion_tokens'
  /**
   * `json_object`: JSON mode without a schema. `google`: Google's subset. `object`: schemas of objects only. `any`: any
   * schema.
   */
  schema: 'json_object' | 'google' | 'object' | 'any'
  /** The tools of a request may have `strict`. */
  strict: boolean
  /**
   * Fields that a model rejects. Sluice leaves them out of a translated request, because an answer without them is better than
   * a failed task.
   */
  without(model: string): readonly (keyof ChatRequest)[]
}

const DIALECTS: Record<string, Dialect> = {
  openai: {
    maxTokens: 'max_completion_tokens',
    schema: 'object',
    strict: true,
    without(model) {
      if (/^o\d/.test(model)) return ['sampling', 'verbosity', 'parallelToolCalls']
      // Models that reason accept only the default temperature.
      return /^gpt-[5-9]/.test(model) ? ['sampling'] : ['effort', 'thinking', 'verbosity']
    },
  },
  deepseek: {
    maxTokens: 'max_tokens',
    schema: 'json_object',
    strict: false,
    without: () => ['effort', 'thinking', 'verbosity', 'parallelToolCalls', 'user'],
  },
  google: {
    maxTokens: 'max_tokens',
    schema: 'google',
    strict: false,
    without: () => ['verbosity', 'parallelToolCalls', 'user'],
  },
}
const COMPATIBLE: Dialect = {
  maxTokens: 'max_tokens',
  schema: 'any',
  strict: true,
  without: () => ['verbosity', 'user'],
}

export const dialectOf = (provider: string): Dialect => DIALECTS[provider] ?? COMPATIBLE

/** Whether the client speaks the provider's format, so that its request and the answer are passed on as they are. */
export const isOwnWire = ({ original }: ChatRequest): boolean => original?.wire === 'openai-chat'

/** @param options.isOpenAi the server is OpenAI's own, which knows every field of its format */
export function toBody(request: CallRequest, options: Dialect & { isOpenAi: boolean; stream: boolean }): Body {
  const { stream } = options
  const body = isOwnWire(request)
    ? adaptForwarded(openaiChat.render(request, { stream }), request, options)
    : renderTranslated(request, options)
  const { max_completion_tokens, ...rest } = body
  return { ...rest, [options.maxTokens]: max_completion_tokens }
}

function renderTranslated(request: CallRequest, dialect: Dialect & { stream: boolean }): Body {
  const { schema, ...rest } = request
  for (const name of dialect.without(request.model)) delete rest[name as keyof typeof rest]
  if (rest.tools && !dialect.strict) rest.tools = rest.tools.map(({ strict: _, ...tool }) => tool)
  if (!schema) return openaiChat.render(rest, dialect)
  const { format, inPrompt } = formatOf(schema, dialect)
  if (inPrompt) rest.system = schemaInstruction(rest.system, inPrompt)
  return { ...openaiChat.render(rest, dialect), ...(format && { response_format: format }) }
}

/** Clients write their requests for OpenAI. Other servers know only a part of its format. */
function adaptForwarded(body: Body, { schema }: CallRequest, dialect: Dialect & { isOpenAi: boolean }): Body {
  if (dialect.isOpenAi) return body
  const messages = (body.messages as Body[]).map(one => (one.role === 'developer' ? { ...one, role: 'system' } : one))
  const asksSchema = Object(body.response_format).type === 'json_schema'
  if (!schema || !asksSchema || dialect.schema === 'any' || dialect.schema === 'object') return { ...body, messages }
  const { format, inPrompt } = formatOf(schema, dialect)
  const { response_format: _, ...rest } = body
  return {
    ...rest,
    messages: inPrompt ? [{ role: 'system', content: schemaInstruction(undefined, inPrompt) }, ...messages] : messages,
    ...(format && { response_format: format }),
  }
}

type Format = {
  format: Body | null
  /** A schema that the prompt must describe, because the request cannot contain it. */
  inPrompt: Record<string, unknown> | null
}

function formatOf(schema: Record<string, unknown>, dialect: Pick<Dialect, 'schema'>): Format {
  const { portable, isObject, google } = providerSchemas(schema)
  const sent = { json_object: null, google, object: isObject ? portable : null, any: portable }[dialect.schema]
  // Not `strict`, which accepts a subset of JSON Schema that differs by model. The kind's check validates the answer in
  // any case.
  if (sent) return { format: { type: 'json_schema', json_schema: { name: 'answer', schema: sent } }, inPrompt: null }
  return { format: isObject ? { type: 'json_object' } : null, inPrompt: portable }
}

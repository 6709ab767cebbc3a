import type { EndedLine } from '#shared/db/batches/read-lines.ts'
import { type FinishReason, isRefusal } from '#shared/models/finish-reasons.ts'
import { isObject } from '../checks.ts'
import type { Rejected } from '../types.ts'
import { type EndpointRequest, findUnsupportedField, type Rule, rejection } from './define.ts'

/** Shared by chat completions and responses. */

type Role = 'system' | 'user' | 'assistant'
export type Turn = { role: Role; text: string }

/** `developer` is the newer name of `system`. */
const ROLES: Record<string, Role> = { system: 'system', developer: 'system', user: 'user', assistant: 'assistant' }

const PART: Record<string, Rule> = {
  type: 'read',
  text: 'read',
  annotations: 'ignored',
  logprobs: 'ignored',
  prompt_cache_breakpoint: 'ignored',
}

/** @param partTypes the types of text parts in `content` */
export function readTurn(
  message: unknown,
  path: string,
  rules: Record<string, Rule>,
  partTypes: readonly string[],
): Turn | Rejected {
  if (!isObject(message)) return rejection('invalid_type', path, `'${path}' must be an object.`)
  const { role, content } = message
  if (typeof role !== 'string' || !Object.hasOwn(ROLES, role)) {
    return rejection('invalid_value', `${path}.role`, `'${path}.role' must be one of ${Object.keys(ROLES).join(', ')}.`)
  }
  const wrong = findUnsupportedField(message, rules, path)
  if (wrong) return wrong
  const text = typeof content === 'string' ? content : readParts(content, `${path}.content`, partTypes)
  if (typeof text !== 'string') return text
  // Empty instructions are allowed, and dropped later.
  if (text === '' && ROLES[role] !== 'system') {
    return rejection('invalid_value', `${path}.content`, `'${path}.content' must not be empty.`)
  }
  return { role: ROLES[role]!, text }
}

function readParts(parts: unknown, path: string, types: readonly string[]): string | Rejected {
  if (!Array.isArray(parts)) return rejection('invalid_type', path, `'${path}' must be a string or a list of parts.`)
  const texts: string[] = []
  for (const [i, part] of parts.entries()) {
    const at = `${path}[${i}]`
    if (!isObject(part)) return rejection('invalid_type', at, `'${at}' must be an object.`)
    if (typeof part.type !== 'string' || !types.includes(part.type)) {
      return rejection('unsupported_value', `${at}.type`, `Unsupported: only text can be asked (${types.join(', ')}).`)
    }
    const wrong = findUnsupportedField(part, PART, at)
    if (wrong) return wrong
    if (typeof part.text !== 'string') return rejection('invalid_type', `${at}.text`, `'${at}.text' must be a string.`)
    texts.push(part.text)
  }
  return texts.join('\n')
}

/**
 * Converts turns to the input of `generate`. Instructions from all positions are joined into one text. Consecutive turns of one role
 * are joined too, because some providers reject them.
 */
export function conversation(turns: readonly Turn[], param: string): EndpointRequest['input'] | Rejected {
  const system: string[] = []
  const messages: { role: string; content: string }[] = []
  for (const { role, text } of turns) {
    const last = messages.at(-1)
    if (role === 'system') {
      if (text !== '') system.push(text)
    } else if (last?.role === role) last.content += `\n\n${text}`
    else messages.push({ role, content: text })
  }
  if (messages.at(-1)?.role !== 'user')
    return rejection('invalid_value', param, `'${param}' must end with a user's turn.`)
  return { messages, ...(system.length > 0 && { system: system.join('\n\n') }) }
}

/** @param format OpenAI's `response_format`, or `text.format`, whose fields are one level higher */
export function readFormat(format: unknown, path: string, nested: boolean): { schema?: unknown } | Rejected {
  if (format === undefined || format === null) return {}
  if (!isObject(format)) return rejection('invalid_type', path, `'${path}' must be an object.`)
  if (format.type === 'text') return {}
  if (format.type === 'json_object') return { schema: { type: 'object' } }
  const known = 'text, json_object, json_schema'
  if (format.type !== 'json_schema')
    return rejection('invalid_value', `${path}.type`, `Supported values are: ${known}.`)
  const holder = nested ? format.json_schema : format
  if (!isObject(holder)) {
    return rejection(
      'missing_required_parameter',
      `${path}.json_schema`,
      `Missing required parameter: '${path}.json_schema'.`,
    )
  }
  return { schema: holder.schema ?? { type: 'object' } }
}

/** Lines of earlier versions have no finish reason: then the number of tokens shows whether the answer was truncated. */
export const finishReasonOf = (line: EndedLine): FinishReason => {
  const { max_tokens } = line.options
  return (
    line.finish_reason ??
    (typeof max_tokens === 'number' && (line.answer_tokens ?? 0) >= max_tokens ? 'length' : 'stop')
  )
}

/** The text of a `generate` result, or its JSON if a schema was requested. A refusal is always text. */
export function textOf({ input, result, finish_reason }: EndedLine): string {
  const { text } = (result ?? {}) as { text?: unknown }
  const { schema } = (input ?? {}) as { schema?: unknown }
  return (schema === undefined || isRefusal(finish_reason)) && typeof text === 'string' ? text : JSON.stringify(result)
}

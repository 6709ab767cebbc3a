import { isObject } from '../checks.ts'
import type { EndedLine, Rejected } from '../types.ts'
import { type Asked, type Rule, refused, reject } from './define.ts'

/** What both APIs of OpenAI's to talk with a model have in common. */

type Role = 'system' | 'user' | 'assistant'
export type Turn = { role: Role; text: string }

/** `developer` is what `system` has become. */
const ROLES: Record<string, Role> = { system: 'system', developer: 'system', user: 'user', assistant: 'assistant' }

const PART: Record<string, Rule> = {
  type: 'read',
  text: 'read',
  annotations: 'ignored',
  logprobs: 'ignored',
  prompt_cache_breakpoint: 'ignored',
}

/** @param partTypes those of `content` that are text */
export function readTurn(
  message: unknown,
  path: string,
  rules: Record<string, Rule>,
  partTypes: readonly string[],
): Turn | Rejected {
  if (!isObject(message)) return reject('invalid_type', path, `'${path}' must be an object.`)
  const { role, content } = message
  if (typeof role !== 'string' || !Object.hasOwn(ROLES, role)) {
    return reject('invalid_value', `${path}.role`, `'${path}.role' must be one of ${Object.keys(ROLES).join(', ')}.`)
  }
  const wrong = refused(message, rules, path)
  if (wrong) return wrong
  const text = typeof content === 'string' ? content : readParts(content, `${path}.content`, partTypes)
  if (typeof text !== 'string') return text
  // Instructions that say nothing are as good as none.
  if (text === '' && ROLES[role] !== 'system') {
    return reject('invalid_value', `${path}.content`, `'${path}.content' must not be empty.`)
  }
  return { role: ROLES[role]!, text }
}

function readParts(parts: unknown, path: string, types: readonly string[]): string | Rejected {
  if (!Array.isArray(parts)) return reject('invalid_type', path, `'${path}' must be a string or a list of parts.`)
  const texts: string[] = []
  for (const [i, part] of parts.entries()) {
    const at = `${path}[${i}]`
    if (!isObject(part)) return reject('invalid_type', at, `'${at}' must be an object.`)
    if (typeof part.type !== 'string' || !types.includes(part.type)) {
      return reject('unsupported_value', `${at}.type`, `Unsupported: only text can be asked (${types.join(', ')}).`)
    }
    const wrong = refused(part, PART, at)
    if (wrong) return wrong
    if (typeof part.text !== 'string') return reject('invalid_type', `${at}.text`, `'${at}.text' must be a string.`)
    texts.push(part.text)
  }
  return texts.join('\n')
}

/**
 * Turns as the input of `generate`: instructions from wherever they stand are joined, as they are one text there, and so
 * are turns of the same side that follow each other, which not every provider takes.
 */
export function conversation(turns: readonly Turn[], param: string): Asked['input'] | Rejected {
  const system: string[] = []
  const messages: { role: string; content: string }[] = []
  for (const { role, text } of turns) {
    const last = messages.at(-1)
    if (role === 'system') {
      if (text !== '') system.push(text)
    } else if (last?.role === role) last.content += `\n\n${text}`
    else messages.push({ role, content: text })
  }
  if (messages.at(-1)?.role !== 'user') return reject('invalid_value', param, `'${param}' must end with a user's turn.`)
  return { messages, ...(system.length > 0 && { system: system.join('\n\n') }) }
}

/** @param format OpenAI's `response_format`, or `text.format` with its fields one level higher */
export function readFormat(format: unknown, path: string, nested: boolean): { schema?: unknown } | Rejected {
  if (format === undefined || format === null) return {}
  if (!isObject(format)) return reject('invalid_type', path, `'${path}' must be an object.`)
  if (format.type === 'text') return {}
  if (format.type === 'json_object') return { schema: { type: 'object' } }
  const known = 'text, json_object, json_schema'
  if (format.type !== 'json_schema') return reject('invalid_value', `${path}.type`, `Supported values are: ${known}.`)
  const holder = nested ? format.json_schema : format
  if (!isObject(holder)) {
    return reject(
      'missing_required_parameter',
      `${path}.json_schema`,
      `Missing required parameter: '${path}.json_schema'.`,
    )
  }
  return { schema: holder.schema ?? { type: 'object' } }
}

export const isCutOff = (line: EndedLine): boolean =>
  typeof line.options.max_tokens === 'number' && (line.answer_tokens ?? 0) >= line.options.max_tokens

/** What a model wrote for `generate`. A schema may want an object with a `text`, too. */
export function textOf({ input, result }: EndedLine): string {
  const { text } = (result ?? {}) as { text?: unknown }
  const { schema } = (input ?? {}) as { schema?: unknown }
  return schema === undefined && typeof text === 'string' ? text : JSON.stringify(result)
}

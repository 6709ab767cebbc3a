import { among, type Fields, fault, fields, isAbsent, list, optional, required, text } from '../openai-fields.ts'
import type { AssistantPart, ChatRequest, Message, TextPart, ToolResultPart } from '../request.ts'
import { createCallCheck } from '../tools.ts'
import { readUserPart } from './parse-parts.ts'

const ROLES = ['developer', 'system', 'user', 'assistant', 'tool', 'function'] as const

/** Fields of messages that the neutral request carries, or that do not change the answer. */
const KNOWN = new Set([
  ...['role', 'content', 'refusal', 'tool_calls', 'tool_call_id', 'function_call', 'annotations'],
  // Reasoning of other servers, which no provider needs back in this format.
  ...['reasoning', 'reasoning_content', 'reasoning_details'],
])

/**
 * Reads a conversation. Instructions before the first turn become `system`. Consecutive tool messages become one turn of the user.
 * @param untranslated receives the fields and parts that only OpenAI knows
 */
export function readMessages(given: unknown[], untranslated: string[]): Pick<ChatRequest, 'system' | 'messages'> {
  if (given.length === 0)
    fault(
      'empty_array',
      'messages',
      "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    )
  const system: string[] = []
  const messages: Message[] = []
  /** Ids for calls in the older notation, by the function's name. */
  const olderCalls = new Map<string, string>()
  const calls = createCallCheck()
  for (const [i, one] of given.entries()) {
    const path = `messages[${i}]`
    const message = fields(one, path)
    const role = required(message.role, `${path}.role`, among(ROLES))
    noteUnknown(message, path, untranslated)
    if (role !== 'tool' && role !== 'function') refuseUnanswered(calls.unanswered())
    if (role === 'system' || role === 'developer') {
      const content = readTexts(message.content, `${path}.content`)
      if (messages.length > 0) messages.push({ role: 'system', content })
      else if (content !== '') system.push(content)
    } else if (role === 'user') messages.push({ role, content: readUserContent(message, path, untranslated) })
    else if (role === 'assistant') {
      const call = readOlderCall(message, path, i)
      if (call) olderCalls.set(call.name, call.id)
      const content = readAssistant(message, path, call, untranslated)
      for (const part of typeof content === 'string' ? [] : content)
        if (part.type === 'tool_call') calls.called(part.id)
      messages.push({ role, content })
    } else {
      const result = readResult(message, path, role, olderCalls)
      if (!calls.answered(result.id))
        fault(
          'invalid_value',
          `${path}.tool_call_id`,
          `Invalid parameter: messages with role '${role}' must be a response to a preceding message with 'tool_calls'. No call has the id '${result.id.slice(0, 100)}'.`,
        )
      addResult(messages, result)
    }
  }
  refuseUnanswered(calls.unanswered())
  if (system.length === 0) return { messages }
  const instructions = system.join('\n\n')
  // OpenAI's models answer instructions alone. Others need a turn of the user.
  if (messages.length === 0) return { messages: [{ role: 'user', content: instructions }] }
  return { system: instructions, messages }
}

function refuseUnanswered(ids: string[]): void {
  if (ids.length === 0) return
  fault(
    'invalid_value',
    'messages',
    `An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: ${ids.slice(0, 20).join(', ')}`,
  )
}

function noteUnknown(message: Fields, path: string, untranslated: string[]): void {
  for (const name of Object.keys(message)) {
    if (KNOWN.has(name) || isAbsent(message[name]) || (name === 'name' && message.role === 'function')) continue
    untranslated.push(`${path}.${name}`)
  }
}

/** A text, or a list of text parts. */
function readTexts(content: unknown, path: string): string {
  if (typeof content === 'string') return content
  return required(content, path, list)
    .map((part, i) => readText(part, `${path}[${i}]`))
    .join('\n')
}

function readText(given: unknown, path: string): string {
  const part = fields(given, path)
  required(part.type, `${path}.type`, among(['text']))
  return required(part.text, `${path}.text`, text)
}

function readUserContent({ content }: Fields, path: string, untranslated: string[]) {
  if (typeof content === 'string') return content
  return required(content, `${path}.content`, list).flatMap(
    (part, i) => readUserPart(part, `${path}.content[${i}]`, untranslated) ?? [],
  )
}

type Call = Extract<AssistantPart, { type: 'tool_call' }>

function readAssistant(
  message: Fields,
  path: string,
  olderCall: Call | null,
  untranslated: string[],
): string | AssistantPart[] {
  const { content, tool_calls } = message
  const parts: AssistantPart[] =
    typeof content === 'string' ? textParts(content) : (readAssistantParts(content, `${path}.content`) ?? [])
  const refusal = optional(message.refusal, `${path}.refusal`, text)
  if (refusal) parts.push({ type: 'refusal', text: refusal })
  const calls = (optional(tool_calls, `${path}.tool_calls`, list) ?? []).map((one, i) =>
    readCall(fields(one, `${path}.tool_calls[${i}]`), `${path}.tool_calls[${i}]`, untranslated),
  )
  if (olderCall) calls.push(olderCall)
  // An answer with audio is referenced by its id.
  if (parts.length + calls.length === 0 && typeof content !== 'string' && isAbsent(message.audio))
    fault(
      'invalid_type',
      `${path}.content`,
      `Invalid value for '${path}.content': expected a string, but got null. An assistant message without content needs 'tool_calls' or 'refusal'.`,
    )
  return calls.length === 0 && typeof content === 'string' && !refusal ? content : [...parts, ...calls]
}

const textParts = (content: string): TextPart[] => (content === '' ? [] : [{ type: 'text', text: content }])

const readAssistantParts = (content: unknown, path: string): AssistantPart[] | undefined =>
  optional(content, path, list)?.map((given, i) => {
    const at = `${path}[${i}]`
    const part = fields(given, at)
    const type = required(part.type, `${at}.type`, among(['text', 'refusal']))
    return { type, text: required(part[type], `${at}.${type}`, text) }
  })

function readCall(call: Fields, path: string, untranslated: string[]): Call {
  const id = required(call.id, `${path}.id`, text)
  const type = optional(call.type, `${path}.type`, text) ?? 'function'
  if (type === 'function') return { type: 'tool_call', id, ...readInvocation(call.function, `${path}.function`) }
  untranslated.push(path)
  const custom = optional(call.custom, `${path}.custom`, fields) ?? {}
  // Keeps the result that follows together with its call.
  return { type: 'tool_call', id, name: String(custom.name), arguments: JSON.stringify({ input: custom.input ?? '' }) }
}

function readInvocation(given: unknown, path: string) {
  const invocation = required(given, path, fields)
  const written = optional(invocation.arguments, `${path}.arguments`, text)
  return { name: required(invocation.name, `${path}.name`, text), arguments: written || '{}' }
}

/** The older notation, without ids. */
function readOlderCall({ function_call }: Fields, path: string, index: number): Call | null {
  if (isAbsent(function_call)) return null
  return { type: 'tool_call', id: `call_${index}`, ...readInvocation(function_call, `${path}.function_call`) }
}

function readResult(
  message: Fields,
  path: string,
  role: 'tool' | 'function',
  olderCalls: ReadonlyMap<string, string>,
): ToolResultPart {
  const content = readTexts(message.content, `${path}.content`)
  if (role === 'tool')
    return { type: 'tool_result', id: required(message.tool_call_id, `${path}.tool_call_id`, text), content }
  const name = required(message.name, `${path}.name`, text)
  const id = olderCalls.get(name)
  if (id !== undefined) return { type: 'tool_result', id, content }
  return fault(
    'invalid_value',
    `${path}.name`,
    `Invalid value for '${path}.name': no function call of '${name}' precedes.`,
  )
}

function addResult(messages: Message[], result: ToolResultPart): void {
  const last = messages.at(-1)
  const isOfResults =
    last?.role === 'user' && typeof last.content !== 'string' && last.content[0]?.type === 'tool_result'
  if (isOfResults) (last.content as ToolResultPart[]).push(result)
  else messages.push({ role: 'user', content: [result] })
}

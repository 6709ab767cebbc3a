import { among, type Fields, fault, fields, invalidType, list, optional, required, text } from '../openai-fields.ts'
import type { AssistantPart, Message, UserPart } from '../request.ts'
import { readFile, readImage } from './media.ts'
import { readEncrypted } from './reasoning.ts'

const ROLES = ['user', 'assistant', 'system', 'developer'] as const

type Conversation = {
  /** Instructions before the first turn. */
  system: string[]
  messages: Message[]
  untranslated: string[]
}

/** Reads `input`: a text, or items. Items of one turn become one message. */
export function readInput(input: unknown): Conversation {
  if (typeof input === 'string') {
    if (input === '') fault('invalid_value', 'input', "'input' must not be empty.")
    return { system: [], messages: [{ role: 'user', content: input }], untranslated: [] }
  }
  if (!Array.isArray(input)) invalidType(input, 'input', 'a string or an array of items')
  const items = input as unknown[]
  if (items.length === 0) fault('invalid_value', 'input', "'input' must have at least one item.")
  const conversation: Conversation = { system: [], messages: [], untranslated: [] }
  for (const [i, item] of items.entries()) readItem(fields(item, `input[${i}]`), `input[${i}]`, conversation)
  return conversation
}

function readItem(item: Fields, at: string, conversation: Conversation): void {
  const type = optional(item.type, `${at}.type`, text) ?? 'message'
  switch (type) {
    case 'message':
      readMessage(item, at, conversation)
      return
    case 'function_call':
      addToAssistant(conversation, {
        type: 'tool_call',
        id: required(item.call_id, `${at}.call_id`, text),
        name: required(item.name, `${at}.name`, text),
        arguments: required(item.arguments, `${at}.arguments`, text) || '{}',
      })
      return
    case 'function_call_output':
      addResult(conversation, {
        type: 'tool_result',
        id: required(item.call_id, `${at}.call_id`, text),
        content: required(item.output, `${at}.output`, readOutput),
      })
      return
    case 'reasoning': {
      const part = readReasoning(item, at)
      if (part) addToAssistant(conversation, part)
      return
    }
    default:
      conversation.untranslated.push(at)
  }
}

function readMessage(item: Fields, at: string, conversation: Conversation): void {
  const role = required(item.role, `${at}.role`, among(ROLES))
  const content = required(item.content, `${at}.content`, value =>
    typeof value === 'string' || Array.isArray(value)
      ? value
      : invalidType(value, `${at}.content`, 'a string or an array of parts'),
  )
  const parts = typeof content === 'string' ? content : content.map((one, i) => fields(one, `${at}.content[${i}]`))
  const partAt = (i: number) => `${at}.content[${i}]`
  if (role === 'assistant') {
    const read: AssistantPart[] =
      typeof parts === 'string'
        ? [{ type: 'text', text: parts }]
        : parts.map((one, i) => readAssistantPart(one, partAt(i)))
    for (const part of read) addToAssistant(conversation, part)
  } else if (role === 'user') {
    const read = typeof parts === 'string' ? parts : parts.map((one, i) => readUserPart(one, partAt(i)))
    conversation.messages.push({ role: 'user', content: simplified(read) })
  } else {
    const said = typeof parts === 'string' ? parts : parts.map((one, i) => readText(one, partAt(i))).join('\n')
    // Providers without instructions in the middle of a conversation accept those at its beginning.
    if (conversation.messages.length === 0) conversation.system.push(said)
    else conversation.messages.push({ role: 'system', content: said })
  }
}

const simplified = (parts: string | UserPart[]): string | UserPart[] =>
  typeof parts !== 'string' && parts.length === 1 && parts[0]!.type === 'text' ? parts[0]!.text : parts

const TEXT_TYPES = ['input_text', 'output_text'] as const
const USER_TYPES = [...TEXT_TYPES, 'input_image', 'input_file'] as const
const ASSISTANT_TYPES = [...TEXT_TYPES, 'refusal'] as const

function readText(part: Fields, at: string): string {
  required(part.type, `${at}.type`, among(TEXT_TYPES))
  return required(part.text, `${at}.text`, text)
}

function readUserPart(part: Fields, at: string) {
  switch (required(part.type, `${at}.type`, among(USER_TYPES))) {
    case 'input_image':
      return readImage(part, at)
    case 'input_file':
      return readFile(part, at)
    default:
      return { type: 'text' as const, text: required(part.text, `${at}.text`, text) }
  }
}

const readAssistantPart = (part: Fields, at: string): AssistantPart =>
  required(part.type, `${at}.type`, among(ASSISTANT_TYPES)) === 'refusal'
    ? { type: 'refusal', text: required(part.refusal, `${at}.refusal`, text) }
    : { type: 'text', text: required(part.text, `${at}.text`, text) }

function readOutput(output: unknown, at: string) {
  if (typeof output === 'string') return output
  if (!Array.isArray(output)) invalidType(output, at, 'a string or an array of parts')
  return (output as unknown[]).map((one, i) => readUserPart(fields(one, `${at}[${i}]`), `${at}[${i}]`))
}

/** @returns null: reasoning that only the provider that wrote it can read; others continue without it */
function readReasoning(item: Fields, at: string): AssistantPart | null {
  const summary = optional(item.summary, `${at}.summary`, list) ?? []
  const content = optional(item.content, `${at}.content`, list) ?? []
  const said = [...content, ...summary].map(one => String((one as Fields | null)?.text ?? '')).join('\n\n')
  const encrypted = optional(item.encrypted_content, `${at}.encrypted_content`, text)
  const ours = encrypted === undefined ? null : readEncrypted(encrypted)
  if (ours?.type === 'redacted_thinking') return ours
  if (ours) return { type: 'thinking', text: said, signature: ours.signature }
  return said === '' ? null : { type: 'thinking', text: said }
}

/** Items of an answer that follow one another are one turn. */
function addToAssistant({ messages }: Conversation, part: AssistantPart): void {
  const last = messages.at(-1)
  if (last?.role === 'assistant' && typeof last.content !== 'string') last.content.push(part)
  else messages.push({ role: 'assistant', content: [part] })
}

/** The answers to the calls of one turn are one message. */
function addResult({ messages }: Conversation, part: UserPart & { type: 'tool_result' }): void {
  const last = messages.at(-1)
  if (last?.role === 'user' && typeof last.content !== 'string' && last.content.at(-1)?.type === 'tool_result')
    last.content.push(part)
  else messages.push({ role: 'user', content: [part] })
}

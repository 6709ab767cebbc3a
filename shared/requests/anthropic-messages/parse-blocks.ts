import { base64Problem, IMAGE_TYPES, imageProblem } from '../media.ts'
import type { Fields } from '../openai-fields.ts'
import { isAbsent } from '../openai-fields.ts'
import type {
  AssistantPart,
  DocumentPart,
  ImagePart,
  Message,
  Source,
  TextPart,
  ToolResultPart,
  UserPart,
} from '../request.ts'
import { among, fields, flag, invalid, list, optional, required, text } from './fields.ts'

const ROLES = ['user', 'assistant', 'system'] as const

/** Reads a conversation. @param untranslated receives the blocks that only Anthropic knows */
export function readMessages(given: unknown[], untranslated: string[]): Message[] {
  if (given.length === 0) invalid('messages', 'at least one message is required')
  return given.map((one, i) => {
    const path = `messages.${i}`
    const message = fields(one, path)
    const role = required(message.role, `${path}.role`, among(ROLES))
    const at = `${path}.content`
    const { content } = message
    if (typeof content === 'string') return { role, content }
    const blocks = required(content, at, list).map((block, n) => fields(block, `${at}.${n}`))
    if (role === 'system')
      return { role, content: blocks.map((block, n) => readText(block, `${at}.${n}`).text).join('\n') }
    const read = <T>(reader: (block: Fields, path: string, untranslated: string[]) => T | null) =>
      blocks.flatMap((block, n) => reader(block, `${at}.${n}`, untranslated) ?? [])
    return role === 'user' ? { role, content: read(readUserBlock) } : { role, content: read(readAssistantBlock) }
  })
}

/** `system`: a text, or text blocks. */
export const readSystem = (given: unknown): string =>
  typeof given === 'string'
    ? given
    : list(given, 'system')
        .map((one, i) => readText(fields(one, `system.${i}`), `system.${i}`).text)
        .join('\n\n')

function readText(block: Fields, path: string): TextPart {
  required(block.type, `${path}.type`, among(['text']))
  return { type: 'text', text: required(block.text, `${path}.text`, text) }
}

/** @returns null: a block that only Anthropic knows, which is then in `untranslated` */
function readUserBlock(block: Fields, path: string, untranslated: string[]): UserPart | null {
  switch (required(block.type, `${path}.type`, text)) {
    case 'text':
      return readText(block, path)
    case 'image':
      return readImage(block, path)
    case 'document':
      return readDocument(block, path, untranslated)
    case 'tool_result':
      return readResult(block, path, untranslated)
    default:
      untranslated.push(path)
      return null
  }
}

function readAssistantBlock(block: Fields, path: string, untranslated: string[]): AssistantPart | null {
  switch (required(block.type, `${path}.type`, text)) {
    case 'text':
      return readText(block, path)
    case 'thinking': {
      const signature = optional(block.signature, `${path}.signature`, text)
      const thinking = required(block.thinking, `${path}.thinking`, text)
      return { type: 'thinking', text: thinking, ...(signature !== undefined && { signature }) }
    }
    case 'redacted_thinking':
      return { type: 'redacted_thinking', data: required(block.data, `${path}.data`, text) }
    case 'tool_use':
      return {
        type: 'tool_call',
        id: required(block.id, `${path}.id`, text),
        name: required(block.name, `${path}.name`, text),
        arguments: JSON.stringify(required(block.input, `${path}.input`, fields)),
      }
    default:
      untranslated.push(path)
      return null
  }
}

function readImage(block: Fields, path: string): ImagePart {
  const at = `${path}.source`
  const source = required(block.source, at, fields)
  const type = required(source.type, `${at}.type`, among(['base64', 'url', 'file']))
  if (type !== 'base64') return { type: 'image', source: readReference(source, type, at) }
  const mediaType = required(source.media_type, `${at}.media_type`, among(IMAGE_TYPES))
  const read = { mediaType, data: required(source.data, `${at}.data`, text) }
  refuse(`${at}.data`, imageProblem(read))
  return { type: 'image', source: { kind: 'base64', ...read } }
}

function readReference(source: Fields, type: 'url' | 'file', at: string): Source {
  if (type === 'file') return { kind: 'file', id: required(source.file_id, `${at}.file_id`, text) }
  const url = required(source.url, `${at}.url`, text)
  return /^https?:\/\//i.test(url) ? { kind: 'url', url } : invalid(`${at}.url`, 'Input should be an http or https URL')
}

function readDocument(block: Fields, path: string, untranslated: string[]): DocumentPart | null {
  const at = `${path}.source`
  const source = required(block.source, at, fields)
  const title = optional(block.title, `${path}.title`, text)
  const more = title !== undefined && { title }
  if (!isAbsent(block.context)) untranslated.push(`${path}.context`)
  const citations = optional(block.citations, `${path}.citations`, fields)
  if (citations?.enabled === true) untranslated.push(`${path}.citations`)
  switch (required(source.type, `${at}.type`, text)) {
    case 'text':
      return { type: 'document', source: { kind: 'text', text: required(source.data, `${at}.data`, text) }, ...more }
    case 'base64': {
      const mediaType = required(source.media_type, `${at}.media_type`, among(['application/pdf']))
      const data = required(source.data, `${at}.data`, text)
      refuse(`${at}.data`, base64Problem(data))
      return { type: 'document', source: { kind: 'base64', mediaType, data }, ...more }
    }
    case 'url':
    case 'file':
      return { type: 'document', source: readReference(source, source.type as 'url' | 'file', at), ...more }
    default:
      untranslated.push(path)
      return null
  }
}

function readResult(block: Fields, path: string, untranslated: string[]): ToolResultPart {
  const id = required(block.tool_use_id, `${path}.tool_use_id`, text)
  const isError = optional(block.is_error, `${path}.is_error`, flag)
  const at = `${path}.content`
  const content = isAbsent(block.content)
    ? ''
    : typeof block.content === 'string'
      ? block.content
      : list(block.content, at).flatMap(
          (one, n) => readResultBlock(fields(one, `${at}.${n}`), `${at}.${n}`, untranslated) ?? [],
        )
  return { type: 'tool_result', id, content, ...(isError && { isError }) }
}

function readResultBlock(block: Fields, path: string, untranslated: string[]) {
  const part = readUserBlock(block, path, untranslated)
  return part?.type === 'text' || part?.type === 'image' || part?.type === 'document' ? part : null
}

function refuse(path: string, problem: string | null): void {
  if (problem !== null) invalid(path, problem)
}

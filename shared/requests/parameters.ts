import type { Original, Wire } from './request.ts'

/** The names of a client's parameters, for messages about what a request loses. */

/** Fields of the neutral request that have another name than their own in snake case. */
const NAMES: Partial<Record<string, Partial<Record<Wire, string>>>> = {
  effort: {
    'openai-chat': 'reasoning_effort',
    'openai-responses': 'reasoning.effort',
    'anthropic-messages': 'output_config.effort',
  },
  schema: {
    'openai-chat': 'response_format',
    'openai-responses': 'text.format',
    'anthropic-messages': 'output_config.format',
  },
  verbosity: { 'openai-responses': 'text.verbosity' },
  stop: { 'anthropic-messages': 'stop_sequences' },
  parallelToolCalls: { 'anthropic-messages': 'tool_choice.disable_parallel_tool_use' },
}

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** Types of parts that a loss of content concerns. */
const PARTS: Partial<Record<string, readonly string[]>> = {
  audio: ['input_audio'],
  image: ['image_url', 'input_image', 'image'],
  document: ['file', 'input_file', 'document'],
  thinking: ['thinking', 'redacted_thinking', 'reasoning'],
  tool_result: ['tool', 'function_call_output', 'tool_result'],
}

/**
 * The parameter that a field or a part of the neutral request came from.
 * @param name as in `WireFormat.losses`: `sampling.topK`, `audio`, `document.url`
 * @returns `name`: stable; `param`: with the place of the first part
 */
export function parameterOf(name: string, original: Original | undefined): { name: string; param: string } {
  const renamed = (original && NAMES[name]?.[original.wire]) ?? snakeCase(name.replace(/^sampling\./, ''))
  const types = PARTS[name.split('.')[0]!]
  // A request for reasoning has this name too.
  const place = types && original ? placeOf(original, part => types.includes(typeOf(part))) : null
  return { name: renamed, param: place ?? renamed }
}

/** `messages[2].content[0]` -> `messages.content` */
export const withoutIndexes = (param: string): string => param.replace(/\[\d+\]|\.\d+(?=\.|$)/g, '')

/** The place of an image with this URL. */
export function placeOfImage(original: Original, url: string): string {
  const isIt = (part: Fields) =>
    PARTS.image!.includes(typeOf(part)) && JSON.stringify(part).includes(JSON.stringify(url))
  return placeOf(original, isIt) ?? 'messages'
}

type Fields = Record<string, unknown>

const typeOf = ({ type, role }: Fields): string => String(type ?? role)

/** The path of the first matching part, in the notation of the wire format. */
function placeOf({ wire, body }: Original, matches: (part: Fields) => boolean): string | null {
  const root = wire === 'openai-responses' ? 'input' : 'messages'
  const join = (path: string, key: string | number) =>
    typeof key === 'number' && wire !== 'anthropic-messages' ? `${path}[${key}]` : `${path}.${key}`
  const find = (value: unknown, path: string): string | null => {
    if (Array.isArray(value)) {
      for (const [i, one] of value.entries()) {
        const found = find(one, join(path, i))
        if (found) return found
      }
      return null
    }
    if (typeof value !== 'object' || value === null) return null
    const { content, output } = value as Fields
    if (matches(value as Fields)) return path
    return find(content, `${path}.content`) ?? find(output, `${path}.output`)
  }
  return find(body[root], root)
}

/** `messages[0].content` -> `/input/messages/0/content`. @param root the pointer of the object that the parameter belongs to */
export const parameterPointer = (param: string | null, root: string): string =>
  param === null ? root : `${root}/${param.replace(/\[(\d+)\]/g, '.$1').replaceAll('.', '/')}`

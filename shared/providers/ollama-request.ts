import { partsOf } from '#shared/requests/parts.ts'
import type {
  AssistantPart,
  ChatRequest,
  ImagePart,
  Message,
  TextPart,
  ToolCallPart,
  UserPart,
} from '#shared/requests/request.ts'
import type { CallRequest } from './define.ts'
import { schemaInstruction } from './guard.ts'
import type { Window } from './ollama-context.ts'
import { providerSchemas } from './schemas/provider-schemas.ts'

/** Ollama's `POST /api/chat`: https://github.com/ollama/ollama/blob/main/docs/api.md */

type OllamaCall = { function: { name: string; arguments: Record<string, unknown> } }
type OllamaMessage = {
  role: string
  content: string
  thinking?: string
  /** Base64. */
  images?: string[]
  tool_calls?: OllamaCall[]
  tool_name?: string
}

/** @param request its images have been fetched */
export function toParams(request: CallRequest, window: Window) {
  const { model, tools, toolChoice } = request
  const sent = request.schema && providerSchemas(request.schema)
  const system = sent && !sent.grammar ? schemaInstruction(request.system, sent.portable) : request.system
  const think = thinkOf(request)
  return {
    model,
    messages: [...(system ? [{ role: 'system', content: system }] : []), ...renderMessages(request.messages)],
    ...(tools?.length && toolChoice !== 'none' && { tools: offered(request).map(renderTool) }),
    ...(think !== undefined && { think }),
    // Forbids the server to drop the beginning of the prompt, also while the model writes. Older servers ignore both
    // fields.
    truncate: false,
    shift: false,
    options: { num_ctx: window.size, num_predict: window.maxTokens, ...samplingOf(request) },
    ...(sent?.grammar ? { format: sent.grammar } : sent?.isObject ? { format: 'json' } : {}),
  }
}

function samplingOf({ sampling = {}, stop }: ChatRequest) {
  const options = {
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    seed: sampling.seed,
    stop: stop?.length ? stop : undefined,
  }
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

/** The only model with levels. Servers refuse them for others. */
const HAS_LEVELS = /(^|\/)gpt-oss/
const LEVELS = { minimal: 'low', low: 'low', medium: 'medium', high: 'high', xhigh: 'high', max: 'high' } as const

/** @returns undefined: the model's default */
function thinkOf({ model, effort, thinking }: CallRequest): boolean | 'low' | 'medium' | 'high' | undefined {
  if (effort === 'none' || thinking?.enabled === false) return false
  if (effort !== undefined) return HAS_LEVELS.test(model) ? LEVELS[effort] : true
  return thinking?.enabled
}

/** A choice of one tool cannot be forced, but others can be withheld. */
const offered = ({ tools = [], toolChoice }: ChatRequest) =>
  typeof toolChoice === 'object' ? tools.filter(one => one.name === toolChoice.name) : tools

const renderTool = ({ name, description, parameters }: NonNullable<ChatRequest['tools']>[number]) => ({
  type: 'function',
  function: {
    name,
    ...(description !== undefined && { description }),
    parameters: parameters ?? { type: 'object', properties: {} },
  },
})

function renderMessages(messages: readonly Message[]): OllamaMessage[] {
  /** Names of the called tools, by the id of the call. */
  const names = new Map<string, string>()
  return messages.flatMap(({ role, content }): OllamaMessage[] => {
    if (typeof content === 'string') return [{ role, content }]
    if (role !== 'assistant') return renderUser(content as UserPart[], names)
    const parts = content as AssistantPart[]
    for (const part of parts) if (part.type === 'tool_call') names.set(part.id, part.name)
    return [renderAssistant(parts)]
  })
}

function renderAssistant(parts: readonly AssistantPart[]): OllamaMessage {
  const textOf = (...types: AssistantPart['type'][]) =>
    parts.map(one => (types.includes(one.type) && 'text' in one ? one.text : '')).join('')
  const thinking = textOf('thinking')
  const calls = parts.filter(one => one.type === 'tool_call')
  return {
    role: 'assistant',
    content: textOf('text', 'refusal'),
    ...(thinking && { thinking }),
    ...(calls.length > 0 && { tool_calls: calls.map(renderCall) }),
  }
}

const renderCall = ({ name, arguments: written }: ToolCallPart): OllamaCall => ({
  function: { name, arguments: argumentsOf(written) },
})

/** The server takes only objects. Models may have written anything. */
function argumentsOf(written: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(written)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  } catch {
    // Below.
  }
  return { arguments: written }
}

/** Tool messages come first, directly after their calls, and contain only text. Images follow in a turn of the user. */
function renderUser(parts: readonly UserPart[], names: ReadonlyMap<string, string>): OllamaMessage[] {
  const results = parts.filter(one => one.type === 'tool_result')
  const others = [
    ...results.flatMap(({ id, content }) => {
      const images = typeof content === 'string' ? [] : content.filter(one => one.type === 'image')
      const title: TextPart = { type: 'text', text: `Files in the result of ${names.get(id) ?? 'the tool'}:` }
      return images.length > 0 ? [title, ...images] : []
    }),
    ...parts.filter(one => one.type !== 'tool_result'),
  ]
  const messages: OllamaMessage[] = results.map(({ id, content, isError }) => {
    const text = typeof content === 'string' ? content : content.flatMap(textOfPart).join('\n')
    const name = names.get(id)
    return { role: 'tool', content: isError ? `Error: ${text}` : text, ...(name !== undefined && { tool_name: name }) }
  })
  if (others.length === 0) return messages
  const images = others.filter(one => one.type === 'image').map(dataOf)
  const content = others.flatMap(textOfPart).join('\n')
  return [...messages, { role: 'user', content, ...(images.length > 0 && { images }) }]
}

function textOfPart(part: UserPart): string[] {
  if (part.type === 'text') return [part.text]
  if (part.type !== 'document' || part.source.kind !== 'text') return []
  return [part.title ? `${part.title}\n${part.source.text}` : part.source.text]
}

function dataOf({ source }: ImagePart): string {
  if (source.kind !== 'base64') throw new Error('an image was not fetched')
  return source.data
}

/** The parts of a request that the format cannot express, as in `WireFormat.losses`. */
export function ollamaLosses({ messages, toolChoice, tools, parallelToolCalls, verbosity }: ChatRequest): string[] {
  const all = partsOf({ messages })
  const isForced = tools !== undefined && (toolChoice === 'required' || typeof toolChoice === 'object')
  const lost = {
    toolChoice: isForced,
    parallelToolCalls: parallelToolCalls === false && tools !== undefined,
    verbosity: verbosity !== undefined,
    audio: all.some(one => one.type === 'audio'),
    document: all.some(one => one.type === 'document' && one.source.kind !== 'text'),
    'image.file': all.some(one => one.type === 'image' && one.source.kind === 'file'),
    thinking: all.some(one => one.type === 'redacted_thinking'),
  }
  return Object.entries(lost).flatMap(([name, isLost]) => (isLost ? [name] : []))
}

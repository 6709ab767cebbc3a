import type { Fields } from '../openai-fields.ts'
import { partsOf } from '../parts.ts'
import type {
  AssistantPart,
  ChatRequest,
  DocumentPart,
  Effort,
  ImagePart,
  Message,
  Sampling,
  TextPart,
  Tool,
  ToolCallPart,
  ToolResultPart,
  UserPart,
} from '../request.ts'
import type { OutgoingRequest } from '../wire.ts'

const MIN_THINKING_TOKENS = 1024

export function render(request: OutgoingRequest, { stream }: { stream: boolean }): Fields {
  const { model, maxTokens, original } = request
  const own = original?.wire === 'anthropic-messages'
  const { stream: _, ...body } = own ? original.body : renderBody(request)
  return { ...body, model, max_tokens: maxTokens, ...(stream && { stream }) }
}

function renderBody(request: OutgoingRequest): Fields {
  const { system, schema, tools, stop, user, effort } = request
  const config = defined({
    effort: effort && EFFORTS[effort],
    format: schema && { type: 'json_schema', schema },
  })
  return defined({
    system: system || undefined,
    messages: request.messages.flatMap(one => renderMessage(one, request)),
    tools: tools?.length ? tools.map(renderTool) : undefined,
    tool_choice: tools?.length ? renderChoice(request) : undefined,
    thinking: renderThinking(request),
    output_config: Object.keys(config).length > 0 ? config : undefined,
    stop_sequences: stop,
    metadata: user === undefined ? undefined : { user_id: user },
  })
}

const defined = (body: Fields): Fields =>
  Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))

/** `none` is rendered as disabled thinking. */
const EFFORTS: Record<Effort, string | undefined> = {
  none: undefined,
  minimal: 'low',
  low: 'low',
  medium: 'medium',
  high: 'high',
  xhigh: 'xhigh',
  max: 'max',
}

function renderThinking({ thinking, effort, maxTokens }: OutgoingRequest): Fields | undefined {
  if (effort === 'none') return { type: 'disabled' }
  if (!thinking) return undefined
  if (!thinking.enabled) return { type: 'disabled' }
  if (thinking.budgetTokens === undefined) return { type: 'adaptive' }
  // The answer needs at least a token of the limit.
  const budget = Math.min(thinking.budgetTokens, maxTokens - 1)
  return budget < MIN_THINKING_TOKENS ? undefined : { type: 'enabled', budget_tokens: budget }
}

const renderTool = ({ name, description, parameters, strict }: Tool): Fields =>
  defined({ name, description, input_schema: { type: 'object', properties: {}, ...parameters }, strict })

function renderChoice({ toolChoice = 'auto', parallelToolCalls }: ChatRequest): Fields | undefined {
  if (toolChoice === 'none') return { type: 'none' }
  const choice =
    typeof toolChoice === 'object'
      ? { type: 'tool', name: toolChoice.name }
      : { type: toolChoice === 'required' ? 'any' : 'auto' }
  if (parallelToolCalls === false) return { ...choice, disable_parallel_tool_use: true }
  return toolChoice === 'auto' ? undefined : choice
}

function renderMessage({ role, content }: Message, request: ChatRequest): Fields[] {
  // Anthropic refuses empty texts.
  if (typeof content === 'string') return content === '' ? [] : [{ role, content }]
  const blocks =
    role === 'assistant'
      ? (content as AssistantPart[]).flatMap(renderAssistantPart)
      : renderUserParts(content as UserPart[], request)
  return blocks.length > 0 ? [{ role, content: blocks }] : []
}

/** Tool results come first, directly after their calls. */
function renderUserParts(parts: UserPart[], request: ChatRequest): Fields[] {
  const kept = parts.filter(one => lossOf(one, request) === null)
  return [...kept.filter(one => one.type === 'tool_result'), ...kept.filter(one => one.type !== 'tool_result')].flatMap(
    one => renderUserPart(one, request),
  )
}

function renderUserPart(part: UserPart, request: ChatRequest): Fields[] {
  switch (part.type) {
    case 'text':
      return part.text === '' ? [] : [{ type: 'text', text: part.text }]
    case 'image':
      return [{ type: 'image', source: sourceOf(part) }]
    case 'document':
      return [defined({ type: 'document', source: documentSource(part), title: part.title })]
    case 'tool_result':
      return [renderResult(part, request)]
    case 'audio':
      throw new Error('a lost part was not dropped')
  }
}

function renderResult({ id, content, isError }: ToolResultPart, request: ChatRequest): Fields {
  const blocks =
    typeof content === 'string'
      ? content
      : content.filter(one => lossOf(one, request) === null).flatMap(one => renderUserPart(one, request))
  return defined({
    type: 'tool_result',
    tool_use_id: callId(id),
    content: blocks.length > 0 ? blocks : undefined,
    is_error: isError,
  })
}

/** Thinking without its signature would be refused: another provider wrote it. */
function renderAssistantPart(part: AssistantPart): Fields[] {
  switch (part.type) {
    case 'text':
    case 'refusal':
      return part.text === '' ? [] : [{ type: 'text', text: part.text }]
    case 'thinking':
      return part.signature === undefined ? [] : [{ type: 'thinking', thinking: part.text, signature: part.signature }]
    case 'redacted_thinking':
      return [{ type: 'redacted_thinking', data: part.data }]
    case 'tool_call':
      return [renderCall(part)]
  }
}

export const renderCall = ({ id, name, arguments: written }: ToolCallPart): Fields => ({
  type: 'tool_use',
  id: callId(id),
  name,
  input: inputOf(written),
})

/** Models write invalid arguments at times; Anthropic accepts only objects. */
export function inputOf(written: string): Fields {
  try {
    const input: unknown = JSON.parse(written)
    if (typeof input === 'object' && input !== null && !Array.isArray(input)) return input as Fields
  } catch {}
  return written.trim() === '' ? {} : { invalid_arguments: written }
}

/** Other providers write ids that Anthropic refuses. */
const callId = (id: string): string => id.replaceAll(/[^a-zA-Z0-9_-]/g, '_')

const sourceOf = ({ source }: ImagePart | DocumentPart): Fields => {
  switch (source.kind) {
    case 'url':
      return { type: 'url', url: source.url }
    case 'base64':
      return { type: 'base64', media_type: source.mediaType.replace('image/jpg', 'image/jpeg'), data: source.data }
    case 'text':
      return { type: 'text', media_type: 'text/plain', data: source.text }
    case 'file':
      return { type: 'file', file_id: source.id }
  }
}

const documentSource = sourceOf

/** Values that change nothing. */
const DEFAULTS: Sampling = { temperature: 1, topP: 1, presencePenalty: 0, frequencyPenalty: 0 }

/** See `WireFormat.losses`. */
export function losses(request: ChatRequest): string[] {
  const lost = new Set<string>()
  for (const [name, value] of Object.entries(request.sampling ?? {}))
    if (value !== DEFAULTS[name as keyof Sampling]) lost.add(`sampling.${name}`)
  if (request.verbosity && request.verbosity !== 'medium') lost.add('verbosity')
  for (const part of partsOf(request)) {
    const loss = lossOf(part, request)
    if (loss) lost.add(loss)
  }
  return [...lost]
}

/** Only the provider that has a file knows its id. */
function lossOf(part: UserPart | AssistantPart | TextPart, { original }: ChatRequest): string | null {
  if (part.type === 'audio') return 'audio'
  if (part.type !== 'image' && part.type !== 'document') return null
  if (part.source.kind === 'file' && original?.wire !== 'anthropic-messages') return `${part.type}.file`
  const isPdf = part.source.kind !== 'base64' || part.source.mediaType === 'application/pdf'
  return part.type === 'document' && !isPdf ? 'document.type' : null
}

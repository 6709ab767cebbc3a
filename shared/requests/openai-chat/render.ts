import type {
  AssistantPart,
  ChatRequest,
  DocumentPart,
  ImagePart,
  Message,
  Source,
  TextPart,
  ToolCallPart,
  ToolResultPart,
  UserPart,
} from '../request.ts'
import type { OutgoingRequest } from '../wire.ts'

type Body = Record<string, unknown>

/** Maximum characters of `safety_identifier`. */
const MAX_IDENTIFIER = 64

export function render(request: OutgoingRequest, { stream }: { stream: boolean }): Body {
  const { model, maxTokens, original } = request
  const own = original?.wire === 'openai-chat'
  const { max_tokens: _, stream: __, stream_options, ...body } = own ? original.body : renderBody(request)
  return {
    ...body,
    model,
    max_completion_tokens: maxTokens,
    // The usage is needed to charge the call.
    ...(stream && { stream, stream_options: { ...(stream_options as object), include_usage: true } }),
  }
}

function renderBody(request: ChatRequest): Body {
  const { system, schema, tools, toolChoice, parallelToolCalls, stop, sampling = {} } = request
  return defined({
    messages: [
      ...(system ? [{ role: 'system', content: system }] : []),
      ...request.messages.flatMap(one => renderMessage(one, knowsFile(request))),
    ],
    response_format: schema && { type: 'json_schema', json_schema: { name: 'answer', schema } },
    tools: tools?.length ? tools.map(one => ({ type: 'function', function: defined({ ...one }) })) : undefined,
    tool_choice: !tools?.length
      ? undefined
      : typeof toolChoice === 'object'
        ? { type: 'function', function: toolChoice }
        : toolChoice,
    parallel_tool_calls: tools?.length ? parallelToolCalls : undefined,
    stop,
    temperature: sampling.temperature,
    top_p: sampling.topP,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    seed: sampling.seed,
    reasoning_effort: effortOf(request),
    verbosity: request.verbosity,
    safety_identifier: (request.user?.length ?? 0) > MAX_IDENTIFIER ? undefined : request.user,
  })
}

const defined = (body: Body): Body =>
  Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))

/** A budget of reasoning tokens has no equivalent but an effort. */
function effortOf({ effort, thinking }: ChatRequest) {
  if (effort || !thinking?.enabled || thinking.budgetTokens === undefined) return effort
  return thinking.budgetTokens <= 4096 ? 'low' : thinking.budgetTokens <= 16_384 ? 'medium' : 'high'
}

function renderMessage({ role, content }: Message, isKnownFile: boolean): Body[] {
  if (typeof content === 'string') return [{ role, content }]
  return role === 'assistant'
    ? [renderAssistant(content as AssistantPart[])]
    : renderUser(content as UserPart[], isKnownFile)
}

function renderAssistant(parts: AssistantPart[]): Body {
  const textOf = (type: 'text' | 'refusal') =>
    parts.map(one => (one.type === type ? one.text : '')).join('') || (type === 'text' ? null : undefined)
  const calls = parts.filter(one => one.type === 'tool_call')
  return defined({
    role: 'assistant',
    content: textOf('text'),
    refusal: textOf('refusal'),
    tool_calls: calls.length > 0 ? calls.map(renderCall) : undefined,
  })
}

export const renderCall = ({ id, name, arguments: written }: ToolCallPart) => ({
  id,
  type: 'function',
  function: { name, arguments: written },
})

/** Tool messages come first, directly after their calls. They contain only text, so that other parts follow as a user's turn. */
function renderUser(parts: UserPart[], isKnownFile: boolean): Body[] {
  const results = parts.filter(one => one.type === 'tool_result')
  const others = [...results.flatMap(attachments), ...parts.filter(one => one.type !== 'tool_result')].filter(
    one => lossOf(one, isKnownFile) === null,
  )
  return [
    ...results.map(renderResult),
    ...(others.length > 0 ? [{ role: 'user', content: others.map(renderPart) }] : []),
  ]
}

function renderResult({ id, content, isError }: ToolResultPart): Body {
  const texts = typeof content === 'string' ? [content] : content.flatMap(one => (one.type === 'text' ? one.text : []))
  const text = texts.join('\n')
  return { role: 'tool', tool_call_id: id, content: isError ? `Error: ${text}` : text }
}

/** The images and documents of a tool result, after a text that names its call. */
function attachments({ id, content }: ToolResultPart): (TextPart | ImagePart | DocumentPart)[] {
  const files = typeof content === 'string' ? [] : content.filter(one => one.type !== 'text')
  return files.length > 0 ? [{ type: 'text', text: `Files in the result of tool call ${id}:` }, ...files] : []
}

function renderPart(part: UserPart): Body {
  switch (part.type) {
    case 'text':
      return { type: 'text', text: part.text }
    case 'image':
      return { type: 'image_url', image_url: defined({ url: urlOf(part.source), detail: part.detail }) }
    case 'audio':
      return { type: 'input_audio', input_audio: { data: part.data, format: part.format } }
    case 'document':
      return renderDocument(part)
    case 'tool_result':
      throw new Error('a tool result is a message of its own')
  }
}

function urlOf(source: Source): string {
  if (source.kind === 'file') throw new Error('a lost part was not dropped')
  return source.kind === 'url' ? source.url : `data:${source.mediaType};base64,${source.data}`
}

function renderDocument({ source, title }: DocumentPart): Body {
  if (source.kind === 'text') return { type: 'text', text: title ? `${title}\n${source.text}` : source.text }
  if (source.kind === 'file') return { type: 'file', file: { file_id: source.id } }
  return { type: 'file', file: { filename: title ?? 'document.pdf', file_data: urlOf(source) } }
}

/** See `WireFormat.losses`. */
export function losses(request: ChatRequest): string[] {
  const lost = new Set<string>()
  if (request.sampling?.topK !== undefined) lost.add('sampling.topK')
  const isKnown = knowsFile(request)
  for (const { content } of request.messages) {
    if (typeof content === 'string') continue
    for (const part of content) {
      const inner = part.type === 'tool_result' && typeof part.content !== 'string' ? part.content : [part]
      for (const one of inner) {
        const loss = lossOf(one, isKnown)
        if (loss) lost.add(loss)
      }
    }
  }
  return [...lost]
}

/** OpenAI's formats share their files. Only the provider that has a file knows its id. */
const knowsFile = ({ original }: ChatRequest): boolean => original?.wire !== 'anthropic-messages'

function lossOf(part: UserPart | AssistantPart, isKnownFile: boolean): string | null {
  if (part.type === 'document' && part.source.kind === 'url') return 'document.url'
  if (part.type === 'document' && part.source.kind === 'file' && !isKnownFile) return 'document.file'
  return part.type === 'image' && part.source.kind === 'file' ? 'image.file' : null
}

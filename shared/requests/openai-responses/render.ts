import type { Fields } from '../openai-fields.ts'
import type {
  AssistantPart,
  ChatRequest,
  DocumentPart,
  ImagePart,
  Message,
  Source,
  TextPart,
  ToolChoice,
  UserPart,
} from '../request.ts'
import type { OutgoingRequest } from '../wire.ts'
import { contentPart } from './answer.ts'
import { readEncrypted } from './reasoning.ts'

/** OpenAI refuses a smaller limit. */
const MIN_OUTPUT_TOKENS = 16

/** Renders a request for a provider with this wire format. */
export function render(request: OutgoingRequest, { stream }: { stream: boolean }): Fields {
  const common = { model: request.model, max_output_tokens: Math.max(MIN_OUTPUT_TOKENS, request.maxTokens), stream }
  return request.original?.wire === 'openai-responses'
    ? { ...forwarded(request.original.body), ...common }
    : { ...translated(request), ...common }
}

/** The client's request without the fields that this server honours itself, and without reasoning of other providers. */
function forwarded({ input, ...body }: Fields): Fields {
  const { background, background_options, conversation, previous_response_id, ...sent } = body
  return { ...sent, input: Array.isArray(input) ? input.filter(item => !isForeign(item as Fields)) : input }
}

const isForeign = ({ type, encrypted_content }: Fields): boolean =>
  type === 'reasoning' && typeof encrypted_content === 'string' && readEncrypted(encrypted_content) !== null

function translated(request: ChatRequest): Fields {
  const { system, sampling = {}, schema, tools, toolChoice, effort, verbosity } = request
  const text = {
    ...(schema && { format: { type: 'json_schema', name: 'answer', schema, strict: false } }),
    ...(verbosity && { verbosity }),
  }
  return {
    ...(system !== undefined && { instructions: system }),
    input: request.messages.flatMap(inputItems),
    ...(Object.keys(text).length > 0 && { text }),
    ...(tools && {
      tools: tools.map(({ name, description, parameters, strict }) => ({
        type: 'function',
        name,
        ...(description !== undefined && { description }),
        parameters: parameters ?? null,
        strict: strict ?? false,
      })),
    }),
    ...(toolChoice !== undefined && { tool_choice: choiceJson(toolChoice) }),
    ...(request.parallelToolCalls !== undefined && { parallel_tool_calls: request.parallelToolCalls }),
    ...(sampling.temperature !== undefined && { temperature: sampling.temperature }),
    ...(sampling.topP !== undefined && { top_p: sampling.topP }),
    ...(effort && { reasoning: { effort } }),
    ...(request.user !== undefined && { safety_identifier: request.user }),
    store: false,
  }
}

const choiceJson = (choice: ToolChoice) =>
  typeof choice === 'string' ? choice : { type: 'function', name: choice.name }

/** Results of tools are items of their own, before the rest of their message. */
function inputItems({ role, content }: Message): Fields[] {
  if (typeof content === 'string') return [{ role: role === 'system' ? 'developer' : role, content }]
  return role === 'assistant' ? content.flatMap(assistantItem) : userItems(content as UserPart[])
}

function assistantItem(part: AssistantPart): Fields[] {
  switch (part.type) {
    case 'tool_call':
      return [{ type: 'function_call', call_id: part.id, name: part.name, arguments: part.arguments }]
    case 'text':
      return [{ role: 'assistant', content: part.text }]
    case 'refusal':
      return [{ role: 'assistant', content: [contentPart('refusal', part.text)] }]
    default:
      return []
  }
}

function userItems(parts: UserPart[]): Fields[] {
  const results = parts.flatMap(part =>
    part.type === 'tool_result'
      ? [
          {
            type: 'function_call_output',
            call_id: part.id,
            output: typeof part.content === 'string' ? part.content : part.content.map(userPart),
          },
        ]
      : [],
  )
  const rest = parts.flatMap(part => (part.type === 'tool_result' || part.type === 'audio' ? [] : [userPart(part)]))
  return rest.length > 0 ? [...results, { role: 'user', content: rest }] : results
}

function userPart(part: TextPart | ImagePart | DocumentPart): Fields {
  switch (part.type) {
    case 'text':
      return { type: 'input_text', text: part.text }
    case 'image':
      return { type: 'input_image', ...imageSource(part.source), detail: part.detail ?? 'auto' }
    case 'document':
      return part.source.kind === 'text'
        ? { type: 'input_text', text: part.source.text }
        : { type: 'input_file', ...fileSource(part.source), ...(part.title !== undefined && { filename: part.title }) }
  }
}

const dataUrl = ({ mediaType, data }: Source & { kind: 'base64' }) => `data:${mediaType};base64,${data}`

const imageSource = (source: Source): Fields =>
  source.kind === 'file' ? { file_id: source.id } : { image_url: source.kind === 'url' ? source.url : dataUrl(source) }

function fileSource(source: Source): Fields {
  if (source.kind === 'file') return { file_id: source.id }
  return source.kind === 'url' ? { file_url: source.url } : { file_data: dataUrl(source) }
}

/** The parts of a request that this wire format cannot express. */
export function losses(request: ChatRequest): string[] {
  const { stop, sampling = {}, thinking, messages } = request
  const all = messages.flatMap(({ content }) =>
    typeof content === 'string' ? [] : (content as (UserPart | AssistantPart)[]),
  )
  const lost = {
    stop: stop !== undefined && stop.length > 0,
    'sampling.topK': sampling.topK !== undefined,
    'sampling.presencePenalty': (sampling.presencePenalty ?? 0) !== 0,
    'sampling.frequencyPenalty': (sampling.frequencyPenalty ?? 0) !== 0,
    'sampling.seed': sampling.seed !== undefined,
    'thinking.budgetTokens': thinking?.budgetTokens !== undefined,
    audio: all.some(part => part.type === 'audio'),
    thinking: all.some(part => part.type === 'thinking' || part.type === 'redacted_thinking'),
    'tool_result.isError': all.some(part => part.type === 'tool_result' && part.isError === true),
  }
  return Object.entries(lost).flatMap(([name, isLost]) => (isLost ? [name] : []))
}

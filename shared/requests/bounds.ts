import { contextWindow } from '#shared/models/models.ts'
import { type TokenSource, upperBoundTokens } from '#shared/models/tokens.ts'
import { type BoundTarget, imageTokenBound } from './image-tokens.ts'
import type { AnyPart } from './parts.ts'
import { pdfTokenBound } from './pdf-tokens.ts'
import type { ChatRequest, DocumentPart, Message, Tool } from './request.ts'

/** Marks around one part of a message, such as the name of its tool. */
const PER_PART = 32
/** The provider's own instructions for tools: 264 to 804 tokens. */
const PER_TOOLS = 1024
const PER_TOOL = 32
/** Definitions are written with nested quotes, or as types. */
const TOOL_GROWTH = 2
/** Gemini counts 32 tokens per second, and no recording has fewer bytes per second than 8 kbit/s. */
const AUDIO_BYTES_PER_TOKEN = 25
/** The largest context window of any model. */
const UNKNOWN_WINDOW = 2_000_000

/**
 * An upper bound of the input tokens of a request. Content that only the provider can count, such as a file by its id, counts as the
 * model's whole context window, which no request can exceed.
 * @param target where the request goes; absent: anywhere
 */
export function inputTokenBound(request: ChatRequest, target?: BoundTarget): number {
  const { system, messages, schema, tools, original, untranslated } = request
  let beyondText = 0
  let isOpaque = untranslated?.some(isOpaqueField) ?? false
  const texts: TokenSource['messages'][number][] = []
  const addPart = (part: AnyPart): void => {
    const { text, tokens, opaque, inner } = countPart(part, target)
    texts.push({ content: text })
    beyondText += PER_PART + tokens
    isOpaque ||= opaque
    inner?.forEach(addPart)
  }
  for (const { content } of messages as Message[]) {
    if (typeof content === 'string') texts.push({ content })
    else {
      texts.push({ content: '' })
      content.forEach(addPart)
    }
  }
  if (tools?.length) beyondText += toolTokens(tools)
  // The provider receives the client's body. What the neutral request lacks is somewhere in it.
  if (original && untranslated?.length) beyondText += TOOL_GROWTH * textBytes(original.body)
  const bound = upperBoundTokens({ system, messages: texts, schema }) + beyondText
  if (!isOpaque) return bound
  return Math.max(bound, (target && contextWindow(target.provider, target.model)) ?? UNKNOWN_WINDOW)
}

type Counted = { text: string; tokens: number; opaque: boolean; inner?: AnyPart[] }

function countPart(part: AnyPart, target: BoundTarget | undefined): Counted {
  const counted = { text: '', tokens: 0, opaque: false }
  switch (part.type) {
    case 'text':
    case 'refusal':
      return { ...counted, text: part.text }
    case 'image':
      return { ...counted, tokens: imageTokenBound(part, target) }
    case 'document':
      return countDocument(part, counted)
    case 'audio':
      return { ...counted, tokens: Math.ceil(part.data.length / AUDIO_BYTES_PER_TOKEN) }
    case 'tool_call':
      return { ...counted, text: part.id + part.name, tokens: TOOL_GROWTH * Buffer.byteLength(part.arguments) }
    case 'tool_result':
      return typeof part.content === 'string'
        ? { ...counted, text: part.id + part.content }
        : { ...counted, text: part.id, inner: part.content }
    // The provider reads the reasoning from the signature; the text is a summary.
    case 'thinking':
      return { ...counted, text: part.text + (part.signature ?? '') }
    case 'redacted_thinking':
      return { ...counted, text: part.data }
  }
}

/** Reading a PDF takes milliseconds, and one request is counted several times. */
const counted = new WeakMap<DocumentPart, number | null>()

function countDocument(part: DocumentPart, none: Counted): Counted {
  const { source, title = '' } = part
  if (source.kind === 'text') return { ...none, text: title + source.text }
  if (source.kind !== 'base64') return { ...none, opaque: true }
  // A text has no more bytes than its base64.
  if (source.mediaType.startsWith('text/')) return { ...none, text: title, tokens: source.data.length }
  let tokens = counted.get(part)
  if (tokens === undefined) {
    tokens = pdfTokenBound(source.data)
    counted.set(part, tokens)
  }
  return tokens === null ? { ...none, opaque: true } : { ...none, text: title, tokens }
}

const toolTokens = (tools: readonly Tool[]): number =>
  PER_TOOLS + tools.reduce((sum, tool) => sum + PER_TOOL + TOOL_GROWTH * Buffer.byteLength(JSON.stringify(tool)), 0)

/** Fields of a forwarded request whose tokens are those of their own text. All others may add content that only the provider has. */
const PLAIN = [
  /^(n|logprobs|top_logprobs|logit_bias|modalities|audio|top_k|moderation)$/,
  /^messages\[\d+\]\.(name|audio)$/,
  /^text\.\w+$/,
  /^reasoning\.\w+$/,
]
const isOpaqueField = (name: string): boolean => !PLAIN.some(one => one.test(name))

/** Without media, which have been counted. */
const MAX_TEXT = 65_536
const isMedia = (value: string): boolean =>
  value.length > MAX_TEXT && /^(data:[\w.+-]+\/|[A-Za-z0-9+/]{4096})/.test(value)
const textBytes = (body: Record<string, unknown>): number =>
  Buffer.byteLength(JSON.stringify(body, (_, value) => (typeof value === 'string' && isMedia(value) ? '' : value)))

/** Answers that one call writes: `n` of OpenAI's chat format. */
export function answersOf({ original }: ChatRequest): number {
  const n = original?.wire === 'openai-chat' ? Number(original.body.n ?? 1) : 1
  return Number.isInteger(n) && n > 1 ? n : 1
}

/**
 * An upper bound of the output tokens of a call. Reasoning is within the limit of an answer. Of a prediction, rejected tokens are billed
 * too.
 * @param maxTokens the limit of one answer
 */
export function outputTokenBound(request: ChatRequest, maxTokens: number): number {
  const { original } = request
  const prediction = original?.wire === 'openai-chat' ? original.body.prediction : null
  const predicted = prediction ? Buffer.byteLength(JSON.stringify(prediction)) : 0
  return answersOf(request) * (maxTokens + predicted)
}

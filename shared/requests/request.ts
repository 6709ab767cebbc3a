/** A request to a chat model, independent of the wire format of the client and the provider. */
export type ChatRequest = {
  /** Instructions before the conversation. */
  system?: string
  messages: Message[]
  /** JSON Schema of the requested answer. */
  schema?: Record<string, unknown>
  tools?: Tool[]
  /** Absent: `auto`. */
  toolChoice?: ToolChoice
  /** false: at most one tool call per answer. */
  parallelToolCalls?: boolean
  /** Texts that end the answer; the answer does not contain them. */
  stop?: string[]
  sampling?: Sampling
  /** How much the model reasons before it answers. */
  effort?: Effort
  /** Whether and how the model's reasoning is part of the answer. */
  thinking?: Thinking
  verbosity?: 'low' | 'medium' | 'high'
  /** The client's id of its end user. */
  user?: string
  /** The client's request, which a provider with the same wire format receives as it is. */
  original?: Original
  /** Fields of `original` that change the answer and that this request does not carry. Only a provider with its format honours them. */
  untranslated?: string[]
}

/** The formats that clients and providers speak. */
export const WIRES = ['openai-chat', 'openai-responses', 'anthropic-messages'] as const
export type Wire = (typeof WIRES)[number]

/** A body in its own format. */
export type Original = { wire: Wire; body: Record<string, unknown> }

/** `system` within a conversation: instructions from there on. */
export type Message =
  | { role: 'system'; content: string }
  | { role: 'user'; content: string | UserPart[] }
  | { role: 'assistant'; content: string | AssistantPart[] }

export type UserPart = TextPart | ImagePart | DocumentPart | AudioPart | ToolResultPart
export type AssistantPart = TextPart | RefusalPart | ThinkingPart | RedactedThinkingPart | ToolCallPart

export type TextPart = { type: 'text'; text: string }
export type RefusalPart = { type: 'refusal'; text: string }
export type ImagePart = { type: 'image'; source: Source; detail?: 'auto' | 'low' | 'high' | 'original' }
/** A PDF, or plain text with a title. */
export type DocumentPart = { type: 'document'; source: Source | { kind: 'text'; text: string }; title?: string }
export type AudioPart = { type: 'audio'; data: string; format: 'wav' | 'mp3' }

/** `data`: base64. `file`: an id of the provider's own file storage. */
export type Source =
  | { kind: 'url'; url: string }
  | { kind: 'base64'; mediaType: string; data: string }
  | { kind: 'file'; id: string }

/** `arguments`: JSON as the model wrote it, possibly invalid; `{}` if it wrote none. */
export type ToolCallPart = { type: 'tool_call'; id: string; name: string; arguments: string }
/** The answer to a tool call. Comes directly after the message with the call. */
export type ToolResultPart = {
  type: 'tool_result'
  /** The id of the call. */
  id: string
  content: string | (TextPart | ImagePart | DocumentPart)[]
  isError?: boolean
}

/** Reasoning of the model. Providers accept it back only with its signature. */
export type ThinkingPart = { type: 'thinking'; text: string; signature?: string }
/** Reasoning that the provider has encrypted. */
export type RedactedThinkingPart = { type: 'redacted_thinking'; data: string }

export type Tool = {
  name: string
  description?: string
  /** JSON Schema of the arguments; absent: the tool takes none. */
  parameters?: Record<string, unknown>
  /** The arguments must match the schema. */
  strict?: boolean
}

export type ToolChoice = 'auto' | 'none' | 'required' | { name: string }

export type Sampling = {
  /** 0 to 2. */
  temperature?: number
  topP?: number
  topK?: number
  presencePenalty?: number
  frequencyPenalty?: number
  seed?: number
}

export const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const
export type Effort = (typeof EFFORTS)[number]

/** `budgetTokens`: upper bound of the reasoning, part of the output limit; absent: the model decides. */
export type Thinking = { enabled: boolean; budgetTokens?: number }

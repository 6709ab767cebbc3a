import { Type } from 'typebox'
import { parameterPointer } from '#shared/requests/parameters.ts'
import { type ChatRequest, EFFORTS } from '#shared/requests/request.ts'
import { isFault } from '#shared/requests/wire.ts'
import { wireFormat } from '#shared/requests/wires.ts'
import type { InputFault } from './define.ts'

/** Maximum bytes of UTF-8 in one text, and therefore maximum characters. */
export const MAX_TEXT = 1_000_000

const part = Type.Object(
  {
    type: Type.Enum(['text', 'image_url', 'file', 'input_audio']),
    text: Type.Optional(Type.String({ maxLength: MAX_TEXT })),
    image_url: Type.Optional(
      Type.Object(
        { url: Type.String({ minLength: 1 }), detail: Type.Optional(Type.Enum(['auto', 'low', 'high', 'original'])) },
        {
          additionalProperties: false,
          description: 'A PNG, JPEG, GIF or WebP image, by its https URL or as a data URL with base64 content.',
        },
      ),
    ),
    file: Type.Optional(
      Type.Object(
        { file_data: Type.String({ minLength: 1 }), filename: Type.Optional(Type.String({ maxLength: 500 })) },
        { additionalProperties: false, description: 'A document, such as a PDF, as a data URL with base64 content.' },
      ),
    ),
    input_audio: Type.Optional(
      Type.Object(
        { data: Type.String({ minLength: 1 }), format: Type.Enum(['wav', 'mp3']) },
        { additionalProperties: false, description: 'A recording in base64.' },
      ),
    ),
  },
  { additionalProperties: false },
)

const toolCall = Type.Object(
  {
    id: Type.String({ minLength: 1, maxLength: 500 }),
    type: Type.Optional(Type.Literal('function')),
    function: Type.Object(
      { name: Type.String(), arguments: Type.String({ maxLength: MAX_TEXT, description: 'JSON.' }) },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)

const message = Type.Object(
  {
    role: Type.Enum(['user', 'assistant', 'tool']),
    content: Type.Unsafe<string | unknown[] | null>({
      type: ['string', 'array', 'null'],
      minLength: 1,
      maxLength: MAX_TEXT,
      minItems: 1,
      items: part,
      description: 'A text, or a list of parts. null only beside `tool_calls`.',
    }),
    tool_calls: Type.Optional(
      Type.Array(toolCall, {
        minItems: 1,
        maxItems: 128,
        description: 'Of an assistant message: the calls of the result.',
      }),
    ),
    tool_call_id: Type.Optional(
      Type.String({ minLength: 1, maxLength: 500, description: 'Of a tool message: the call that it answers.' }),
    ),
  },
  { additionalProperties: false },
)

const tool = Type.Object(
  {
    type: Type.Literal('function'),
    function: Type.Object(
      {
        name: Type.String(),
        description: Type.Optional(Type.String({ maxLength: MAX_TEXT })),
        parameters: Type.Optional(
          Type.Record(Type.String(), Type.Unknown(), {
            description: 'JSON Schema of the arguments, with type `object`.',
          }),
        ),
        strict: Type.Optional(Type.Boolean()),
      },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)

/** A conversation in the notation of OpenAI's chat completions. */
export const messages = Type.Optional(
  Type.Array(message, {
    minItems: 1,
    maxItems: 1000,
    description: 'A conversation whose last message is from the user, or contains the result of a tool.',
  }),
)

/** Fields that shape the answer, in the same notation. */
export const answerFields = {
  tools: Type.Optional(
    Type.Array(tool, {
      minItems: 1,
      maxItems: 128,
      description:
        'Functions that the model may call. The result then has `text`, `tool_calls` and `finish_reason`; with `schema`, an answer without calls is the value.',
    }),
  ),
  tool_choice: Type.Optional(
    Type.Unsafe<unknown>({
      type: ['string', 'object'],
      description: '`auto` (default), `none`, `required`, or `{"type":"function","function":{"name":"…"}}`.',
    }),
  ),
  stop: Type.Optional(
    Type.Unsafe<string | string[]>({
      type: ['string', 'array'],
      minLength: 1,
      minItems: 1,
      maxItems: 4,
      items: { type: 'string', minLength: 1 },
      description: 'Up to four texts that end the answer; it does not contain them.',
    }),
  ),
  reasoning_effort: Type.Optional(
    Type.Enum([...EFFORTS], {
      description: 'How much the model reasons. Models without such a setting ignore it.',
    }),
  ),
}

export type ConversationInput = {
  prompt?: string
  messages?: { role: string; content?: unknown; tool_calls?: unknown; tool_call_id?: unknown }[]
  tools?: unknown
  tool_choice?: unknown
  stop?: unknown
  reasoning_effort?: unknown
}

const isPlain = ({ messages, tools, tool_choice, stop, reasoning_effort }: ConversationInput): boolean =>
  [tools, tool_choice, stop, reasoning_effort].every(one => one === undefined) &&
  (messages ?? []).every(one => typeof one.content === 'string' && one.role !== 'tool' && one.tool_calls === undefined)

/** The fields of a request that these fields describe; or the first fault. */
export function readConversation(input: ConversationInput): Omit<ChatRequest, 'original'> | { fault: InputFault } {
  const messages = input.messages ?? [{ role: 'user' as const, content: input.prompt! }]
  if (isPlain(input)) return { messages: messages as ChatRequest['messages'] }
  const { tools, tool_choice, stop, reasoning_effort } = input
  const parsed = wireFormat('openai-chat').parse({ messages, tools, tool_choice, stop, reasoning_effort })
  if (isFault(parsed)) {
    const message = `is not usable: ${parsed.message.replace(/\.$/, '')}`
    return { fault: { field: parameterPointer(parsed.param, '/input'), message } }
  }
  const [unknown] = parsed.untranslated
  if (unknown !== undefined)
    return { fault: { field: parameterPointer(unknown, '/input'), message: 'is not supported here' } }
  // Not in a client's format: providers receive a translation, also those that speak OpenAI's.
  const { original: _, ...request } = parsed.request
  return request
}

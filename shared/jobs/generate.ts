import { Type } from 'typebox'
import { compileSchema } from '#shared/json/schema.ts'
import { textOfParts } from '#shared/requests/answer.ts'
import { renderCall } from '#shared/requests/openai-chat/render.ts'
import { isStoredRequest, requestOf, toStored } from '#shared/requests/stored.ts'
import { cleanDeep } from '#shared/text.ts'
import { defineJob } from './define.ts'
import { answerFields, MAX_TEXT, messages, readConversation } from './generate-input.ts'
import { readMatching } from './json-answer.ts'

const MAX_SCHEMA_BYTES = 65_536

const input = Type.Object(
  {
    prompt: Type.Optional(
      Type.String({ minLength: 1, maxLength: MAX_TEXT, description: 'The prompt. Either this or `messages`.' }),
    ),
    messages,
    system: Type.Optional(
      Type.String({ minLength: 1, maxLength: MAX_TEXT, description: 'Instructions to the model.' }),
    ),
    schema: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description:
          'JSON Schema for the result, in any draft since 4 or OpenAPI 3. The result is then a value that matches it.',
      }),
    ),
    ...answerFields,
  },
  { additionalProperties: false },
)

/** @returns the validator of an answer, or the reason why the schema is refused */
function compileOrExplain(schema: Record<string, unknown>): ReturnType<typeof compileSchema> | string {
  try {
    return compileSchema(schema)
  } catch (error) {
    return `is not a usable JSON Schema: ${(error as Error).message}`
  }
}

export const generate = defineJob({
  kind: 'generate',
  title: 'Generate text or a JSON object',
  description:
    'Answers a prompt or a conversation with text, with calls of tools or, with `schema`, with a checked JSON value.',
  queue: 'default',
  input,
  result: Type.Union([Type.Object({ text: Type.String() }), Type.Unknown()], {
    description: '`{text}`; with `tools`, `{text, tool_calls, finish_reason}`; with `schema`, the value itself.',
  }),
  example: { input: { prompt: 'Three titles for a post on Redis' } },
  exampleResult: { text: 'Redis, simply. Fast by heart. What memory is for.' },
  promptVersion: '1',
  maxTokens: 2048,
  openEnded: true,
  cache: { ttlSeconds: 3600, staleSeconds: 86_400 },
  fallback: 'cache',
  // The client decides about the text, which may be code with a test card number.
  outputFilter: false,

  validate(input) {
    const { prompt, messages, system, schema } = input
    const texts = {
      prompt,
      system,
      ...Object.fromEntries((messages ?? []).map((one, i) => [`messages/${i}/content`, one.content])),
    }
    for (const [field, text] of Object.entries(texts)) {
      if (typeof text !== 'string' || Buffer.byteLength(text) <= MAX_TEXT) continue
      return { field: `/input/${field}`, message: `must be at most ${MAX_TEXT} bytes of UTF-8`, tooLarge: true }
    }
    if ((prompt === undefined) === (messages === undefined)) {
      return { field: '/input/prompt', message: 'or `messages` must be given, but not both' }
    }
    if (messages && messages.at(-1)?.role === 'assistant') {
      return {
        field: `/input/messages/${messages.length - 1}/role`,
        message: 'must be "user" or "tool", because the last message must be one that the model answers',
      }
    }
    const read = readConversation(input)
    if ('fault' in read) return read.fault
    if (schema === undefined) return null
    if (JSON.stringify(schema).length > MAX_SCHEMA_BYTES) {
      return { field: '/input/schema', message: `must be at most ${MAX_SCHEMA_BYTES} bytes of JSON` }
    }
    const validate = compileOrExplain(schema)
    return typeof validate === 'string' ? { field: '/input/schema', message: validate } : null
  },

  prompts: {
    1: input => {
      // From a compatible surface or a batch line. Clients of the native API cannot send it.
      if (isStoredRequest(input)) return requestOf(input)
      const { system, schema } = input
      const read = readConversation(input)
      // It was valid when it was accepted.
      if ('fault' in read) throw new Error(`${read.fault.field} ${read.fault.message}`)
      return {
        ...read,
        ...(system !== undefined && { system }),
        ...(schema !== undefined && { schema }),
      }
    },
  },

  check(text, { schema }) {
    if (schema === undefined)
      return text.trim() === '' ? { ok: false, reason: 'the answer is empty' } : { ok: true, result: { text } }
    const validate = compileOrExplain(schema)
    // An older version accepted this schema.
    if (typeof validate === 'string') return { ok: false, reason: validate, fatal: 'invalid_output' }
    const answer = readMatching<unknown>(text, validate)
    return answer.ok ? { ok: true, result: answer.value } : answer
  },

  wholeAnswer(answer, input) {
    if (isStoredRequest(input)) return toStored(answer)
    if (input.tools === undefined) return null
    const tool_calls = answer.parts.filter(one => one.type === 'tool_call').map(renderCall)
    // Without a call, the answer is the value that the schema describes.
    if (tool_calls.length === 0 && input.schema !== undefined) return null
    return cleanDeep({ text: textOfParts(answer.parts), tool_calls, finish_reason: answer.finishReason })
  },

  refused: (text, { schema }) => (schema === undefined ? { text } : null),

  // Rules cannot generate text.
  rules: () => null,

  text: result => {
    const { text } = (result ?? {}) as { text?: unknown }
    return typeof text === 'string' ? text : JSON.stringify(result)
  },
})

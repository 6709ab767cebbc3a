import { Type } from 'typebox'
import { compileSchema } from '#shared/json/schema.ts'
import { isStoredRequest, requestOf, toStored } from '#shared/requests/stored.ts'
import { defineJob } from './define.ts'
import { readMatching } from './json-answer.ts'

/** Maximum bytes of UTF-8 in one text, and therefore maximum characters. */
const MAX_TEXT = 1_000_000
const MAX_SCHEMA_BYTES = 65_536

const input = Type.Object(
  {
    prompt: Type.Optional(
      Type.String({ minLength: 1, maxLength: MAX_TEXT, description: 'The prompt. Either this or `messages`.' }),
    ),
    messages: Type.Optional(
      Type.Array(
        Type.Object(
          {
            role: Type.Enum(['user', 'assistant']),
            content: Type.String({ minLength: 1, maxLength: MAX_TEXT }),
          },
          { additionalProperties: false },
        ),
        { minItems: 1, maxItems: 1000, description: 'A conversation whose last message is from the user.' },
      ),
    ),
    system: Type.Optional(
      Type.String({ minLength: 1, maxLength: MAX_TEXT, description: 'Instructions to the model.' }),
    ),
    schema: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description:
          'JSON Schema for the result, in any draft since 4 or OpenAPI 3. The result is then a value that matches it.',
      }),
    ),
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
  description: 'Answers a prompt or a conversation with text or, with `schema`, with a checked JSON value.',
  queue: 'default',
  input,
  result: Type.Union([Type.Object({ text: Type.String() }), Type.Unknown()], {
    description: '`{text}`; with `schema`, the value itself.',
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

  validate({ prompt, messages, system, schema }) {
    const texts = {
      prompt,
      system,
      ...Object.fromEntries((messages ?? []).map((one, i) => [`messages/${i}/content`, one.content])),
    }
    for (const [field, text] of Object.entries(texts)) {
      if (text === undefined || Buffer.byteLength(text) <= MAX_TEXT) continue
      return { field: `/input/${field}`, message: `must be at most ${MAX_TEXT} bytes of UTF-8`, tooLarge: true }
    }
    if ((prompt === undefined) === (messages === undefined)) {
      return { field: '/input/prompt', message: 'or `messages` must be given, but not both' }
    }
    if (messages && messages.at(-1)?.role !== 'user') {
      return {
        field: `/input/messages/${messages.length - 1}/role`,
        message: 'must be "user", because the last message must be from the user',
      }
    }
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
      const { prompt, messages, system, schema } = input
      return {
        messages: messages ?? [{ role: 'user', content: prompt! }],
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

  wholeAnswer: (answer, input) => (isStoredRequest(input) ? toStored(answer) : null),

  refused: (text, { schema }) => (schema === undefined ? { text } : null),

  // Rules cannot generate text.
  rules: () => null,

  text: result => {
    const { text } = (result ?? {}) as { text?: unknown }
    return typeof text === 'string' ? text : JSON.stringify(result)
  },
})

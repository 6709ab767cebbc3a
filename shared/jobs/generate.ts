import { Type } from 'typebox'
import { compileSchema, violation } from '#shared/json-schema.ts'
import { cleanDeep, isTooDeep } from '#shared/text.ts'
import { defineJob } from './define.ts'

/** Bytes (UTF-8) in one text; of characters there are at most as many. */
const MAX_TEXT = 1_000_000
const MAX_SCHEMA_BYTES = 65_536

const input = Type.Object(
  {
    prompt: Type.Optional(
      Type.String({ minLength: 1, maxLength: MAX_TEXT, description: 'What to ask. Either this or `messages`.' }),
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
        { minItems: 1, maxItems: 1000, description: 'A conversation that ends with the user.' },
      ),
    ),
    system: Type.Optional(
      Type.String({ minLength: 1, maxLength: MAX_TEXT, description: 'Instructions to the model.' }),
    ),
    schema: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description: 'JSON Schema (2020-12); the result is then an object that matches it.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** @returns what checks an answer, or why the schema is refused */
function usable(schema: Record<string, unknown>): ReturnType<typeof compileSchema> | string {
  try {
    return compileSchema(schema)
  } catch (error) {
    return `is not a usable JSON Schema: ${(error as Error).message}`
  }
}

export const generate = defineJob({
  kind: 'generate',
  title: 'Generate text or a JSON object',
  description: 'A prompt or a conversation in, text out; with `schema` a checked JSON object.',
  queue: 'default',
  input,
  result: Type.Union([Type.Object({ text: Type.String() }), Type.Unknown()], {
    description: '`{text}`; with `schema` the object itself.',
  }),
  example: { input: { prompt: 'Three titles for a post on Redis' } },
  exampleResult: { text: 'Redis, simply. Fast by heart. What memory is for.' },
  promptVersion: '1',
  maxTokens: 2048,
  cache: { ttlSeconds: 3600, staleSeconds: 86_400 },
  fallback: 'rules',
  // The text is the client's own: code with a card number to test with is what he asked for.
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
      return { field: '/input/prompt', message: 'give either prompt or messages' }
    }
    if (messages && messages.at(-1)?.role !== 'user') {
      return { field: `/input/messages/${messages.length - 1}/role`, message: 'the last message must be the user’s' }
    }
    if (schema === undefined) return null
    if (JSON.stringify(schema).length > MAX_SCHEMA_BYTES) {
      return { field: '/input/schema', message: `must be at most ${MAX_SCHEMA_BYTES} bytes of JSON` }
    }
    const validate = usable(schema)
    return typeof validate === 'string' ? { field: '/input/schema', message: validate } : null
  },

  prompts: {
    1: ({ prompt, messages, system, schema }) => ({
      messages: messages ?? [{ role: 'user', content: prompt! }],
      ...(system !== undefined && { system }),
      ...(schema !== undefined && { schema }),
    }),
  },

  check(text, { schema }) {
    if (schema === undefined)
      return text.trim() === '' ? { ok: false, reason: 'the answer is empty' } : { ok: true, result: { text } }
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      return { ok: false, reason: 'the answer is not JSON' }
    }
    if (isTooDeep(value)) return { ok: false, reason: 'the answer is nested too deeply' }
    value = cleanDeep(value)
    const validate = usable(schema)
    // It was accepted when more was.
    if (typeof validate === 'string') return { ok: false, reason: validate, fatal: 'invalid_output' }
    const wrong = violation(validate, value)
    return wrong ? { ok: false, reason: `the answer does not match the schema: ${wrong}` } : { ok: true, result: value }
  },

  // A template must not be taken for a model's work, and no template can honour a schema.
  rules: ({ schema }) =>
    schema === undefined
      ? {
          text: 'No model answered this request; this text is a placeholder. The attempts of the task say what was tried.',
        }
      : null,

  text: result => {
    const { text } = (result ?? {}) as { text?: unknown }
    return typeof text === 'string' ? text : JSON.stringify(result)
  },
})

import { Type } from 'typebox'
import { defineEmbedding } from './define.ts'
import { USUAL_DIMENSIONS } from './prompt.ts'

/** As many as OpenAI's API takes at once. */
export const MAX_TEXTS = 2048
/** Characters of one text: more tokens than any of these models reads. */
export const MAX_TEXT = 100_000
/** Bytes (UTF-8) of all texts. */
export const MAX_ALL = 1_000_000
/**
 * Numbers of one result, some 14 MB as JSON or 6 as base64. It is held whole, more than once, by the worker, Postgres and
 * whoever reads it.
 */
export const MOST_NUMBERS = 1_048_576
const MAX_DIMENSIONS = 8192

const text = Type.String({ minLength: 1, maxLength: MAX_TEXT })

const input = Type.Object(
  {
    text: Type.Optional({ ...text, description: 'What to make a vector of. Either this or `texts`.' }),
    texts: Type.Optional(
      Type.Array(text, {
        minItems: 1,
        maxItems: MAX_TEXTS,
        description: `Each gets a vector of its own. Texts times dimensions (${USUAL_DIMENSIONS} where they are not given) must be at most ${MOST_NUMBERS}.`,
      }),
    ),
    dimensions: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_DIMENSIONS,
        description: 'Length of each vector, for models that can shorten them; none: as the model makes them.',
      }),
    ),
    encoding: Type.Enum(['float', 'base64'], {
      default: 'float',
      description:
        '`float`: a list of numbers. `base64`: its bytes as 32-bit floats, little-endian; less than half as long.',
    }),
  },
  { additionalProperties: false, required: [] },
)

const result = Type.Object(
  {
    dimensions: Type.Integer({ minimum: 1 }),
    vectors: Type.Union([Type.Array(Type.Array(Type.Number())), Type.Array(Type.String())], {
      description: 'One of each text, in their order. Those of two models cannot be compared: see `model` of the task.',
    }),
  },
  { additionalProperties: false },
)

export type Vectors = { dimensions: number; vectors: number[][] | string[] }

/** Of one number. */
const BYTES = 4

/**
 * 32-bit floats, little-endian as the machines that this runs on, as base64:
 * https://platform.openai.com/docs/api-reference/embeddings (`encoding_format`).
 */
const toBase64 = (vector: readonly number[]): string => Buffer.from(Float32Array.from(vector).buffer).toString('base64')

function fromBase64(text: string): number[] {
  const bytes = Buffer.from(text, 'base64')
  return Array.from({ length: Math.floor(bytes.length / BYTES) }, (_, i) => bytes.readFloatLE(i * BYTES))
}

export const embed = defineEmbedding({
  kind: 'embed',
  title: 'Make vectors of texts',
  description:
    'A text or a list of texts in, a vector of each out, by an embedding model. It asks one model, and never another in its stead: vectors of two models cannot be compared. Who keeps vectors had better name the model.',
  queue: 'default',
  input,
  result,
  example: { input: { texts: ['A red bicycle', 'A blue boat'], dimensions: 3 } },
  exampleResult: {
    dimensions: 3,
    vectors: [
      [0.267, 0.535, 0.802],
      [0.802, -0.535, 0.267],
    ],
  },
  promptVersion: '1',
  maxTokens: 0,
  // The same text has the same vector.
  cache: { ttlSeconds: 86_400, staleSeconds: 604_800 },
  fallback: 'cache',
  outputFilter: false,

  validate({ text, texts, dimensions = USUAL_DIMENSIONS }) {
    if ((text === undefined) === (texts === undefined)) {
      return { field: '/input/text', message: 'give either text or texts' }
    }
    if (!texts) return null
    const bytes = texts.reduce((sum, one) => sum + Buffer.byteLength(one), 0)
    if (bytes > MAX_ALL) {
      return { field: '/input/texts', message: `must be at most ${MAX_ALL} bytes of UTF-8 together`, tooLarge: true }
    }
    if (texts.length * dimensions <= MOST_NUMBERS) return null
    const most = Math.floor(MOST_NUMBERS / dimensions)
    return { field: '/input/texts', message: `must be at most ${most} for ${dimensions} dimensions`, tooLarge: true }
  },

  prompts: {
    1: ({ text, texts, dimensions }) => ({
      texts: texts ?? [text!],
      ...(dimensions !== undefined && { dimensions }),
    }),
  },

  check(vectors, { texts, dimensions, encoding }) {
    const wanted = texts?.length ?? 1
    if (vectors.length !== wanted)
      return { ok: false, reason: `the answer has ${vectors.length} vectors for ${wanted} texts` }
    const length = dimensions ?? vectors[0]!.length
    if (length === 0) return { ok: false, reason: 'a vector is empty' }
    for (const [i, vector] of vectors.entries()) {
      if (vector.length !== length)
        return { ok: false, reason: `vector ${i} has ${vector.length} dimensions, not ${length}` }
      // JSON.parse makes Infinity of 1e999, and a number may be finite and yet beyond what 32 bits hold.
      if (!vector.every(number => Number.isFinite(Math.fround(number))))
        return { ok: false, reason: `vector ${i} has a number that is not finite` }
    }
    return {
      ok: true,
      result: {
        dimensions: length,
        vectors: encoding === 'base64' ? vectors.map(toBase64) : vectors,
      } satisfies Vectors,
    }
  },

  vectors(result) {
    const { vectors } = (result ?? {}) as Partial<Vectors>
    if (!Array.isArray(vectors)) return null
    return vectors.map(one => (typeof one === 'string' ? fromBase64(one) : one))
  },

  // Nothing but the model that made the others can make one that is like them.
  rules: () => null,
})

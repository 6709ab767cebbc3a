import { Type } from 'typebox'
import { defineEmbedding } from './define.ts'
import { DEFAULT_DIMENSIONS } from './prompt.ts'

/** Maximum number of texts, as in OpenAI's API. */
export const MAX_TEXTS = 2048
/** Maximum characters of one text: more tokens than any of these models reads. */
export const MAX_TEXT = 100_000
/** Maximum size of all texts, in bytes of UTF-8. */
export const MAX_ALL = 1_000_000
/**
 * Maximum count of numbers in one result, about 14 MB as JSON or 6 MB as base64. The worker, Postgres and the client
 * hold several complete copies of a result.
 */
export const MAX_NUMBERS = 1_048_576
const MAX_DIMENSIONS = 8192

const text = Type.String({ minLength: 1, maxLength: MAX_TEXT })

const input = Type.Object(
  {
    text: Type.Optional({ ...text, description: 'The text to embed. Either this or `texts`.' }),
    texts: Type.Optional(
      Type.Array(text, {
        minItems: 1,
        maxItems: MAX_TEXTS,
        description: `The texts to embed, with one vector each. The number of texts times \`dimensions\` (${DEFAULT_DIMENSIONS} if not given) must be at most ${MAX_NUMBERS}.`,
      }),
    ),
    dimensions: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_DIMENSIONS,
        description: 'Length of each vector, for models that can shorten vectors. Default: the length of the model.',
      }),
    ),
    encoding: Type.Enum(['float', 'base64'], {
      default: 'float',
      description: '`float`: a list of numbers. `base64`: 32-bit floats, little-endian; less than half the size.',
    }),
  },
  { additionalProperties: false, required: [] },
)

const result = Type.Object(
  {
    dimensions: Type.Integer({ minimum: 1 }),
    vectors: Type.Union([Type.Array(Type.Array(Type.Number())), Type.Array(Type.String())], {
      description:
        'One vector per text, in their order. Vectors of different models cannot be compared: see `model` of the task.',
    }),
  },
  { additionalProperties: false },
)

export type Vectors = { dimensions: number; vectors: number[][] | string[] }

/** Bytes of one number. */
const BYTES = 4

/**
 * Encodes 32-bit floats as base64, in little-endian order, which all supported machines use:
 * https://platform.openai.com/docs/api-reference/embeddings (`encoding_format`).
 */
const toBase64 = (vector: readonly number[]): string => Buffer.from(Float32Array.from(vector).buffer).toString('base64')

function fromBase64(text: string): number[] {
  const bytes = Buffer.from(text, 'base64')
  return Array.from({ length: Math.floor(bytes.length / BYTES) }, (_, i) => bytes.readFloatLE(i * BYTES))
}

export const embed = defineEmbedding({
  kind: 'embed',
  title: 'Create embeddings',
  description:
    'Creates one vector per text with an embedding model. It never fails over to another model, because vectors of different models cannot be compared. Name the model if you store vectors.',
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
  // The vector of a text does not change.
  cache: { ttlSeconds: 86_400, staleSeconds: 604_800 },
  fallback: 'cache',
  outputFilter: false,

  validate({ text, texts, dimensions = DEFAULT_DIMENSIONS }) {
    if ((text === undefined) === (texts === undefined)) {
      return { field: '/input/text', message: 'or `texts` must be given, but not both' }
    }
    if (!texts) return null
    const bytes = texts.reduce((sum, one) => sum + Buffer.byteLength(one), 0)
    if (bytes > MAX_ALL) {
      return { field: '/input/texts', message: `must have at most ${MAX_ALL} bytes of UTF-8 in total`, tooLarge: true }
    }
    if (texts.length * dimensions <= MAX_NUMBERS) return null
    const most = Math.floor(MAX_NUMBERS / dimensions)
    return {
      field: '/input/texts',
      message: `must have at most ${most} items for ${dimensions} dimensions`,
      tooLarge: true,
    }
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
      // JSON.parse reads 1e999 as Infinity, and a finite number may exceed 32 bits.
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

  // Only the same model can create comparable vectors.
  rules: () => null,
})

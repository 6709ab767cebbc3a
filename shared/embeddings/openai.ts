import type { Vectors } from '#shared/jobs/embed.ts'
import { decodeTokens } from './tokens.ts'

/** OpenAI's embeddings format: https://platform.openai.com/docs/api-reference/embeddings */

type Body = { input?: unknown; dimensions?: unknown; encoding_format?: unknown }
export type EmbeddingInput = { texts: string[]; encoding: unknown; dimensions?: unknown }

type InputRefusal = { param: string; wrong: string }

const INPUT_FORMS =
  "'input' must be a string, an array of tokens (integers), or a non-empty array of either, without mixing strings and tokens."

/**
 * Converts a request body to the input of the kind `embed`, which checks the rest. `wrong`: an error message about
 * `param`.
 */
export function embeddingInput({ input, dimensions, encoding_format }: Body): { input: EmbeddingInput } | InputRefusal {
  const read = readTexts(input)
  if ('wrong' in read) return read
  return {
    input: {
      texts: read.texts,
      encoding: encoding_format ?? 'float',
      ...(dimensions !== undefined && dimensions !== null && { dimensions }),
    },
  }
}

function readTexts(input: unknown): { texts: string[] } | InputRefusal {
  if (typeof input === 'string') return { texts: [input] }
  if (!Array.isArray(input) || input.length === 0) return { param: 'input', wrong: INPUT_FORMS }
  if (input.every(one => typeof one === 'string')) return { texts: input }
  // Token ids differ between providers, so tokens are decoded to text.
  if (isTokens(input)) return decodeAll([input], () => 'input')
  return input.every(isTokens) ? decodeAll(input, i => `input[${i}]`) : { param: 'input', wrong: INPUT_FORMS }
}

const isTokens = (one: unknown): one is number[] => Array.isArray(one) && one.every(Number.isInteger)

function decodeAll(lists: number[][], pathOf: (i: number) => string): { texts: string[] } | InputRefusal {
  const texts: string[] = []
  for (const [i, tokens] of lists.entries()) {
    const path = pathOf(i)
    if (tokens.length === 0) return { param: path, wrong: `'${path}' must not be empty.` }
    const read = decodeTokens(tokens)
    if ('text' in read) texts.push(read.text)
    else {
      const param = read.at === null ? path : `${path}[${read.at}]`
      const which = read.at === null ? '' : ` (${tokens[read.at]})`
      return { param, wrong: `'${param}'${which} ${read.wrong}. Send the text instead.` }
    }
  }
  return { texts }
}

/** The body of an answer. The vectors already have the requested encoding. */
export const embeddingsJson = (model: string | null, { vectors }: Vectors, tokens: number) => ({
  object: 'list' as const,
  data: vectors.map((embedding, index) => ({ object: 'embedding' as const, index, embedding })),
  model: model ?? 'unknown',
  usage: { prompt_tokens: tokens, total_tokens: tokens },
})

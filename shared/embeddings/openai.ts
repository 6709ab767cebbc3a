import type { Vectors } from '#shared/jobs/embed.ts'

/** Embeddings as OpenAI's API has them: https://platform.openai.com/docs/api-reference/embeddings */

type Body = { input?: unknown; dimensions?: unknown; encoding_format?: unknown }
export type EmbeddingInput = { texts: unknown[]; encoding: unknown; dimensions?: unknown }

const isTokens = (one: unknown) => typeof one === 'number' || (Array.isArray(one) && one.every(isTokens))

/** The input of the kind `embed`, of which the kind checks the rest. */
export function embeddingInput({
  input,
  dimensions,
  encoding_format,
}: Body): { input: EmbeddingInput } | { param: string; wrong: string } {
  const texts = Array.isArray(input) ? input : [input]
  if (texts.length > 0 && texts.every(isTokens))
    return { param: 'input', wrong: "'input' must be text: tokens are of one provider’s own and are not read here." }
  if (texts.length === 0 || !texts.every(one => typeof one === 'string'))
    return { param: 'input', wrong: "'input' must be a text, or a list with at least one text and nothing else." }
  return {
    input: {
      texts,
      encoding: encoding_format ?? 'float',
      ...(dimensions !== undefined && dimensions !== null && { dimensions }),
    },
  }
}

/** The body of an answer. Both encodings are as they are there. */
export const embeddingsJson = (model: string | null, { vectors }: Vectors, tokens: number) => ({
  object: 'list' as const,
  data: vectors.map((embedding, index) => ({ object: 'embedding' as const, index, embedding })),
  model: model ?? 'unknown',
  usage: { prompt_tokens: tokens, total_tokens: tokens },
})

import { createHash } from 'node:crypto'
import { anthropic } from './anthropic.ts'
import { ollama } from './ollama.ts'
import { openai } from './openai.ts'
import type { Wire } from './wire.ts'

/** The wire formats of the fake upstream. Embeddings are never streamed. */

/** A vector with these dimensions that depends only on the text. */
export const vectorOf = (text: string, dimensions: number): number[] =>
  Array.from({ length: dimensions }, (_, i) => {
    const [byte = 0] = createHash('sha256').update(`${i} ${text}`).digest()
    return byte / 128 - 1
  })

const openaiVectors: Wire = {
  ...openai,
  streams: () => false,
  whole: ({ vectors, model, usage }) => ({
    object: 'list',
    data: vectors.map((embedding, index) => ({ object: 'embedding', index, embedding })),
    model,
    ...(usage ? { usage: { prompt_tokens: usage.inputTokens, total_tokens: usage.inputTokens } } : {}),
  }),
  wrongShape: { object: 'list', data: 'none' },
}

const ollamaVectors: Wire = {
  ...ollama,
  streams: () => false,
  whole: ({ vectors, model, usage }) => ({
    model,
    embeddings: vectors,
    total_duration: 1,
    load_duration: 1,
    ...(usage ? { prompt_eval_count: usage.inputTokens } : {}),
  }),
}

/** By path. OpenAI-compatible servers differ in whether `/v1` is part of it. */
export function wireOf(path: string): Wire | null {
  if (path.endsWith('/chat/completions')) return openai
  if (path.endsWith('/embeddings')) return openaiVectors
  if (path === '/api/embed') return ollamaVectors
  if (path === '/v1/messages') return anthropic
  return path === '/api/chat' ? ollama : null
}

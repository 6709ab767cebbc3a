import { describe, expect, it } from 'vitest'
import { operationOf } from './models.ts'
import { createPrices } from './prices.ts'
import { PROVIDERS, type ProviderDescriptor } from './providers.ts'

describe('operationOf', () => {
  it.each([
    'text-embedding-3-small',
    'text-embedding-3-large',
    'text-embedding-ada-002',
    'gemini-embedding-001',
    'nomic-embed-text:v1.5',
    'mxbai-embed-large',
    'snowflake-arctic-embed2:568m',
    'granite-embedding:278m',
    'embeddinggemma',
    'qwen3-embedding:0.6b',
    'all-minilm:l6-v2',
    'bge-m3',
    'bge-large:335m',
    'BAAI/bge-small-en-v1.5',
    'intfloat/e5-large-v2',
    'thenlper/gte-base',
    'paraphrase-multilingual',
  ])('vectors: %s', name => expect(operationOf(name)).toBe('embed'))

  it.each([
    'gpt-5.4-mini',
    'claude-haiku-5-5',
    'gemini-2.5-flash',
    'deepseek-chat',
    'llama3.2',
    'o4',
    'my-gtea',
    'phi-e5x',
  ])('text: %s', name => expect(operationOf(name)).toBe('chat'))

  it('classifies the default models of the providers, which all have prices', () => {
    const { priceOf } = createPrices()
    for (const { name, embeds, ...row } of PROVIDERS as readonly ProviderDescriptor[]) {
      for (const model of [row.defaultModel, row.cheapModel, row.strongModel])
        if (model) expect(operationOf(model), model).toBe('chat')
      if (!embeds?.defaultModel) continue
      expect(operationOf(embeds.defaultModel), embeds.defaultModel).toBe('embed')
      expect(priceOf(name, embeds.defaultModel)).not.toBeNull()
    }
  })

  it('an embedding model costs only input tokens', () => {
    const { worstCaseOf, costOf } = createPrices()
    const most = { inputTokens: 1_000_000, outputTokens: 0 }
    expect(worstCaseOf('openai', 'text-embedding-3-small', most)).toBe('0.020000000000')
    expect(worstCaseOf('google', 'gemini-embedding-001', most)).toBe('0.150000000000')
    expect(costOf('openai', 'text-embedding-3-large', { ...most, cacheReadTokens: 0, cacheWriteTokens: 0 })).toBe(
      '0.130000000000',
    )
  })
})

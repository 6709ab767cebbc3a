import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { createPrices } from '#shared/models/prices.ts'
import type { AvailableProvider } from '#shared/routing.ts'
import { contextWith } from '#shared/testing/kinds.ts'
import { checkInput } from './check-input.ts'

const AVAILABLE: AvailableProvider[] = [
  { name: 'anthropic', defaultModel: 'claude-haiku-5-5' },
  { name: 'openai', defaultModel: 'gpt-5.4-mini', embeds: { model: 'text-embedding-3-small' } },
]
const deps = {
  jobs,
  available: async () => AVAILABLE,
  prices: createPrices(),
  lookup: () => contextWith(),
}
async function* bytes(records: unknown[]) {
  yield Buffer.from(records.map(one => JSON.stringify(one)).join('\n'))
}
const check = (kind: string, ...records: unknown[]) =>
  checkInput(
    deps,
    { surface: 'native', endpoint: null, kind, options: {}, mapping: { format: 'jsonl' }, api_key_id: 'key' },
    bytes(records),
  )

describe('the lines of an embeddings batch', () => {
  it('cost at most their bytes as tokens, and nothing for output', async () => {
    const text = 'a'.repeat(100_000)
    const { problems, boundUsd } = await check('embed', { text }, { texts: [text, text] })
    expect(problems).toEqual([])
    // 300,000 bytes at $0.02 per million, and some overhead.
    expect(Number(boundUsd)).toBeGreaterThanOrEqual(0.006)
    expect(Number(boundUsd)).toBeLessThan(0.0061)
  })

  it('may name embedding models only', async () => {
    const of = (model: string) => ({ input: { text: 'a' }, options: { model } })
    expect((await check('embed', of('text-embedding-3-large'), of('auto'))).problems).toEqual([])
    const { problems } = await check('embed', of('gpt-5.4'), of('claude-haiku-5-5'), of('anthropic/my-embedding'))
    expect(problems.map(one => one.code)).toEqual(Array(3).fill('model_not_found'))
  })

  it('have no options for generated text', async () => {
    const { problems } = await check('embed', { input: { text: 'a' }, options: { temperature: 1 } })
    expect(problems).toMatchObject([{ code: 'invalid_options', param: '/options/temperature' }])
  })
})

it('the lines of other batches may not name embedding models', async () => {
  const of = (model: string) => ({ input: { prompt: 'a' }, options: { model } })
  expect((await check('generate', of('gpt-5.4'), of('auto'))).problems).toEqual([])
  const { problems } = await check('generate', of('text-embedding-3-small'), of('openai/bge-m3'))
  expect(problems.map(one => one.code)).toEqual(['model_not_found', 'model_not_found'])
})

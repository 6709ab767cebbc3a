import { expect, it } from 'vitest'
import { createPrices } from '#shared/models/prices.ts'
import { createModelLabel } from './model-label.ts'

it('a model label is the name in the price list, or "other" for a model without a price', () => {
  const label = createModelLabel(createPrices())
  expect(label('anthropic', 'claude-haiku-4-5')).toBe(label('anthropic', 'claude-haiku-4-5-20251001'))
  expect(label('openai', 'made-up')).toBe('other')
})

it('ten thousand names that clients invent become at most 51 series', () => {
  const label = createModelLabel(createPrices())
  const made = (n: number) => label('ollama', `model-${n}`)
  const labels = new Set(Array.from({ length: 10_000 }, (_, n) => made(n)))
  expect(labels.size).toBeLessThanOrEqual(51)
  expect(made(0)).toBe('model-0')
  expect(made(9999)).not.toBe('model-9999')
})

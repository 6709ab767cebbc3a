import { expect, it } from 'vitest'
import { createModelLabel } from './measure.ts'
import { createPrices } from './models/prices.ts'

it('a model is called as the price list calls it, and what nobody has a price for is "other"', () => {
  const label = createModelLabel(createPrices())
  expect(label('anthropic', 'claude-haiku-4-5')).toBe(label('anthropic', 'claude-haiku-4-5-20251001'))
  expect(label('openai', 'made-up')).toBe('other')
})

it('ten thousand names that clients make up are some dozens of series', () => {
  const label = createModelLabel(createPrices())
  const made = (n: number) => label('ollama', `model-${n}`)
  const labels = new Set(Array.from({ length: 10_000 }, (_, n) => made(n)))
  expect(labels.size).toBeLessThanOrEqual(51)
  expect(made(0)).toBe('model-0')
  expect(made(9999)).not.toBe('model-9999')
})

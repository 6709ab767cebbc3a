import { expect, it } from 'vitest'
import { countEnded, createModelLabel } from './measure.ts'
import { createMetrics } from './metrics.ts'
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

it('what took how long is counted of tasks that ended by themselves, and not of lines', async () => {
  const metrics = createMetrics('worker')
  const one = { id: 'a', kind: 'generate', source: null }
  countEnded(metrics, [
    { ...one, status: 'succeeded', source: 'ai', seconds: 2 },
    { ...one, status: 'cancelled', seconds: 100 },
    { ...one, status: 'failed', seconds: null },
  ])
  const { values } = await metrics.taskSeconds.get()
  const counts = values.filter(value => value.metricName?.endsWith('_count'))
  expect(counts.map(value => [value.labels.status, value.value])).toEqual([['succeeded', 1]])
  expect((await metrics.ended.get()).values.map(value => value.labels.status)).toEqual([
    'succeeded',
    'cancelled',
    'failed',
  ])
})

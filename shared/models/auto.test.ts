import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { autoTier, DEMANDING, LONG_PROMPT } from './auto.ts'
import { createPrices } from './prices.ts'
import { PROVIDERS } from './providers.ts'

const { priceOf } = createPrices()

describe('autoTier', () => {
  it.each([
    'Three titles for a post on Redis',
    'Is this spam? Buy now!',
    '',
    'psychoanalyze',
    'a comparer and its designé',
    'analyze_this()',
    'the details inside',
  ])('treats %j as simple', text => {
    expect(autoTier(text)).toEqual({ tier: 'cheap', because: 'short and simple' })
  })

  it.each([
    ['Analyze this', 'says "analyze"'],
    ['please COMPARE: a, b', 'says "compare"'],
    ['Explain\n  in detail how it works', 'says "explain in detail"'],
    ['(step-by-step)', 'says "step-by-step"'],
  ])('treats %j as demanding', (text, because) => expect(autoTier(text)).toEqual({ tier: 'strong', because }))

  it('treats any long prompt as demanding', () => {
    expect(autoTier('a '.repeat(LONG_PROMPT / 2)).tier).toBe('cheap')
    expect(autoTier('a'.repeat(LONG_PROMPT + 1))).toEqual({ tier: 'strong', because: 'longer than 2000 characters' })
  })

  it('finds every listed word between other words, in upper and lower case', () => {
    const other = fc.stringMatching(/^[a-z .,!?0-9]{0,100}$/)
    fc.assert(
      fc.property(other, fc.constantFrom(...DEMANDING), fc.boolean(), other, (before, word, loud, after) => {
        const text = `${before} ${loud ? word.toUpperCase() : word} ${after}`
        expect(autoTier(text).tier).toBe('strong')
      }),
    )
  })

  it('does no more work on a text made to be hard', () => {
    for (const text of [
      `explain${' '.repeat(LONG_PROMPT - 7)}`,
      'step by '.repeat(LONG_PROMPT / 8),
      'in '.repeat(600),
    ]) {
      // Backtracking would take minutes and end at the test's timeout.
      for (let i = 0; i < 100; i++) expect(autoTier(text)).toHaveProperty('tier')
    }
  })
})

it('every cheap and strong model has a price, and the strong one costs more', () => {
  for (const { name, cheapModel, strongModel } of PROVIDERS) {
    if (cheapModel === null) continue
    const [cheap, strong] = [priceOf(name, cheapModel)!, priceOf(name, strongModel)!]
    expect(strong.bands[0]!.output, name).toBeGreaterThan(cheap.bands[0]!.output)
  }
})

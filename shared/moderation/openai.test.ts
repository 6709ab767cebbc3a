import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CATEGORIES, type Category, OPENAI_CATEGORIES, scoresOf } from './categories.ts'
import { moderationInput, moderationJson } from './openai.ts'
import { applyPolicy, DEFAULT_POLICY } from './policy.ts'
import type { Verdict } from './verdict.ts'

const part = (text: string) => ({ type: 'text', text })

describe('the input of a moderation', () => {
  it.each<[string, unknown, object]>([
    ['a string is one text', 'a', { texts: ['a'] }],
    ['strings are one text each', ['a', 'b'], { texts: ['a', 'b'] }],
    ['one part is one text', [part('a')], { text: 'a' }],
    [
      'parts are one text, in lines and run together',
      [part('you are wor'), part('thless')],
      { text: 'you are wor\nthless\n\nyou are worthless' },
    ],
  ])('%s', (_, input, expected) => expect(moderationInput(input)).toEqual({ input: expected }))

  const image = { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }
  it.each<[string, unknown, string, RegExp]>([
    ['an image', [part('a'), image], 'input[1]', /is an image\. Only text/],
    ['an image alone', [image], 'input[0]', /is an image/],
    ['another type', [{ type: 'audio' }], 'input[0].type', /must be "text"/],
    ['a part without text', [{ type: 'text' }], 'input[0].text', /must be a string/],
    ['an unknown field', [{ ...part('a'), lang: 'de' }], 'input[0]', /unknown field "lang"/],
    ['a string among parts', [part('a'), 'b'], 'input[1]', /must be a part/],
    ['a part among strings', ['a', part('b')], 'input[0]', /must be a part/],
    ['nothing', [], 'input', /non-empty/],
    ['a number', 1, 'input', /must be a string/],
    ['parts that are too long', [part('a'.repeat(30_000)), part('b')], 'input', /at most 24998 characters in total/],
  ])('is refused by name: %s', (_, input, param, wrong) => {
    expect(moderationInput(input)).toEqual({ param, wrong: expect.stringMatching(wrong) })
  })
})

describe('a result', () => {
  const verdictOf = (found: Partial<Record<Category, number>>, confidence = 1): Verdict => {
    const scores = scoresOf(name => found[name] ?? 0)
    const judged = applyPolicy(scores, confidence, DEFAULT_POLICY)
    return { safe: judged.decision === 'allow', confidence, reason: '', scores, ...judged }
  }
  const resultOf = (verdict: Verdict) => moderationJson('0'.repeat(32), 'm', verdict).results[0]!

  it('has only OpenAI’s categories if nothing is flagged', () => {
    const { flagged, ...maps } = resultOf(verdictOf({ hate: 0.1 }))
    expect(flagged).toBe(false)
    for (const map of Object.values(maps)) expect(Object.keys(map)).toEqual([...OPENAI_CATEGORIES])
  })

  it.each<[string, Verdict, string[]]>([
    ['one of OpenAI’s', verdictOf({ hate: 0.9 }), ['hate']],
    ['one of ours', verdictOf({ spam: 0.9 }), ['spam']],
    ['both', verdictOf({ 'personal-information': 1, violence: 0.6 }), ['violence', 'personal-information']],
    ['none, because the confidence is low', verdictOf({}, 0.1), ['other']],
    ['none, because a person blocked it', { ...verdictOf({}), safe: false, decision: 'block' }, ['other']],
    ['none, because a person allowed it', { ...verdictOf({ hate: 0.9 }), safe: true, decision: 'allow' }, []],
  ])('is flagged by %s', (_, verdict, expected) => {
    const { flagged, categories } = resultOf(verdict)
    expect(flagged).toBe(expected.length > 0)
    expect(Object.keys(categories).filter(name => categories[name])).toEqual(expected)
  })

  it('is flagged if and only if a category is true, with a score from 0 to 1 and an input type for each', () => {
    const score = fc.double({ min: 0, max: 1, noNaN: true })
    fc.assert(
      fc.property(fc.record(Object.fromEntries(CATEGORIES.map(name => [name, score]))), score, (scores, confidence) => {
        const { flagged, categories, category_scores, category_applied_input_types } = resultOf(
          verdictOf(scores, confidence),
        )
        expect(flagged).toBe(Object.values(categories).includes(true))
        const names = Object.keys(categories)
        expect(Object.keys(category_scores)).toEqual(names)
        expect(category_applied_input_types).toEqual(Object.fromEntries(names.map(name => [name, ['text']])))
        expect(Object.values(category_scores).every(one => one >= 0 && one <= 1)).toBe(true)
      }),
    )
  })
})

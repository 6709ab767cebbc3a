import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { keySentences, MAX_LENGTH, MAX_SENTENCES } from './extract.ts'
import { splitSentences } from './sentences.ts'

const REPORT = `The harbour bridge will close for repairs in March. Engineers found cracks in two of the bridge's cables.
The weather was mild for the season. Ferries will replace the bridge for drivers while the repairs last.
A local bakery opened yesterday. The city expects the repairs of the bridge cables to take eight weeks.`

describe('keySentences', () => {
  it('selects the key sentences in their order, without asides', () => {
    const picked = keySentences(REPORT, 3)
    expect(splitSentences(REPORT).filter(one => picked.includes(one))).toEqual(picked)
    expect(picked).toContain('The city expects the repairs of the bridge cables to take eight weeks.')
    expect(picked.join(' ')).not.toMatch(/bakery|weather/)
  })

  it('does not repeat a statement', () => {
    const text =
      'Redis queue jobs fail often. Redis queue jobs fail often today. Postgres keeps every budget safe and sound.'
    expect(keySentences(`${text} Redis queue jobs fail often.`, 2)).toHaveLength(2)
    expect(keySentences('Same words. Same words. Same words.', 3)).toEqual(['Same words.'])
    const varied =
      'Cats chase mice at night. Cats chase mice at dawn. Cats chase mice at noon. Dogs guard houses bravely.'
    expect(keySentences(varied, 3)).toContain('Dogs guard houses bravely.')
  })

  it('returns a short text completely, and nothing for an empty one', () => {
    expect(keySentences('One. Two.', 5)).toEqual(['One.', 'Two.'])
    expect(keySentences(' \n ', 5)).toEqual([])
    expect(keySentences('?! …', 5)).toEqual([])
    expect(keySentences(REPORT, 0)).toEqual([])
  })

  it('cuts an endless sentence at a space, and splits no character', () => {
    const [cut] = keySentences('word '.repeat(1000), 1)
    expect(cut).toMatch(/ word…$/)
    expect(cut!.length).toBeLessThanOrEqual(MAX_LENGTH)
    expect(keySentences('😀x'.repeat(1000), 1)[0]!.isWellFormed()).toBe(true)
    expect(keySentences(`x${'😀x'.repeat(1000)}`, 1)[0]!.isWellFormed()).toBe(true)
    expect(keySentences(`xx${'😀x'.repeat(1000)}`, 1)[0]!.isWellFormed()).toBe(true)
  })

  it('returns at most the requested number of sentences of the text, in order, deterministically', () => {
    const word = fc.constantFrom('bridge', 'repair', 'the', 'cable', 'weather', 'of', 'ferries', 'eight')
    const sentence = fc.array(word, { minLength: 1, maxLength: 8 }).map(words => `A ${words.join(' ')}.`)
    const text = fc.array(sentence, { maxLength: 30 }).map(some => some.join(' '))
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 10 }), (text, wanted) => {
        const own = [...new Set(splitSentences(text))]
        const picked = keySentences(text, wanted)
        expect(picked).toHaveLength(Math.min(wanted, own.length))
        expect(own.filter(one => picked.includes(one))).toEqual(picked)
        expect(keySentences(text, wanted)).toEqual(picked)
      }),
    )
  })

  it.each([
    ['many sentences', Array.from({ length: 100_000 }, (_, i) => `Word${i % 977} ${i}.`).join(' ')],
    ['one word', 'a'.repeat(1_000_000)],
    ['full stops', '. '.repeat(500_000)],
    ['abbreviations', 'Dr. '.repeat(250_000)],
    ['line breaks', '\n'.repeat(1_000_000)],
    ['blanks', `a${' '.repeat(1_000_000)}b`],
  ])('does linear work on a megabyte of %s', (_, text) => {
    // It takes a tenth of a second; quadratic work would take minutes and end at the test's timeout.
    expect(keySentences(text, MAX_SENTENCES + 1).length).toBeLessThanOrEqual(MAX_SENTENCES)
  })
})

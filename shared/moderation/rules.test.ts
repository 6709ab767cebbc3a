import { describe, expect, it } from 'vitest'
import { seamsOf } from './joins.ts'
import { findByRules } from './rules.ts'

const scoresOf = (texts: string[], category: 'profanity' | 'personal-information' | 'spam') =>
  findByRules(texts).map(one => one.scores[category])

describe('rules over several texts', () => {
  it('find content divided between texts, in each of these texts', () => {
    expect(scoresOf(['Hello', 'You are a bi', 'tch my friend'], 'profanity')).toEqual([0, 1, 1])
    expect(scoresOf(['Pay with 4111 1111', '1111 1111 please'], 'personal-information')).toEqual([1, 1])
    expect(scoresOf(['Mail joe@exam', 'ple.com'], 'personal-information')).toEqual([0.5, 0.5])
    expect(scoresOf([...'fuck'], 'profanity')).toEqual([1, 1, 1, 1])
    expect(scoresOf(['You have', 'won, act', 'now'], 'spam')).toEqual([0.64, 0.64, 0.64])
  })

  it.each([
    ['a card beside it', ['Card: 4111 1111 1111 1111', 'See you at 5'], 'personal-information', [1, 0]],
    ['an address beside it', ['Mail joe@example.com', 'Nice photo'], 'personal-information', [0.5, 0]],
    ['profanity beside it', ['What the fuck', 'ing cold here'], 'profanity', [1, 0]],
    ['words that meet by chance', ['I like to push', 'it works'], 'profanity', [0, 0]],
  ] as const)('hold no text back for %s', (_, texts, category, scores) => {
    expect(scoresOf([...texts], category)).toEqual(scores)
  })
})

describe('seams', () => {
  it('join texts without and with a space, once, but not after the end of a sentence', () => {
    expect(seamsOf(['I will ki', 'll you'])).toEqual(['I will kill you', 'I will ki ll you'])
    expect(seamsOf(['One.', 'Two!', '三。', 'four'])).toEqual([])
    expect(seamsOf(['One text'])).toEqual([])
  })

  it('are merged if they are near each other, and short otherwise', () => {
    expect(seamsOf([...'kill'])).toEqual(['kill', 'k i l l'])
    const long = 'word '.repeat(100).trim()
    expect(seamsOf([long, long, long]).every(seam => seam.length <= 160)).toBe(true)
  })
})

import { describe, expect, it } from 'vitest'
import { matchLabel } from './labels.ts'

describe('the label that a model means', () => {
  const LABELS = ['spam', 'not spam', 'self-harm', 'Größe', 'C', 'c++', 'Rück\u00adfrage', 'ﬁnance']
  it.each([
    ['spam', 'spam'],
    ['Spam', 'spam'],
    [' SPAM.\n', 'spam'],
    ['"spam"', 'spam'],
    ['“Spam”', 'spam'],
    ['**spam**', 'spam'],
    ['[spam]', 'spam'],
    ['ｓｐａｍ', 'spam'],
    ['sp\u200bam', 'spam'],
    ['Not  spam', 'not spam'],
    ['NOT_SPAM', 'not spam'],
    ['self harm', 'self-harm'],
    ['Self\u2011Harm', 'self-harm'],
    ['GRO\u0308ßE', 'Größe'],
    ['C', 'C'],
    ['C++', 'c++'],
    ['rückfrage', 'Rück\u00adfrage'],
    ['Finance', 'ﬁnance'],
  ])('%j is %j', (said, label) => expect(matchLabel(said, LABELS)).toBe(label))

  it.each([['not'], ['spam, not spam'], ['spammy'], [''], ['...'], ['constructor'], ['self/harm']])(
    '%j matches no label',
    said => expect(matchLabel(said, LABELS)).toBeNull(),
  )

  it('is null if several labels match', () => {
    expect(matchLabel('A-B', ['a_b', 'a b'])).toBeNull()
    expect(matchLabel('a b', ['a_b', 'a b'])).toBe('a b')
    expect(matchLabel('yes', ['yes!', 'yes?'])).toBeNull()
  })
})

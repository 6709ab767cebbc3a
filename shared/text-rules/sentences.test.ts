import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { splitSentences } from './sentences.ts'

describe('splitSentences', () => {
  it('splits at full stops, but not after abbreviations, initials and within numbers', () => {
    expect(splitSentences('Dr. J. Smith paid 3.50 to Acme Inc. for it, i.e. too much. Why? Nobody knows!')).toEqual([
      'Dr. J. Smith paid 3.50 to Acme Inc. for it, i.e. too much.',
      'Why?',
      'Nobody knows!',
    ])
  })

  it('joins wrapped lines, but keeps headings and list items separate', () => {
    const text =
      'Heading\nThis line is long enough to have been wrapped by the\nmailer.\n\n- one item\n2. another one\n'
    expect(splitSentences(text)).toEqual([
      'Heading',
      'This line is long enough to have been wrapped by the mailer.',
      'one item',
      'another one',
    ])
  })

  it('recognizes the full stops of other scripts', () => {
    expect(splitSentences('今日は天気がいい。明日は雨です。')).toEqual(['今日は天気がいい。', '明日は雨です。'])
  })

  it('neither loses nor adds letters', () => {
    const letters = (text: string) => text.match(/\p{L}/gu)?.join('') ?? ''
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aB. !?\n\r-*1,é日。"'), maxLength: 300 }), text => {
        expect(letters(splitSentences(text).join(''))).toBe(letters(text))
      }),
    )
  })
})

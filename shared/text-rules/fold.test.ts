import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fold, placeOf, rewrite } from './fold.ts'
import { findInReadings, readingsOf, undisguised } from './readings.ts'

describe('fold', () => {
  it.each([
    ['zero-width characters', 'pass\u200bword\u2060', 'password'],
    ['soft hyphens and variation selectors', 'pa\u00adss\ufe0f', 'pass'],
    ['bidi controls and tags', '\u202eab\u202c\u{e0061}c', 'abc'],
    ['control characters', 'a\u0007b\nc', 'ab\nc'],
    ['full width and ligatures', 'ﬁｌｅ＠ｘ．ｃｏｍ', 'file@x.com'],
    ['mathematical letters and digits', '𝐚𝒷𝔠𝟙𝟮𝟿', 'abc129'],
    ['circles, squares and flags', 'ⓐⒷ🅲🇩①⓿', 'aBCD10'],
    ['digits of other scripts', '٤۴४৪௪๔៤᠔', '44444444'],
    ['spaces and dashes', 'a\u00a0b\u3000c\u2800d\u2014e\u2212f', 'a b c d-e-f'],
    ['accents and marks', 'caf\u00e9 f\u0336o\u0336 4\ufe0f\u20e3', 'cafe fo 4'],
    ['marks of another script on a Latin letter', 'f\u0e47u\u0301', 'fu'],
    ['lookalikes in a Latin word', 'раsswоrd рауpаl', 'password paypal'],
    ['a word of only lookalikes', 'ѕех', 'sex'],
    ['small capitals', 'ᴋɪʟʟ', 'kill'],
    ['lookalikes of every word, once letters are mixed', 'a ριρε with а mіx', 'a pipe with a mix'],
  ])('undoes %s', (_, text, plain) => expect(fold(text).text).toBe(plain))

  it.each(['Россия — страна', 'Ελλας και Κυπρος', 'クリーム', 'ประชากร', 'नमस्ते दुनिया', 'العربية', '½ of 中文', 'ﷺ'])(
    'leaves the letters of %s',
    text => expect(fold(text).text).toBe(text.replace('—', '-')),
  )

  it('maps a range of the reading to the original', () => {
    const text = '→ 4\u200b1\ufe0f\u20e3𝟙١ ←'
    const folded = fold(text)
    const at = folded.text.indexOf('4111')
    const { start, end } = placeOf(folded, at, at + 4)
    expect(text.slice(start, end)).toBe('4\u200b1\ufe0f\u20e3𝟙١')
    const cut = rewrite(folded, [{ start: at + 1, end: at + 3, text: '-' }])
    const part = placeOf(cut, at + 1, at + 2)
    expect([cut.text.trim(), text.slice(part.start, part.end)]).toEqual(['→ 4-1 ←', '1\ufe0f\u20e3𝟙'])
  })

  it('returns ASCII text unchanged, without a map', () => {
    expect(fold('plain text')).toEqual({ text: 'plain text', places: null })
  })

  it('is idempotent and keeps positions in order, for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        const { text: plain, places } = fold(text)
        if (!places) return
        expect(places.starts).toHaveLength(plain.length)
        for (let i = 0; i < plain.length; i++) {
          expect(places.starts[i]).toBeLessThan(places.ends[i]!)
          expect(places.ends[i]).toBeLessThanOrEqual(text.length)
          if (i > 0) expect(places.starts[i]).toBeGreaterThanOrEqual(places.starts[i - 1]!)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('does not make a text many times longer', () => expect(fold('\ufdfa'.repeat(1000)).text).toHaveLength(1000))

  it.each(['а', 'fuсk ', 'f\u200b', 'é\u0301', 'ｆ ', '\u{e0041}', '🇫', 'a . b ', 'ριρ'])(
    'is done with a megabyte of “%s”',
    piece => expect(readingsOf(piece.repeat(1_000_000 / piece.length)).length).toBeGreaterThan(0),
    30_000,
  )
})

describe('readings', () => {
  it.each([
    ['spaced words', 'k i s s   m y   h a n d', 'kiss my hand'],
    ['dots, also between words', 'k.i.s.s. .m.e', 'kiss me'],
    ['emoji', 'k👏i👏s👏s', 'kiss'],
    ['lines', 'k\ni\ns\ns', 'kiss'],
    ['digits', '2 1 9 - 0 9 - 9 9 9 9', '219-09-9999'],
    ['letters for digits', '4lll llll 1111 1111', '4111 1111 1111 1111'],
    ['an address that is spelled out', 'joe [at] example (dot) com', 'joe@example.com'],
  ])('join %s', (_, text, joined) => expect(readingsOf(text).map(one => one.text)).toContain(joined))

  it.each(['\\n\\n\\n\\n', 'a sentence with a few words', 'i.e. this'])('leave “%s” alone', text => {
    expect(readingsOf(text).map(one => one.text)).toEqual([text])
  })

  it('map a finding to the original, without duplicates', () => {
    const find = (text: string) =>
      [...text.matchAll(/kiss/g)].map(({ index }) => ({ type: 'x', start: index, end: index + 4 }))
    expect(findInReadings('a kiss, k\u200biss é', find)).toEqual([
      { type: 'x', start: 2, end: 6 },
      { type: 'x', start: 8, end: 13 },
    ])
  })
})

describe('undisguised', () => {
  it.each([
    ['k\u200bill', 'kill'],
    ['ｋｉｌｌ', 'kill'],
    ['k i l l', 'kill'],
    ['кіll', 'kill'],
    ['k̶i̶l̶l̶', 'kill'],
  ])('reads %s', (text, plain) => expect(undisguised(text)).toBe(plain))

  it.each([
    'Crème brûlée à la carte',
    'Phở và trà đá',
    'Сегодня хорошая погода',
    'می‌خواهم',
    '👨‍👩‍👧',
    'x + y',
    '10 – 12 °C',
    'don’t',
  ])('returns null for %s', text => expect(undisguised(text)).toBeNull())
})

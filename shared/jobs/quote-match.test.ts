import { describe, expect, it } from 'vitest'
import { createQuoteFinder } from './quote-match.ts'

const stands = (quote: string, text: string) => createQuoteFinder(text)(quote)

describe('a quotation occurs in its text', () => {
  it.each([
    ['an en dash', 'shoes – the special ones', 'shoes - the special ones'],
    ['an em dash without spaces', 'shoes—the special ones', 'shoes - the special ones'],
    ['two hyphens for a dash', 'shoes — the special ones', 'shoes -- the special ones'],
    ['a hyphen that does not break', 'non\u2011refundable', 'non-refundable'],
    ['a minus', 'It costs −3 points', 'costs -3 points'],
    ['soft hyphens', 'The co\u00adpay\u00adment is due', 'copayment is due'],
    ['soft hyphens in the quote', 'The copayment is due', 'co\u00adpayment is due'],
    ['a space that does not break', '5\u00a0€ or 5\u202f€', '5 € or 5 €'],
    ['an ideographic space', 'a\u3000b', 'a b'],
    ['lines', 'one\n  two\r\nthree', 'one two three'],
    ['zero-width characters', 'a\u200bb\u2060c\ufeff d', 'abc d'],
    ['marks of direction', 'a \u200fשלום\u200e b', 'a שלום b'],
    ['ligatures', 'the oﬃce ﬂoor', 'the office floor'],
    ['an ellipsis', 'and so on… then', 'and so on... then'],
    ['curly quotation marks', 'He said “it’s mine”.', 'He said "it\'s mine".'],
    ['single quotation marks', 'He said "stop".', "He said 'stop'."],
    ['guillemets', 'Il dit « non » !', 'Il dit "non" !'.replace('"non"', '« non »')],
    ['full width', 'ＡＢＣ１２３', 'abc123'],
    ['an accent of its own', 'cafe\u0301', 'café'],
    ['a syllable in parts', '한글', '\u1112\u1161\u11ab\u1100\u1173\u11af'],
    ['a low digit', 'CO₂ per m²', 'CO2 per m2'],
    ['a fraction', '1½ cups', '1 1/2 cups'],
    ['capitals', 'THE ΟΔΟΣ Street', 'the οδος street'],
    ['a word that is hyphenated at a line break', 'not refund-\nable in cash', 'not refundable in cash'],
    ['a compound that is divided at a line break', 'a non-\nrefundable fee', 'a non-refundable fee'],
    ['quotation marks around it', 'Anything can be returned.', '"Anything can be returned."'],
    ['an ellipsis around it', 'Anything can be returned.', '...can be returned…'],
    ['another mark at its end', 'It can be returned; not worn.', 'It can be returned.'],
  ])('in spite of %s', (_, text, quote) => expect(stands(quote, text)).toBe(true))
})

describe('a quotation does not occur in its text', () => {
  it.each([
    ['with a word left out', 'Worn shoes – the special ones – are not taken back.', 'Worn shoes are not taken back.'],
    ['with another word', 'They are not taken back.', 'They are now taken back.'],
    ['with another number', 'It costs 3 points', 'costs 30 points'],
    ['with another sign', 'It costs 3 points', '-3 points'],
    ['with a point before its number', 'It costs 5 points', '.5 points'],
    ['with a power as a number', 'up to 10² volts', 'up to 102 volts'],
    ['with a fraction in its number', '1½ cups', '11/2 cups'],
    ['with another unit', "6' tall", '6" tall'],
    ['with words that are one there', 'the therapist', 'the rapist said'],
    ['with spaces in a word', 'the therapist', 'the the rapist'],
    ['without its accent', 'the résumé', 'the resume'],
    ['with a hyphen too few', 'a re-creation', 'a recreation'],
  ])('%s', (_, text, quote) => expect(stands(quote, text)).toBe(false))

  it('is searched in a long text without delay', () => {
    const text = `${'A “–” ﬁ'.repeat(40_000)}\u00ad END`
    const find = createQuoteFinder(text)
    for (let n = 0; n < 50; n++) expect(find('no such quote')).toBe(false)
    expect(find('end')).toBe(true)
  })
})

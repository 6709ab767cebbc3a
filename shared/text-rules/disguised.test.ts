import { describe, expect, it } from 'vitest'
import { filterOutput } from './filter.ts'
import { findPersonal } from './personal.ts'
import { findProfanity } from './profanity.ts'
import { findSecrets } from './secrets.ts'
import { spamSignals } from './spam.ts'

const KEY = `sk-${'aB3dE5gH7jK9'.repeat(3)}`
const digits = (text: string, zero: number) => text.replace(/\d/g, digit => String.fromCodePoint(zero + Number(digit)))
const between = (text: string, mark: string) => [...text].join(mark)

describe('disguised numbers and addresses', () => {
  it.each([
    ['card', between('4111111111111111', '\u200b')],
    ['card', '4111\u20031111\u20111111\u22121111'],
    ['card', digits('4111 1111 1111 1111', 0xff10)],
    ['card', digits('4111 1111 1111 1111', 0x660)],
    ['card', digits('4111-1111-1111-1111', 0x1d7ce)],
    ['card', digits('3782 822463 10005', 0x966)],
    ['card', between('4111111111111111', '.')],
    ['card', between('4111111111111111', ' - ')],
    ['card', '4111.1111.1111.1111'],
    ['card', '4111 - 1111 - 1111 - 1111'],
    ['card', '4111_1111_1111_1111'],
    ['card', '4I11 1111 1lll 1111'],
    ['card', '4\ufe0f\u20e31\ufe0f\u20e31\ufe0f\u20e31\ufe0f\u20e3 1111 1111 1111'],
    ['ssn', '219\u00ad-09-\u00ad9999'],
    ['ssn', digits('219-09-9999', 0x6f0)],
    ['ssn', '２１９－０９－９９９９'],
    ['ssn', '2 1 9 - 0 9 - 9 9 9 9'],
    ['ssn', '219 – 09 – 9999'],
    ['iban', between('DE89370400440532013000', '\u2060')],
    ['iban', 'ＤＥ８９ ３７０４ ００４４ ０５３２ ０１３０ ００'],
    ['iban', 'DЕ89 3704 0044 0532 0130 00'],
    ['iban', 'DE89.3704.0044.0532.0130.00'],
    ['iban', 'ԁΕ89 3704 0044 0532 0130 00'],
    ['iban', 'ԃЕ89370400440532013000'],
    ['iban', 'ꭰέ89 3704 0044 0532 0130 00'],
    ['iban', 'ԀＥ89\u200b370400440532013000'],
    ['iban', 'ＧВ82 WЕѕТ 1234 5698 7654 32'],
    ['email', 'j\u200boe@exam\u200dple.com'],
    ['email', 'ｊｏｅ＠ｅｘａｍｐｌｅ．ｃｏｍ'],
    ['email', 'joe [at] example [dot] com'],
    ['email', 'j o e @ e x a m p l e . c o m'],
    ['phone', '+\u200b1 415\u2060 555 2671'],
    ['phone', digits('+1 415 555 2671', 0xff10)],
    ['phone', digits('(415) 555-2671', 0x660)],
  ])('finds a disguised %s and removes it from the original: %s', (type, disguised) => {
    const text = `Это → ${disguised}, вот`
    const [found, ...others] = findPersonal(text)
    expect(others).toEqual([])
    expect(found).toMatchObject({ type })
    expect(text.slice(found!.start, found!.end)).toBe(disguised)
    const { value, filtered } = filterOutput({ text }, [type as 'card'])
    expect(value).toEqual({ text: `Это → [${type} removed], вот` })
    expect(filtered).toEqual({ [type]: 1 })
  })

  it.each(['4111 1111 1111 1111', '219-09-9999', '4111111111111111'])('finds %s before a footnote mark', number => {
    expect(filterOutput(`It is ${number}².`).value).toMatch(/^It is \[(card|ssn) removed\]²\.$/)
  })

  it('removes a card in invisible tags', () => {
    const hidden = [...'4111111111111111'].map(char => String.fromCodePoint(0xe0000 + char.charCodeAt(0))).join('')
    expect(filterOutput(`Hello${hidden}!`)).toEqual({ value: 'Hello[card removed]!', filtered: { card: 1 } })
  })

  it.each([
    ['４１１１ １１１１ １１１１ １１１２'],
    ['٢١٩-٠٩-٩٩٩٩-١'],
    ['1 2 3 4 5 6 7 8 9'],
    ['IlIlIlIlIlIlIlIl'],
    ['1.2.3.4.5.6'],
    ['2020.2021.2022.2023'],
    ['می‌خواهم ۴۵۰۰ تومان'],
  ])('finds nothing in %s', text => {
    expect(findPersonal(text)).toEqual([])
    expect(filterOutput({ text }).value).toEqual({ text })
  })

  it('changes nothing else in the text', () => {
    const text = 'ﬁrst k\u200bept, \u202bעברית\u202c, é, 👨‍👩‍👧 and'
    expect(filterOutput(`${text} ４１１１１１１１１１１１１１１１ ${text}`).value).toBe(
      `${text} [card removed] ${text}`,
    )
    expect(filterOutput(text)).toEqual({ value: text, filtered: null })
  })

  it('are recognized by the disguised name of their field', () => {
    expect(filterOutput({ ＳＳＮ: '２１９０９９９９９' }).filtered).toEqual({ ssn: 1 })
    expect(filterOutput({ 's\u200bsn': '219\u200b09\u200b9999' }).filtered).toEqual({ ssn: 1 })
    const secret = between(KEY.slice(3).padEnd(40, '/+1z'), '\u200b')
    expect(filterOutput({ 'Secret\u200bAccessKey': secret }).filtered).toEqual({ api_key: 1 })
  })
})

describe('disguised secrets', () => {
  it.each([
    ['sk', between(KEY, '\u200b')],
    ['sk', between(KEY, '\u00ad')],
    ['sk', KEY.replace('sk', 'sк')],
    ['sk', [...KEY].map(char => String.fromCodePoint(0xfee0 + char.charCodeAt(0))).join('')],
    ['sk', between(KEY, ' ')],
    ['aws', 'АKIA\u2060ABCDEFGHIJKLMNOP'],
    ['github', `ghp_\u200d${'aB3dE5gH7jK9'.repeat(3)}`],
    ['private-key', `-----BEGIN PRI\u200bVATE KEY-----\n${'aB3d'.repeat(12)}\n-----END PRIVATE\u00a0KEY-----`],
  ])('finds a disguised key of %s in the original: %s', (name, secret) => {
    const text = `ключ: ${secret} .`
    const [found] = findSecrets(text)
    expect(found).toMatchObject({ name })
    expect(text.slice(found!.start, found!.end)).toBe(secret)
    expect(filterOutput(text).value).toBe('ключ: [api_key removed] .')
  })
})

describe('disguised profanity', () => {
  it.each([
    'f\u200bu\u200bc\u200bk',
    'ｆｕｃｋ',
    'f\u00aduck',
    'f u c k',
    'f.u.c.k',
    's\u0336h\u0336i\u0336t\u0336',
    'ᶠᵘᶜᵏ',
    'ꜰᴜᴄᴋ',
    'fυсκ',
    'b\u202ci\u202ct\u202cch',
    'F-U-C-K',
  ])('is found in the original: %s', word => {
    const text = `Oh ${word} - é`
    const [found] = findProfanity(text)
    expect(found?.word.replace(/\u0336$/, '')).toBe(word.replace(/\u0336$/, ''))
  })
})

describe('disguised spam', () => {
  it.each([
    ['zero-width spaces', (text: string) => between(text, '\u200b')],
    ['full width', (text: string) => text.replace(/[!-~]/g, char => String.fromCodePoint(0xfee0 + char.charCodeAt(0)))],
    ['spaces', (text: string) => between(text, ' ')],
    ['lookalikes', (text: string) => text.replace(/[aceo]/g, char => ({ a: 'а', c: 'с', e: 'е', o: 'о' })[char]!)],
  ])('scores as high as plain text: %s', (_, disguise) => {
    const text = 'act now, you have won! claim your prize at http://bit.ly/x'
    expect(spamSignals(disguise(text)).score).toBeGreaterThanOrEqual(spamSignals(text).score)
  })
})

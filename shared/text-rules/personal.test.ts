import type { CountryCode } from 'libphonenumber-js/max'
import { describe, expect, it } from 'vitest'
import { findPersonal } from './personal.ts'

const found = (text: string, country: CountryCode = 'US') =>
  findPersonal(text, { country }).map(one => [one.type, text.slice(one.start, one.end)])

describe('cards', () => {
  it.each([
    '4111 1111 1111 1111',
    '4111-1111-1111-1111',
    '4111111111111111',
    '5555555555554444',
    '2223003122003222',
    '3782 822463 10005',
    '378282246310005',
    '6011 1111 1111 1117',
    '3056 930902 5904',
    '3530111333300000',
    '4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1',
  ])('finds %s', card => {
    expect(found(`It is ${card}, to 12/26.`)).toEqual([['card', card]])
  })

  it('finds grouped cards among other numbers, each of several', () => {
    expect(found('7 4111 1111 1111 1111 123')).toEqual([['card', '4111 1111 1111 1111']])
    expect(found('4111111111111111 5555555555554444')).toHaveLength(2)
  })

  it.each([
    ['Jane Doe,4111111111111111,12/26,123', '4111111111111111'],
    ['Jane Doe,4111 1111 1111 1111,12/26,123', '4111 1111 1111 1111'],
    ['1,4111111111111111', '4111111111111111'],
    ['2,3782-822463-10005,1226', '3782-822463-10005'],
    ['4111111111111111:12/26', '4111111111111111'],
    ['4111111111111111:Jane', '4111111111111111'],
    ['4111111111111111/12/26', '4111111111111111'],
    ['4111 1111 1111 1111/12/26', '4111 1111 1111 1111'],
    ['4111111111111111|12|26', '4111111111111111'],
    ['card_4111111111111111', '4111111111111111'],
    ['4111-1111-1111-1111_12_26', '4111-1111-1111-1111'],
    ['Visa-4111 1111 1111 1111', '4111 1111 1111 1111'],
    ['4111 1111 1111 1111-Jane', '4111 1111 1111 1111'],
    ['Card:\\n4111111111111111\\n', '4111111111111111'],
  ])('finds the card in %s', (text, card) => {
    expect(found(text)).toEqual([['card', card]])
  })

  it.each([
    ['a wrong check digit', '4111 1111 1111 1112'],
    ['no known issuer', '9111111111111117'],
    ['a wrong length', '411111111111116'],
    ['more digits', '41111111111111110000'],
    ['part of an id', 'a4111111111111111'],
    ['a decimal', '0.4111111111111111'],
    ['decimals', '4111111111111111.25'],
    ['an amount', '4 111 111 111 111 111,25'],
    ['the rest of an amount', '1,4 111 111 111 111 111'],
    ['a time', '4111 111111 1111 11:30'],
    ['part of a hash', '_a4111111111111111b'],
    ['an id with dashes', 'ord-4111-1111-1111-1111'],
    ['an id of two parts', 'ord-4111111111111111'],
    ['an id that goes on', '4111-1111-1111-1111-x'],
    ['the name of a file', '4111111111111111.pdf'],
    ['a UUID', '41111111-1111-4111-8111-111111111111'],
    ['an IMEI', '490154203237518'],
    ['milliseconds since 1970', '1732600000000'],
    ['an ISBN', '978-3-16-148410-0'],
    ['only zeros', '4000000000000000'],
  ])('finds none in %s', (_, text) => {
    expect(found(text)).toEqual([])
  })
})

describe('social security numbers', () => {
  it.each([
    ['123-45-6789', '123-45-6789'],
    ['My SSN is 123456789.', '123456789'],
    ['"customer_ssn": "123456789"', '123456789'],
    ['Social Security Number: 123 45 6789', '123 45 6789'],
    ['123456789 (SSN)', '123456789'],
    ['SSN-123-45-6789', '123-45-6789'],
  ])('finds the number in %s', (text, ssn) => {
    expect(found(text)).toEqual([['ssn', ssn]])
  })

  it.each([
    'order 123456789',
    '123 45 6789',
    '000-45-6789',
    '666-45-6789',
    '912-45-6789',
    '123-00-6789',
    '123-45-0000',
    'SSN 000456789',
    '123-45-67890',
    'ABC-123-45-6789',
    '123-45-6789-1',
    '[ssn removed], order 123456789',
    'classname 123456789',
  ])('finds none in %s', text => {
    expect(found(text)).toEqual([])
  })
})

describe('IBANs', () => {
  it.each([
    'DE89 3704 0044 0532 0130 00',
    'DE89370400440532013000',
    'GB29 NWBK 601613 31926819',
    'NO93 8601 1117 947',
    'fr1420041010050500013m02606',
    'MT84MALT011000012345MTLCAST001S',
  ])('finds %s', iban => {
    expect(found(`To ${iban}, please`)).toEqual([['iban', iban]])
  })

  it.each([
    ['a wrong checksum', 'DE88 3704 0044 0532 0130 00'],
    ['no such country', 'ZZ89370400440532013000'],
    ['a wrong length', 'DE8937040044053201300'],
    ['more of it', 'DE89370400440532013000a'],
    ['mixed cases', 'De89370400440532013000'],
    ['a wrong checksum and lookalikes', 'ԁΕ88 3704 0044 0532 0130 00'],
    ['letters of other scripts without lookalikes', 'щж89 3704 0044 0532 0130 00'],
    ['more letters of another script', 'ԁΕ89370400440532013000ж'],
  ])('finds none with %s', (_, text) => {
    expect(found(text).filter(([type]) => type === 'iban')).toEqual([])
  })
})

describe('e-mail addresses', () => {
  it.each(['joe@example.com', 'j.o+x_y@mail.example.co.uk', 'jörg@müller.de', "o'neil@a-b.io"])('finds %s', email => {
    expect(found(`Write to <${email}>.`)).toEqual([['email', email]])
    expect(found(`mailto:${email}, or not`)).toEqual([['email', email]])
  })

  it.each([
    'logo@2x.png',
    'react@18.2.0',
    'me@localhost',
    'git@github.com:a/b.git',
    'https://user:pass@host.com/',
    '@example.com',
    'a..b@example.com',
    'a.@example.com',
    'see @joe and @jane.doe',
  ])('finds none in %s', text => {
    expect(found(text)).toEqual([])
  })
})

describe('phone numbers', () => {
  it.each([
    'call 415-555-2671',
    '(415) 555-2671',
    '650.253.0000',
    '1-800-356-9377',
    '+1 415 555 2671',
    '+44 20 7946 0958',
    '+49 (30) 901820',
    'tel:+14155552671',
    'my phone number is 4155552671',
  ])('finds the number in %s', text => {
    const number = text.replace(/^\D*?(?=[+(]?\d)/, '')
    expect(found(text)).toEqual([['phone', number]])
  })

  it('reads numbers without a country code as numbers of the given country', () => {
    expect(found('06 12 34 56 78', 'FR')).toEqual([['phone', '06 12 34 56 78']])
    expect(found('020 7946 0958', 'GB')).toEqual([['phone', '020 7946 0958']])
    expect(found('06 12 34 56 78')).toEqual([])
    for (const text of ['2024-01-15', '15-01-2024', '978-3-16-148410-0', 'ISBN 3-16-148410-0', '12.03.2024 10:30']) {
      expect(found(text, 'DE')).toEqual([])
    }
  })

  it.each([
    'order 4155552671',
    '2024-01-15 10:30:00',
    '2024-11-26T02:24:02.123456Z',
    'v10.15.7.1234',
    '192.168.100.200',
    '978-3-16-148410-0',
    '81-7525-766-0',
    '112-3456789-1234567',
    '1732600000',
    '550e8400-e29b-41d4-a716-446655440000',
    '37.7749295,-122.4194155',
    '$415-555-2671',
    'x415-555-2671',
    '415-155-2671',
  ])('finds none in %s', text => {
    expect(found(text)).toEqual([])
  })
})

describe('findPersonal', () => {
  it('returns types and ranges from left to right', () => {
    expect(found('a@b.co, 4111 1111 1111 1111, 123-45-6789 and (415) 555-2671').map(([type]) => type)).toEqual([
      'email',
      'card',
      'ssn',
      'phone',
    ])
  })

  it('searches only for the given types', () => {
    expect(findPersonal('a@b.co, 123-45-6789', { types: ['ssn'] })).toEqual([{ type: 'ssn', start: 8, end: 19 }])
  })

  it.each(['1 ', '+1', 'a@', '@', 'DE89 ', '123-45-6789 ', '4111 1111 1111 1111 ', '+1 (4) 1-5 5.5 ', '(415', '1'])(
    'is done with a megabyte of “%s”',
    piece => {
      const text = piece.repeat(1_000_000 / piece.length)
      const places = findPersonal(text).flatMap(one => [one.start, one.end])
      expect(places).toEqual(places.toSorted((a, b) => a - b))
    },
    60_000,
  )
})

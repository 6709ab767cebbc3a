import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DEFAULT_FILTER, type FilterType, filterOutput } from './filter.ts'
import { findPersonal, PERSONAL_TYPES } from './personal.ts'
import { findSecrets } from './secrets.ts'

const CARD = '4111 1111 1111 1111'
const KEY = `sk-${'aB3dE5gH7jK9'.repeat(3)}`

describe('filterOutput', () => {
  it('replaces and counts findings anywhere in a value', () => {
    const value = { a: [`pay with ${CARD} or ${CARD}`, 1, null], b: { c: '123-45-6789', d: `key ${KEY}` }, e: true }
    expect(filterOutput(value)).toEqual({
      value: {
        a: ['pay with [card removed] or [card removed]', 1, null],
        b: { c: '[ssn removed]', d: 'key [api_key removed]' },
        e: true,
      },
      filtered: { card: 2, ssn: 1, api_key: 1 },
    })
  })

  it('returns the same object if it finds nothing', () => {
    const value = { a: ['order 123456789', { b: 'joe@example.com, (415) 555-2671' }], n: 4111111111111111 }
    expect(filterOutput(value)).toEqual({ value, filtered: null })
    expect(filterOutput(value).value).toBe(value)
  })

  it('keeps the parts without findings', () => {
    const rest = { b: ['fine'] }
    const { value } = filterOutput({ a: CARD, rest })
    expect((value as { rest: unknown }).rest).toBe(rest)
  })

  it('replaces only the given types', () => {
    const text = `joe@example.com, (415) 555-2671, ${CARD}`
    expect(filterOutput(text, ['email', 'phone'])).toEqual({
      value: `[email removed], [phone removed], ${CARD}`,
      filtered: { email: 1, phone: 1 },
    })
    expect(filterOutput(text, []).value).toBe(text)
  })

  it('replaces findings in keys without losing a value', () => {
    const { value } = filterOutput({ [CARD]: 1, '4111-1111-1111-1111': 2, '[card removed] (2)': 3 })
    expect(Object.values(value as object)).toEqual([1, 2, 3])
    expect(Object.keys(value as object)[0]).toBe('[card removed]')
    expect(JSON.stringify(value)).not.toContain('4111')
  })

  it('keeps a key named __proto__', () => {
    expect(JSON.stringify(filterOutput(JSON.parse(`{"__proto__":"${CARD}"}`)).value)).toBe(
      '{"__proto__":"[card removed]"}',
    )
  })

  it('recognizes nine digits by the name of their field', () => {
    const value = {
      ssn: '123456789',
      customerSsn: '123456789',
      'Social Security': '123 45 6789',
      classname: '123456789',
    }
    expect(filterOutput(value)).toEqual({
      value: {
        ssn: '[ssn removed]',
        customerSsn: '[ssn removed]',
        'Social Security': '[ssn removed]',
        classname: '123456789',
      },
      filtered: { ssn: 3 },
    })
  })

  it('recognizes a secret of AWS by its name, as a field and within text', () => {
    const id = 'AKIAABCDEFGHIJKLMNOP'
    const secret = KEY.slice(3).padEnd(40, '/+1z')
    const value = { AccessKeyId: id, SecretAccessKey: secret }
    const clean = { AccessKeyId: '[api_key removed]', SecretAccessKey: '[api_key removed]' }
    expect(filterOutput(value)).toEqual({ value: clean, filtered: { api_key: 2 } })
    expect(filterOutput(JSON.stringify(value))).toEqual({ value: JSON.stringify(clean), filtered: { api_key: 2 } })
    expect(filterOutput({ aws_secret_access_key: secret }).filtered).toEqual({ api_key: 1 })
    const others = { sha1: secret, secret_access_key: 'see the vault', SecretAccessKeys: [secret] }
    expect(filterOutput(others)).toEqual({ value: others, filtered: null })
    expect(filterOutput(value, ['card']).value).toBe(value)
  })

  it('does not treat its own placeholder as a field name', () => {
    const value = { '[ssn removed]': '123456789' }
    expect(filterOutput(value)).toEqual({ value, filtered: null })
  })

  it('replaces findings that another replacement uncovers', () => {
    const text = `${CARD} 5 5 5 5 5 5 5 5 5 5 5 5 4 4 4 4`
    expect(filterOutput(text)).toEqual({ value: '[card removed] [card removed]', filtered: { card: 2 } })
  })

  it('replaces values that are nested too deeply to search', () => {
    let value: unknown = CARD
    for (let i = 0; i < 5000; i++) value = [value]
    const { value: kept, filtered } = filterOutput(value)
    expect(filtered).toEqual({ depth: 1 })
    expect(JSON.stringify(kept)).toMatch(/^\[{200}"\[depth removed\]"\]{200}$/)
  })

  it.each([CARD, `${CARD} `, '1 ', '4', 'ssn 123456789 ', `${KEY} `, 'sk-', 'DE89 3704 0044 0532 0130 00', '\\'])(
    'is done with a megabyte of “%s”',
    piece => {
      const { value } = filterOutput(piece.repeat(1_000_000 / piece.length))
      expect(findSecrets(value as string)).toEqual([])
    },
    60_000,
  )
})

/** Parts of findings, so that findings touch, overlap and uncover each other. */
const piece = fc.oneof(
  fc.constantFrom(CARD, '4111111111111111', '5 5 5 5 5 5 5 5 5 5 5 5 4 4 4 4', '123-45-6789', '123456789', KEY, 'sk-'),
  fc.constantFrom(
    'DE89 3704 0044 0532 0130 00',
    'joe@example.com',
    '(415) 555-2671',
    '+1 415 555 2671',
    'AKIAABCDEFGHIJKLMNOP',
  ),
  fc.constantFrom(' ', '-', '.', '_', 'ssn ', 'a', '1', '[', '] ', ' removed]', 'phone: ', '\n', ',', '/'),
  fc.string({ unit: 'binary', maxLength: 5 }),
)
const text = fc.oneof(
  fc.array(piece, { maxLength: 12 }).map(pieces => pieces.join('')),
  fc.string({ unit: 'binary' }),
)
const json = fc.letrec(tie => ({
  value: fc.oneof(
    { depthSize: 'small' },
    text,
    fc.jsonValue(),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(text, tie('value'), { maxKeys: 4 }),
  ),
})).value
const types = fc.oneof(fc.constant(DEFAULT_FILTER), fc.subarray<FilterType>(['api_key', ...PERSONAL_TYPES]))

function strings(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return [...Object.keys(value), ...Object.values(value).flatMap(strings)]
}

describe('filterOutput with any value', () => {
  it('leaves nothing that the finders of its types find', () => {
    fc.assert(
      fc.property(json, types, (value, wanted) => {
        for (const one of strings(filterOutput(value, wanted).value)) {
          expect(findPersonal(one, { types: PERSONAL_TYPES.filter(type => wanted.includes(type)) })).toEqual([])
          if (wanted.includes('api_key')) expect(findSecrets(one)).toEqual([])
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('finds nothing in its own output, and returns the same object', () => {
    fc.assert(
      fc.property(json, types, (value, wanted) => {
        const once = filterOutput(value, wanted)
        const twice = filterOutput(once.value, wanted)
        expect(twice.filtered).toBeNull()
        expect(twice.value).toBe(once.value)
        if (once.filtered === null) expect(once.value).toBe(value)
      }),
      { numRuns: 1000 },
    )
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { clean, cleanDeep, findUnstorable, isTooDeep } from './text.ts'

/** A slow reference implementation of "Postgres can store it": no U+0000, and every surrogate within a pair. */
function storable(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    const next = text.charCodeAt(at + 1)
    if (unit === 0 || (unit >= 0xdc00 && unit <= 0xdfff)) return false
    if (unit < 0xd800 || unit > 0xdbff) continue
    if (!(next >= 0xdc00 && next <= 0xdfff)) return false
    at++
  }
  return true
}

/** Texts in which the hard cases are frequent: lone surrogates, U+0000, and text that looks like their escapes. */
const text = fc
  .array(fc.constantFrom('a', '\0', '\ud83d', '\ude00', '😀', '\\u0000', '\\ud800', '"', '/', '~', 'é'), {
    maxLength: 6,
  })
  .map(parts => parts.join(''))
const { value } = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { depthSize: 'small' },
    text,
    fc.constantFrom<unknown>(null, true, 1.5),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(text, tie('value'), { maxKeys: 4 }),
  ),
}))

const texts = (value: unknown): string[] =>
  typeof value === 'string'
    ? [value]
    : typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, child]) => [key, ...texts(child)])
      : []

describe('findUnstorable', () => {
  it('returns null exactly if Postgres can store every text of the value', () => {
    fc.assert(
      fc.property(value, value => {
        expect(findUnstorable(value) === null).toBe(texts(value).every(storable))
      }),
      { numRuns: 2000 },
    )
  })

  it.each([
    [{ input: { prompt: 'a\0' } }, '/input/prompt'],
    [{ list: ['fine', { deep: '\ud800' }] }, '/list/1/deep'],
    [{ 'a/b~c': '\0' }, '/a~1b~0c'],
    [{ a: { 'k\0': 1 } }, '/a/k\uFFFD'],
    ['\udc00', ''],
  ])('says where: %j', (value, pointer) => expect(findUnstorable(value)).toBe(pointer))

  it.each(['\\u0000', 'C:\\ud83d', '😀', ''])('lets %j pass', text => expect(findUnstorable({ text })).toBeNull())
})

describe('clean', () => {
  it('makes every text storable, and does not change a storable text', () => {
    fc.assert(
      fc.property(text, text => {
        expect(storable(clean(text))).toBe(true)
        expect(clean(text).length).toBe(text.length)
        if (storable(text)) expect(clean(text)).toBe(text)
      }),
    )
  })

  it('makes every text and key of a value storable, and keeps its shape', () => {
    fc.assert(
      fc.property(value, value => {
        const cleaned = cleanDeep(value)
        expect(findUnstorable(cleaned)).toBeNull()
        if (findUnstorable(value) === null) expect(cleaned).toBe(value)
        if (Array.isArray(value)) expect(cleaned).toHaveLength(value.length)
      }),
    )
  })
})

describe('isTooDeep', () => {
  const nested = (depth: number) => JSON.parse(`${'[{"a":'.repeat(depth / 2)}1${'}]'.repeat(depth / 2)}`) as unknown

  it('is true beyond 200 levels, however many there are', () => {
    expect([2, 198, 200, 202, 200_000].map(depth => isTooDeep(nested(depth)))).toEqual([
      false,
      false,
      false,
      true,
      true,
    ])
  })

  it('looks at every branch', () => {
    expect(isTooDeep({ flat: [1, 'a', null], deep: nested(300) })).toBe(true)
    expect(isTooDeep('text')).toBe(false)
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inputCheck } from '#shared/batches/checks.ts'
import { violationOf } from '#shared/testing/kinds.ts'
import { embed, MAX_ALL, MAX_NUMBERS, MAX_TEXT, MAX_TEXTS, type Vectors } from './embed.ts'
import { buildRequest, maxTokenUsage } from './prompt.ts'
import { resultFits } from './result-fits.ts'

const TWO = { texts: ['a', 'b'], encoding: 'float' as const }
const bytesOf = (text: string) => {
  const { buffer, byteOffset, length } = Buffer.from(text, 'base64')
  const view = new DataView(buffer, byteOffset, length)
  return Array.from({ length: length / 4 }, (_, i) => view.getFloat32(i * 4, true))
}

describe('the input of embed', () => {
  const fault = inputCheck(embed)
  const wrong = (input: object) => fault(input)?.field ?? null

  it.each([
    ['a text', { text: 'a' }],
    ['a blank text', { text: ' ' }],
    ['as many as OpenAI takes', { texts: Array(MAX_TEXTS).fill('a'), dimensions: 512 }],
    ['as many of the default length as one result holds', { texts: Array(682).fill('a') }],
    ['the longest text', { texts: ['a'.repeat(MAX_TEXT)] }],
  ])('may be %s', (_, input) => expect(wrong(input)).toBeNull())

  it.each([
    ['nothing', {}, '/input/text'],
    ['both', { text: 'a', texts: ['a'] }, '/input/text'],
    ['an empty text', { text: '' }, '/input/text'],
    ['no texts', { texts: [] }, '/input/texts'],
    ['an empty text among them', { texts: ['a', ''] }, '/input/texts/1'],
    ['tokens', { texts: [[1, 2]] }, '/input/texts/0'],
    ['a text that is too long for every model', { text: 'a'.repeat(MAX_TEXT + 1) }, '/input/text'],
    ['too many texts', { texts: Array(MAX_TEXTS + 1).fill('a'), dimensions: 1 }, '/input/texts'],
    ['too much text', { texts: Array(MAX_ALL / 50_000 + 1).fill('a'.repeat(50_000)) }, '/input/texts'],
    ['too much text, in bytes', { texts: Array(11).fill('é'.repeat(50_000)) }, '/input/texts'],
    ['more numbers than a result holds', { texts: Array(683).fill('a') }, '/input/texts'],
    ['more numbers, of longer vectors', { texts: Array(342).fill('a'), dimensions: 3072 }, '/input/texts'],
    ['no dimensions', { text: 'a', dimensions: 0 }, '/input/dimensions'],
    ['half a dimension', { text: 'a', dimensions: 1.5 }, '/input/dimensions'],
    ['another encoding', { text: 'a', encoding: 'hex' }, '/input/encoding'],
  ])('is not %s', (_, input, field) => expect(wrong(input)).toBe(field))

  it('never requests more numbers than one result holds, if the length is given', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: MAX_TEXTS }), fc.integer({ min: 1, max: 8192 }), (count, dimensions) => {
        const fits = embed.validate({ texts: Array(count).fill('a'), dimensions }) === null
        expect(fits).toBe(count * dimensions <= MAX_NUMBERS)
      }),
    )
  })
})

describe('the request', () => {
  it('asks for one vector per text, of the given length', () => {
    expect(buildRequest(embed, { text: 'a' }, {})).toEqual({ texts: ['a'] })
    expect(buildRequest(embed, { ...TWO, dimensions: 3 }, {})).toEqual({ texts: ['a', 'b'], dimensions: 3 })
  })

  it('is bounded by the bytes of the texts plus some tokens for each, without output tokens', () => {
    const most = (texts: string[]) => maxTokenUsage(embed, buildRequest(embed, { texts }, {}), { max_tokens: 9 })
    const { inputTokens, outputTokens } = most(['é'.repeat(1000), 'b'])
    expect(inputTokens).toBeGreaterThan(2001)
    expect(inputTokens).toBeLessThan(2001 + 500)
    expect(outputTokens).toBe(0)
  })
})

describe('the answer of a model', () => {
  it('becomes the result, as numbers or as their bytes', () => {
    const vectors = [
      [0.25, -1],
      [1, 0],
    ]
    expect(embed.check(vectors, TWO)).toEqual({ ok: true, result: { dimensions: 2, vectors } })
    const checked = embed.check(vectors, { ...TWO, encoding: 'base64' })
    const result = (checked as { result: Vectors }).result
    expect(result.dimensions).toBe(2)
    expect((result.vectors as string[]).map(bytesOf)).toEqual(vectors)
    expect(violationOf(embed.result, result)).toBeNull()
  })

  it.each<[string, number[][], string]>([
    ['none', [], 'the answer has 0 vectors for 2 texts'],
    ['too few', [[1]], 'the answer has 1 vectors for 2 texts'],
    ['too many', [[1], [2], [3]], 'the answer has 3 vectors for 2 texts'],
    ['empty ones', [[], []], 'a vector is empty'],
    ['some of another length', [[1, 2], [3]], 'vector 1 has 1 dimensions, not 2'],
    ['infinity', [[1], [Number.POSITIVE_INFINITY]], 'vector 1 has a number that is not finite'],
    ['a value that is not a number', [[Number.NaN], [1]], 'vector 0 has a number that is not finite'],
    ['a number beyond 32 bits', [[1e300], [1]], 'vector 0 has a number that is not finite'],
  ])('is refused: %s', (_, vectors, reason) => expect(embed.check(vectors, TWO)).toEqual({ ok: false, reason }))

  it('is refused if it is longer or shorter than requested', () => {
    for (const length of [2, 4])
      expect(embed.check([Array(length).fill(1)], { text: 'a', dimensions: 3, encoding: 'float' })).toEqual({
        ok: false,
        reason: `vector 0 has ${length} dimensions, not 3`,
      })
  })
})

describe('a precomputed result', () => {
  it('fits in either encoding, if it is valid', async () => {
    const numbers = { dimensions: 2, vectors: [[0.5, 1], [1, -0.25]] } // biome-ignore format: a matrix
    expect(await resultFits(embed, TWO, numbers)).toBe(true)
    const base64 = embed.check(numbers.vectors, { ...TWO, encoding: 'base64' }) as { result: Vectors }
    expect(await resultFits(embed, { ...TWO, encoding: 'base64' }, base64.result)).toBe(true)
    for (const result of [
      base64.result,
      { dimensions: 2 },
      { ...numbers, more: 1 },
      { ...numbers, dimensions: 3 },
      null,
    ])
      expect(await resultFits(embed, TWO, result)).toBe(false)
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { all, chunkSizes, inChunks } from '#shared/testing/byte-chunks.ts'
import { splitElements } from './json-array.ts'

const split = (bytes: Uint8Array | string, sizes?: readonly number[], limit?: number) =>
  all(splitElements(inChunks(bytes, sizes), limit))
const codes = async (text: string, limit?: number) =>
  (await split(text, [3], limit)).map(one =>
    'text' in one ? JSON.stringify(JSON.parse(one.text)) : [one.line, one.message],
  )

const space = fc.constantFrom('', ' ', '\n', '\r\n\t')
const text = fc.constantFrom('a', '"', '\\', '\\"', '[', ']', '{', '}', ',', '😀', '\u2028').map(part => part)
const value = fc.oneof(
  fc.jsonValue(),
  fc.array(text, { maxLength: 8 }).map(parts => parts.join('')),
  fc.dictionary(
    fc.array(text, { maxLength: 3 }).map(parts => parts.join('')),
    fc.jsonValue(),
    { maxKeys: 3 },
  ),
)
/** A JSON array with white space in all possible places. */
const file = fc
  .tuple(fc.array(value, { maxLength: 8 }), fc.array(space, { minLength: 1 }), fc.boolean())
  .map(([values, spaces, bom]) => {
    let i = 0
    const some = () => spaces[i++ % spaces.length]
    const elements = values.map((one, at) => some() + JSON.stringify(one, null, at % 3) + some())
    return { values, text: `${bom ? '\uFEFF' : ''}${some()}[${elements.join(',') || some()}]${some()}` }
  })

describe('splitElements', () => {
  it('finds every element of a JSON array for any split of the bytes', async () => {
    await fc.assert(
      fc.asyncProperty(file, chunkSizes, async ({ values, text }, sizes) => {
        const found = await split(text, sizes)
        expect(found.map(one => one.line)).toEqual(values.map((_, i) => i + 1))
        expect(found.map(one => JSON.parse('text' in one ? one.text : ''))).toEqual(
          values.map(one => JSON.parse(JSON.stringify(one))),
        )
      }),
      { numRuns: 300 },
    )
  })

  it('never throws, and gives the same result for any split of the bytes', async () => {
    const noise = fc
      .array(
        fc.oneof(
          fc.constantFrom('[', ']', '{', '}', ',', '"', '\\', ' ', '1', 'é').map(Buffer.from),
          fc.uint8Array({ maxLength: 2 }),
        ),
      )
      .map(parts => Buffer.concat([Buffer.from('['), ...parts]))
    await fc.assert(
      fc.asyncProperty(noise, chunkSizes, async (file, sizes) => {
        expect(await split(file, sizes)).toEqual(await split(file))
      }),
    )
  })

  it.each([
    ['an object', '{"a":1}', [[1, expect.stringMatching(/^The file is not a JSON array/)]]],
    ['lines', '{"a":1}\n{"a":2}', [[1, expect.stringMatching(/^The file is not a JSON array/)]]],
    ['what is not closed', '[1,[2]', ['1', [2, 'The array is not closed.']]],
    ['what is cut within a string', '[1,"]', ['1', [2, 'The array is not closed.']]],
    ['a comma too many', '[1,]', ['1', [2, 'An element is missing.']]],
    ['a comma too early', '[,1]', [[1, 'An element is missing.'], '1']],
    ['more than an array', '[1]\n[2]', ['1', [1, 'Something follows the array.']]],
    ['nothing', ' \n', []],
    ['an empty array', '[ ]', []],
  ])('reports %s', async (_, text, expected) => {
    expect(await codes(text)).toEqual(expected)
  })

  it('skips an element that is too long and continues', async () => {
    expect(await codes(`[1,"${'x'.repeat(50)}",2]`, 20)).toEqual(['1', [2, 'It is longer than 20 bytes.'], '2'])
  })

  it('does not check whether brackets match', async () => {
    expect((await split('[{"a":1]},2]')).map(one => ('text' in one ? one.text : one.code))).toEqual(['{"a":1]}', '2'])
  })
})

import { encode } from 'gpt-tokenizer/encoding/cl100k_base'
import { describe, expect, it } from 'vitest'
import { embeddingInput } from './openai.ts'

const textsOf = (input: unknown) => {
  const read = embeddingInput({ input })
  return 'wrong' in read ? read : read.input.texts
}

describe('the input of an embedding', () => {
  const texts = ['Hello, world!', 'Grüße 🎉 naïve', '日本語のテキスト', ' leading space\n\n\ttab', '👩‍👩‍👧‍👦 مرحبا']

  it.each(texts)('decodes tokens to the text %j', text => expect(textsOf(encode(text))).toEqual([text]))

  it('decodes each list of tokens to one text', () => {
    expect(textsOf(texts.map(text => encode(text)))).toEqual(texts)
  })

  it('keeps text unchanged', () => {
    expect(textsOf('a')).toEqual(['a'])
    expect(textsOf(['a', 'b'])).toEqual(['a', 'b'])
  })

  it.each<[string, unknown, string, RegExp]>([
    ['a token that does not exist', [9906, 100_256], 'input[1]', /^'input\[1\]' \(100256\) is not a token/],
    ['a control token', [[9906], [9906, 100_257]], 'input[1][1]', /\(100257\) is not a token/],
    ['a negative token', [-1], 'input[0]', /not a token/],
    ['a token beyond 2^53', [2 ** 60], 'input[0]', /not a token/],
    ['half a character', [[9906], encode('🎉').slice(0, 1)], 'input[1]', /within a character/],
    ['U+0000', [188], 'input', /U\+0000/],
    ['an empty list', [], 'input', /must be a string/],
    ['an empty list of tokens', [[9906], []], 'input[1]', /must not be empty/],
    ['tokens and text', ['a', 1], 'input', /without mixing/],
    ['lists of tokens and text', [[1], 'a'], 'input', /without mixing/],
    ['lists of text', [['a']], 'input', /must be a string/],
    ['a fraction', [1.5], 'input', /must be a string/],
    ['null', null, 'input', /must be a string/],
    ['an object', { text: 'a' }, 'input', /must be a string/],
  ])('is refused by name: %s', (_, input, param, wrong) => {
    expect(textsOf(input)).toEqual({ param, wrong: expect.stringMatching(wrong) })
  })
})

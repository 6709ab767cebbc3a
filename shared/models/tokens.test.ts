import { transformJSONSchema } from '@anthropic-ai/sdk/lib/transform-json-schema'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lowerBoundTokens, upperBoundTokens } from './tokens.ts'

const text = fc.string({ unit: 'binary', maxLength: 200 })
const request = fc.record(
  { system: text, messages: fc.array(fc.record({ content: text }), { maxLength: 20 }) },
  { requiredKeys: ['messages'] },
)

const { schema } = fc.letrec<{ schema: Record<string, unknown> }>(tie => ({
  schema: fc.oneof(
    { depthSize: 'medium' },
    fc.record(
      {
        type: fc.constant('string'),
        pattern: fc.constantFrom('^\\\\+$', '["\\\\"]{3}'),
        minLength: fc.nat(),
        description: text,
      },
      { requiredKeys: ['type'] },
    ),
    fc.record(
      {
        type: fc.constant('object'),
        properties: fc.dictionary(fc.string({ minLength: 1 }), tie('schema')),
        patternProperties: fc.dictionary(text, tie('schema')),
      },
      { requiredKeys: ['type'] },
    ),
    fc.record({ type: fc.constant('array'), items: tie('schema'), minItems: fc.nat() }, { requiredKeys: ['type'] }),
  ),
}))

describe('upperBoundTokens', () => {
  it('is at least the bytes of all texts plus a few tokens for each', () => {
    fc.assert(
      fc.property(request, ({ system, messages }) => {
        const texts = [...messages.map(one => one.content), ...(system === undefined ? [] : [system])]
        const bytes = new TextEncoder().encode(texts.join('')).length
        expect(upperBoundTokens({ system, messages })).toBeGreaterThanOrEqual(bytes + 8 * texts.length)
      }),
    )
  })

  it('counts bytes, not characters', () => {
    const of = (content: string) => upperBoundTokens({ messages: [{ content }] })
    expect(of('é') - of('')).toBe(2)
    expect(of('😀') - of('')).toBe(4)
    expect(of('\ud800') - of('')).toBe(3)
  })

  it('grows with every message, and with a longer text', () => {
    fc.assert(
      fc.property(request, text, ({ system, messages }, more) => {
        const bound = upperBoundTokens({ system, messages })
        expect(upperBoundTokens({ system, messages: [...messages, { content: more }] })).toBeGreaterThan(bound)
        expect(upperBoundTokens({ system: `${system ?? ''}${more}`, messages })).toBeGreaterThanOrEqual(bound)
      }),
    )
  })

  it('covers a schema unchanged and as rewritten by an adapter', () => {
    const without = upperBoundTokens({ messages: [] })
    fc.assert(
      fc.property(schema, schema => {
        const room = upperBoundTokens({ messages: [], schema }) - without
        for (const sent of [schema, transformJSONSchema(schema)])
          expect(room).toBeGreaterThan(Buffer.byteLength(JSON.stringify(sent)))
      }),
      { numRuns: 500 },
    )
  })
})

describe('lowerBoundTokens', () => {
  const of = (content: string) => lowerBoundTokens({ messages: [{ role: 'user', content }] })

  it('never exceeds the upper bound, or one token per six characters', () => {
    fc.assert(
      fc.property(request, ({ system, messages }) => {
        const bound = lowerBoundTokens({ system, messages })
        const characters = [system ?? '', ...messages.map(one => one.content)].join('').length
        expect(bound).toBeLessThanOrEqual(characters / 6)
        expect(bound).toBeLessThan(upperBoundTokens({ system, messages }))
      }),
    )
  })

  it.each([
    ['English words', 'lovely weather today my friend. '.repeat(100), 500],
    ['one long word', 'abcdefgh'.repeat(100), 50],
    ['white space', ' '.repeat(5000), 0],
    ['a run of one character', '='.repeat(5000), 1],
    ['Chinese, at its densest', '天气很好我们去公园吧'.repeat(100), 63],
  ])('is the minimum of any tokenizer for %s', (_, text, tokens) => expect(of(text)).toBe(tokens))

  it('excludes assistant turns, which templates shorten', () => {
    const content = 'several words that are sent back'
    const turns = (role: 'user' | 'assistant') => lowerBoundTokens({ messages: [{ role, content }] })
    expect(turns('assistant')).toBe(0)
    expect(turns('user')).toBeGreaterThan(0)
  })
})

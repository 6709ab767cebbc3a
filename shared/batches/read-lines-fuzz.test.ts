import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chunkSizes } from '#shared/testing/byte-chunks.ts'
import { nativeOptions as native, openaiOptions as openai, readAll as read } from '#shared/testing/read-lines.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ReadOptions } from './read-lines.ts'

/** Generous, for a busy machine. */
const SLOW = 60_000

describe('any file', () => {
  /** Records that are almost valid, so that the test reaches all branches of the reader. */
  const odd = fc.oneof(fc.constantFrom<unknown>(null, 1, '', 'a\0', '\ud800', [], {}, true), fc.jsonValue())
  const record = fc.oneof(
    fc.record(
      {
        custom_id: fc.oneof(fc.string(), odd),
        method: fc.constant('POST'),
        url: fc.constant('/v1/chat/completions'),
        body: fc.oneof(
          fc.record(
            {
              model: fc.constantFrom('claude-x', 'x'),
              messages: fc.array(
                fc.record({ role: fc.constantFrom('user', 'system', 'x'), content: fc.oneof(fc.string(), odd) }),
              ),
              more: odd,
            },
            { requiredKeys: ['messages'] },
          ),
          odd,
        ),
      },
      { requiredKeys: [] },
    ),
    fc.record(
      {
        input: fc.oneof(
          fc.record({ prompt: fc.oneof(fc.string(), odd), schema: odd }, { requiredKeys: ['prompt'] }),
          odd,
        ),
        custom_id: odd,
        options: odd,
        metadata: odd,
      },
      { requiredKeys: [] },
    ),
    fc.dictionary(fc.constantFrom('__proto__', 'constructor', 'prompt', 'input', 'messages', 'model', 'body'), odd),
    odd,
  )
  const surfaces: ReadOptions[] = [
    openai,
    { ...openai, endpoint: '/v1/responses' },
    native({ format: 'jsonl' }),
    native({ format: 'json' }),
    native({ format: 'csv' }),
    native({ format: 'csv', template: '{{a}} {{ b }}', columns: { system: 'a' } }),
  ]

  it(
    'gives a line or a problem for every record, and all of them can be stored',
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(record, { maxLength: 20 }), fc.nat(2), async (records, which) => {
          const texts = records.map(one => JSON.stringify(one))
          const options = [openai, native({ format: 'jsonl' }), native({ format: 'json' })][which]!
          const file = options.mapping?.format === 'json' ? `[${texts.join(',')}]` : texts.join('\n')
          const found = await read(file, options)
          if (records.length === 0) expect(found).toMatchObject([{ code: 'empty_file' }])
          else expect(found.map(one => one.line)).toEqual(records.map((_, i) => i + 1))
          expect(findUnstorable(found)).toBeNull()
        }),
        { numRuns: 200 },
      )
    },
    SLOW,
  )

  it(
    'never throws, and gives the same result for any split',
    async () => {
      const bytes = fc
        .array(
          fc.oneof(
            fc
              .constantFrom('\n', '\r\n', '"', ',', '{', '}', '[', ']', ':', 'a,b', '\uFEFF', '😀', '\0')
              .map(Buffer.from),
            fc.uint8Array({ maxLength: 4 }).map(Buffer.from),
            record.map(one => Buffer.from(JSON.stringify(one))),
          ),
          { maxLength: 20 },
        )
        .map(parts => Buffer.concat(parts as Buffer[]))
      await fc.assert(
        fc.asyncProperty(bytes, chunkSizes, fc.constantFrom(...surfaces), async (file, sizes, options) => {
          const found = await read(file, options)
          expect(await read(file, options, sizes)).toEqual(found)
          expect(found.length).toBeGreaterThan(0)
          expect(findUnstorable(found)).toBeNull()
        }),
        { numRuns: 200 },
      )
    },
    SLOW,
  )
})

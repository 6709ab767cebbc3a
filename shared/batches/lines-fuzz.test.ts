import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { all, inPieces, pieceSizes } from '#shared/testing/pieces.ts'
import { findUnstorable } from '#shared/text.ts'
import { type ReadOptions, readLines } from './lines.ts'
import type { Mapping } from './mapping.ts'

/** For a machine that is busy with others. */
const SLOW = 60_000

const openai: ReadOptions = {
  surface: 'openai',
  endpoint: '/v1/chat/completions',
  kind: null,
  mapping: null,
  options: {},
  jobs,
  knowsModel: model => /^(claude-|ollama\/)/.test(model),
}
const native = (mapping: Mapping): ReadOptions => ({
  ...openai,
  surface: 'native',
  endpoint: null,
  kind: 'generate',
  mapping,
})

const read = (file: Uint8Array | string, options: ReadOptions = openai, sizes?: readonly number[]) =>
  all(readLines(inPieces(file, sizes), options))
describe('any file', () => {
  /** Records that are nearly good, so that all depths of the reading are reached. */
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
    'gives a line or a problem for every record, all of which can be stored',
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
    'never throws, and is read the same wherever it is cut',
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
        fc.asyncProperty(bytes, pieceSizes, fc.constantFrom(...surfaces), async (file, sizes, options) => {
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

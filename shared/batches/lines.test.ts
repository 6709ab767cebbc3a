import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { all, inPieces } from '#shared/testing/pieces.ts'
import { isProblem, MOST_LINES, type ParsedLine, type ReadOptions, readLines } from './lines.ts'
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
const problems = async (file: Uint8Array | string, options?: ReadOptions) =>
  (await read(file, options)).filter(isProblem).map(({ line, code }) => [line, code])

const body = { model: 'claude-haiku-4-5', messages: [{ role: 'user', content: 'Hi' }] }
const request = (changes: Record<string, unknown> = {}) =>
  JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body, ...changes })

describe('a file of OpenAI’s that is bad', () => {
  it.each<[string, string | Buffer, [number, string][]]>([
    ['is empty', '', [[1, 'empty_file']]],
    ['has only blank lines', '\uFEFF\n\r\n  \n', [[1, 'empty_file']]],
    ['is not JSON', `${request()}\n\nHello\n`, [[3, 'invalid_json_line']]],
    [
      'has a line that is no object',
      `[1]\n${request()}\nnull`,
      [
        [1, 'invalid_json_line'],
        [3, 'invalid_json_line'],
      ],
    ],
    ['has no custom_id', `${request()}\n${request({ custom_id: undefined })}`, [[2, 'missing_required_parameter']]],
    ['has a custom_id that is no text', request({ custom_id: 7 }), [[1, 'invalid_custom_id']]],
    ['has an empty custom_id', request({ custom_id: '' }), [[1, 'invalid_custom_id']]],
    ['has a long custom_id', request({ custom_id: 'x'.repeat(513) }), [[1, 'invalid_custom_id']]],
    ['has a custom_id that Postgres cannot store', request({ custom_id: 'a\0' }), [[1, 'invalid_custom_id']]],
    [
      'has a custom_id twice',
      `${request()}\n${request({ custom_id: 'b' })}\n\n${request()}`,
      [[4, 'duplicate_custom_id']],
    ],
    ['has no method', request({ method: null }), [[1, 'missing_required_parameter']]],
    ['has another method', request({ method: 'GET' }), [[1, 'invalid_method']]],
    ['has no url', request({ url: undefined }), [[1, 'missing_required_parameter']]],
    ['has a url that is none', request({ url: '/chat' }), [[1, 'invalid_url']]],
    ['has a url that is not a text', request({ url: 7 }), [[1, 'invalid_url']]],
    ['has the url of another endpoint', request({ url: '/v1/responses' }), [[1, 'url_mismatch']]],
    ['has no body', request({ body: undefined }), [[1, 'missing_required_parameter']]],
    ['has a body that is no object', request({ body: 'Hi' }), [[1, 'invalid_type']]],
    ['wants a stream', request({ body: { ...body, stream: true } }), [[1, 'streaming_unsupported']]],
    [
      'is not UTF-8',
      Buffer.concat([Buffer.from(`${request()}\n`), Buffer.from('{"é":1}', 'latin1')]),
      [[2, 'invalid_utf8']],
    ],
    ['has a line of 9 MB', `${request()}\n${'x'.repeat(9 << 20)}\n`, [[2, 'line_too_long']]],
  ])('because it %s: the line and the code are told', async (_, file, expected) => {
    expect(await problems(file)).toEqual(expected)
  })

  it('names the line that had the custom_id first', async () => {
    expect((await read(`\n${request()}\n${request()}`))[1]).toMatchObject({
      line: 3,
      param: 'custom_id',
      message: 'The custom_id "a" is that of line 2, too.',
    })
  })

  it(
    'because it has 50,001 lines: the first 50,000 are read',
    async () => {
      const lines = Array.from({ length: MOST_LINES + 5 }, (_, i) => request({ custom_id: `${i}` }))
      const found = await read(lines.join('\n'))
      expect(found.length).toBe(MOST_LINES + 1)
      expect(found.filter(isProblem)).toMatchObject([{ line: 50_001, code: 'too_many_tasks' }])
    },
    SLOW,
  )

  it('is read no further than 100 problems', async () => {
    expect(await problems('no\n'.repeat(1000))).toHaveLength(100)
  })
})

describe('a file of OpenAI’s that is good', () => {
  const read2 = [
    { line: 1, customId: 'a' },
    { line: 2, customId: 'b' },
  ]
  it.each([
    ['a byte order mark', `\uFEFF${request()}\n${request({ custom_id: 'b' })}\n`],
    ['CRLF', `${request()}\r\n${request({ custom_id: 'b' })}\r\n`],
    ['no newline at its end', `${request()}\n${request({ custom_id: 'b' })}`],
    ['fields that nobody asked for', `${request({ more: 1 })}\n${request({ custom_id: 'b' })}`],
  ])('may have %s', async (_, file) => {
    expect(await read(file)).toMatchObject(read2)
  })

  it('may have a line of 5 MB', async () => {
    const messages = Array.from({ length: 10 }, (_, i) => ({
      role: i % 2 === 0 ? 'assistant' : 'user',
      content: 'x'.repeat(500_000),
    }))
    expect(await read(request({ body: { ...body, messages } }))).toMatchObject([{ input: { messages } }])
  })

  it('holds its lines to the options of the batch, and to a model that answers afresh', async () => {
    const [line] = await read(request({ body: { ...body, max_tokens: 7 } }), {
      ...openai,
      options: { on_budget: 'wait', fallback: 'rules', cache: 'use', priority: 'low', max_tokens: 9 },
    })
    expect((line as ParsedLine).options).toEqual({
      model: 'claude-haiku-4-5',
      max_tokens: 7,
      on_budget: 'wait',
      fallback: 'none',
      cache: 'off',
    })
  })
})

describe('a native file that is bad', () => {
  const csv = native({ format: 'csv', template: 'Classify: {{review}}' })
  it.each<[string, ReadOptions, string | Buffer, [number, string][]]>([
    ['empty', native({ format: 'jsonl' }), '', [[1, 'empty_file']]],
    ['an empty array', native({ format: 'json' }), '[]', [[1, 'empty_file']]],
    ['a CSV without a header', csv, '\n', [[1, 'empty_file']]],
    ['a CSV without a row', csv, 'review\n', [[1, 'empty_file']]],
    ['not JSON', native({ format: 'jsonl' }), '{"prompt":"a"}\n{"prompt"', [[2, 'invalid_json_line']]],
    [
      'an array with a bad element',
      native({ format: 'json' }),
      '[{"prompt":"a"},{"prompt":],{"prompt":"b"}]',
      [[2, 'invalid_json']],
    ],
    ['no array', native({ format: 'json' }), '{"prompt":"a"}', [[1, 'invalid_json']]],
    ['an array that is cut off', native({ format: 'json' }), '[{"prompt":"a"},{"pro', [[2, 'invalid_json']]],
    [
      'of numbers',
      native({ format: 'jsonl' }),
      '1\n[]',
      [
        [1, 'invalid_record'],
        [2, 'invalid_record'],
      ],
    ],
    [
      'an envelope with more in it',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"id":1}',
      [[1, 'invalid_record']],
    ],
    [
      'an input that the kind does not take',
      native({ format: 'jsonl' }),
      '{"prompt":1}\n{}\n{"prompt":"a","x":1}',
      [
        [1, 'invalid_input'],
        [2, 'invalid_input'],
        [3, 'invalid_input'],
      ],
    ],
    [
      'an option that is none',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"options":{"temperature":9}}',
      [[1, 'invalid_options']],
    ],
    [
      'an option that is the batch’s',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"options":{"deadline_seconds":9}}',
      [[1, 'invalid_options']],
    ],
    [
      'metadata that is none',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"metadata":[]}',
      [[1, 'invalid_metadata']],
    ],
    [
      'metadata that is too large',
      native({ format: 'jsonl' }),
      `{"input":{"prompt":"a"},"metadata":{"a":"${'é'.repeat(9000)}"}}`,
      [[1, 'invalid_metadata']],
    ],
    [
      'a custom_id that is none',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"custom_id":1}',
      [[1, 'invalid_custom_id']],
    ],
    [
      'a custom_id twice',
      native({ format: 'csv' }),
      'custom_id,prompt\na,x\n"b\nb",y\na,z',
      [[5, 'duplicate_custom_id']],
    ],
    [
      'a model that nobody has',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"options":{"model":"gpt-9"}}',
      [[1, 'model_not_found']],
    ],
    ['what Postgres cannot store', native({ format: 'jsonl' }), '{"prompt":"a\\u0000"}', [[1, 'invalid_text']]],
    [
      'nested too deeply',
      native({ format: 'jsonl' }),
      `{"input":{"prompt":"a","schema":${'{"not":'.repeat(300)}{}${'}'.repeat(301)}}`,
      [[1, 'invalid_record']],
    ],
    [
      'not UTF-8',
      native({ format: 'json' }),
      Buffer.from('[{"prompt":"é"},{"prompt":"a"}]', 'latin1'),
      [[1, 'invalid_utf8']],
    ],
    ['a CSV that is not UTF-8', csv, Buffer.from('review\na\né\nb', 'latin1'), [[3, 'invalid_utf8']]],
    [
      'a CSV with too few columns',
      csv,
      'id,review\n1,"a\nb"\n2\n3,c,d\n4,e',
      [
        [4, 'invalid_csv_record'],
        [5, 'invalid_csv_record'],
      ],
    ],
    ['a CSV with a quote that is never closed', csv, 'id,review\n1,a\n2,"b\n3,c', [[3, 'invalid_csv_record']]],
    ['a CSV with an empty prompt', native({ format: 'csv' }), 'custom_id,prompt\na,\nb,x', [[2, 'invalid_input']]],
    [
      'a CSV that the template is not for',
      native({ format: 'csv', template: '{{text}}' }),
      'id,review\n1,a\n2,b',
      [[1, 'invalid_mapping']],
    ],
  ])('%s: the line and the code are told', async (_, options, file, expected) => {
    expect(await problems(file, options)).toEqual(expected)
  })

  it(
    'because it has 50,001 records',
    async () => {
      const file = '{"prompt":"a"}\n'.repeat(MOST_LINES)
      expect(await problems(file, native({ format: 'jsonl' }))).toEqual([])
      expect(await problems(`${file}{}`, native({ format: 'jsonl' }))).toEqual([[50_001, 'too_many_tasks']])
    },
    SLOW,
  )

  it('names the field', async () => {
    const found = await read(
      '{"prompt":1}\n{"input":{"prompt":"a"},"options":{"cache":"maybe"}}',
      native({ format: 'jsonl' }),
    )
    expect(found).toEqual([
      { line: 1, code: 'invalid_input', param: '/input/prompt', message: '/input/prompt must be string' },
      {
        line: 2,
        code: 'invalid_options',
        param: '/options/cache',
        message: '/options/cache must be one of use, refresh, off',
      },
    ])
  })
})

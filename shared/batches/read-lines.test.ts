import { describe, expect, it } from 'vitest'
import { nativeOptions as native, openaiOptions as openai, readAll as read } from '#shared/testing/read-lines.ts'
import { isProblem, MAX_LINES, type ParsedLine, type ReadOptions } from './read-lines.ts'

/** Generous, for a busy machine. */
const SLOW = 60_000

const problems = async (file: Uint8Array | string, options?: ReadOptions) =>
  (await read(file, options)).filter(isProblem).map(({ line, code }) => [line, code])

const body = { model: 'claude-haiku-4-5', messages: [{ role: 'user', content: 'Hi' }] }
const request = (changes: Record<string, unknown> = {}) =>
  JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body, ...changes })

describe('an invalid OpenAI file', () => {
  it.each<[string, string | Buffer, [number, string][]]>([
    ['is empty', '', [[1, 'empty_file']]],
    ['has only blank lines', '\uFEFF\n\r\n  \n', [[1, 'empty_file']]],
    ['is not JSON', `${request()}\n\nHello\n`, [[3, 'invalid_json_line']]],
    [
      'has a line that is not an object',
      `[1]\n${request()}\nnull`,
      [
        [1, 'invalid_json_line'],
        [3, 'invalid_json_line'],
      ],
    ],
    ['has no custom_id', `${request()}\n${request({ custom_id: undefined })}`, [[2, 'missing_required_parameter']]],
    ['has a custom_id that is not a string', request({ custom_id: 7 }), [[1, 'invalid_custom_id']]],
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
    ['has an unknown url', request({ url: '/chat' }), [[1, 'invalid_url']]],
    ['has a url that is not a text', request({ url: 7 }), [[1, 'invalid_url']]],
    ['has the url of another endpoint', request({ url: '/v1/responses' }), [[1, 'url_mismatch']]],
    ['has no body', request({ body: undefined }), [[1, 'missing_required_parameter']]],
    ['has a body that is not an object', request({ body: 'Hi' }), [[1, 'invalid_type']]],
    ['wants a stream', request({ body: { ...body, stream: true } }), [[1, 'streaming_unsupported']]],
    [
      'is not UTF-8',
      Buffer.concat([Buffer.from(`${request()}\n`), Buffer.from('{"é":1}', 'latin1')]),
      [[2, 'invalid_utf8']],
    ],
    ['has a line of 9 MB', `${request()}\n${'x'.repeat(9 << 20)}\n`, [[2, 'line_too_long']]],
  ])('reports the line and the code if it %s', async (_, file, expected) => {
    expect(await problems(file)).toEqual(expected)
  })

  it('names the line that used the custom_id first', async () => {
    expect((await read(`\n${request()}\n${request()}`))[1]).toMatchObject({
      line: 3,
      param: 'custom_id',
      message: 'The custom_id "a" is used by line 2 already.',
    })
  })

  it(
    'with 50,001 lines is read up to line 50,000',
    async () => {
      const lines = Array.from({ length: MAX_LINES + 5 }, (_, i) => request({ custom_id: `${i}` }))
      const found = await read(lines.join('\n'))
      expect(found.length).toBe(MAX_LINES + 1)
      expect(found.filter(isProblem)).toMatchObject([{ line: 50_001, code: 'too_many_tasks' }])
    },
    SLOW,
  )

  it('is read up to 100 problems', async () => {
    expect(await problems('no\n'.repeat(1000))).toHaveLength(100)
  })
})

describe('a valid OpenAI file', () => {
  const read2 = [
    { line: 1, customId: 'a' },
    { line: 2, customId: 'b' },
  ]
  it.each([
    ['a byte order mark', `\uFEFF${request()}\n${request({ custom_id: 'b' })}\n`],
    ['CRLF', `${request()}\r\n${request({ custom_id: 'b' })}\r\n`],
    ['no newline at its end', `${request()}\n${request({ custom_id: 'b' })}`],
    ['unknown fields', `${request({ more: 1 })}\n${request({ custom_id: 'b' })}`],
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

  it('applies the options of the batch to its lines and bypasses the cache', async () => {
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
      refusals: 'result',
    })
  })
})

describe('an invalid native file', () => {
  const csv = native({ format: 'csv', template: 'Classify: {{review}}' })
  it.each<[string, ReadOptions, string | Buffer, [number, string][]]>([
    ['empty', native({ format: 'jsonl' }), '', [[1, 'empty_file']]],
    ['an empty array', native({ format: 'json' }), '[]', [[1, 'empty_file']]],
    ['a CSV without a header', csv, '\n', [[1, 'empty_file']]],
    ['a CSV without a row', csv, 'review\n', [[1, 'empty_file']]],
    ['not JSON', native({ format: 'jsonl' }), '{"prompt":"a"}\n{"prompt"', [[2, 'invalid_json_line']]],
    [
      'an array with an invalid element',
      native({ format: 'json' }),
      '[{"prompt":"a"},{"prompt":],{"prompt":"b"}]',
      [[2, 'invalid_json']],
    ],
    ['no array', native({ format: 'json' }), '{"prompt":"a"}', [[1, 'invalid_json']]],
    ['an array that is cut off', native({ format: 'json' }), '[{"prompt":"a"},{"pro', [[2, 'invalid_json']]],
    [
      'an array of numbers',
      native({ format: 'jsonl' }),
      '1\n[]',
      [
        [1, 'invalid_record'],
        [2, 'invalid_record'],
      ],
    ],
    [
      'an envelope with an unknown field',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"id":1}',
      [[1, 'invalid_record']],
    ],
    [
      'an input that does not fit the kind',
      native({ format: 'jsonl' }),
      '{"prompt":1}\n{}\n{"prompt":"a","x":1}',
      [
        [1, 'invalid_input'],
        [2, 'invalid_input'],
        [3, 'invalid_input'],
      ],
    ],
    [
      'an unknown option',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"options":{"temperature":9}}',
      [[1, 'invalid_options']],
    ],
    [
      'an option of the batch',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"options":{"deadline_seconds":9}}',
      [[1, 'invalid_options']],
    ],
    [
      'invalid metadata',
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
      'an invalid custom_id',
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
      'an unknown model',
      native({ format: 'jsonl' }),
      '{"input":{"prompt":"a"},"options":{"model":"gpt-9"}}',
      [[1, 'model_not_found']],
    ],
    ['what Postgres cannot store', native({ format: 'jsonl' }), '{"prompt":"a\\u0000"}', [[1, 'invalid_text']]],
    [
      'nesting that is too deep',
      native({ format: 'jsonl' }),
      `{"input":{"prompt":"a","schema":${'{"not":'.repeat(300)}{}${'}'.repeat(301)}}`,
      [[1, 'invalid_record']],
    ],
    [
      'invalid UTF-8',
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
      'a CSV without the columns of the template',
      native({ format: 'csv', template: '{{text}}' }),
      'id,review\n1,a\n2,b',
      [[1, 'invalid_mapping']],
    ],
  ])('%s: reports the line and the code', async (_, options, file, expected) => {
    expect(await problems(file, options)).toEqual(expected)
  })

  it(
    'with 50,001 records is read up to record 50,000',
    async () => {
      const file = '{"prompt":"a"}\n'.repeat(MAX_LINES)
      expect(await problems(file, native({ format: 'jsonl' }))).toEqual([])
      expect(await problems(`${file}{}`, native({ format: 'jsonl' }))).toEqual([[50_001, 'too_many_tasks']])
    },
    SLOW,
  )

  it.each(['jsonl', 'json'] as const)('with OpenAI lines refers to the OpenAI API: %s', async format => {
    const line = JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/responses', body: { model: 'gpt-5.4' } })
    const file = format === 'json' ? `[${line},${line}]` : `${line}\n${line}`
    const message = expect.stringMatching(/POST \/v1\/files .* POST \/v1\/batches \(endpoint "\/v1\/responses"\)/)
    expect(await read(file, native({ format }))).toEqual(
      [1, 2].map(line => ({ line, code: 'openai_line', param: null, message })),
    )
  })

  it('names the field', async () => {
    const found = await read(
      '{"prompt":1}\n{"input":{"prompt":"a"},"options":{"cache":"maybe"}}',
      native({ format: 'jsonl' }),
    )
    expect(found).toEqual([
      { line: 1, code: 'invalid_input', param: '/input/prompt', message: '`input.prompt` must be a string, not 1.' },
      {
        line: 2,
        code: 'invalid_options',
        param: '/options/cache',
        message: '`options.cache` must be one of "use", "refresh", "off".',
      },
    ])
  })
})

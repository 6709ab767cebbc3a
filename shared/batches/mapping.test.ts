import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { all, inChunks } from '#shared/testing/byte-chunks.ts'
import type { Mapping } from './mapping.ts'
import { readLines } from './read-lines.ts'

const read = (file: string, mapping: Mapping, options: Record<string, unknown> = {}) =>
  all(
    readLines(inChunks(file), {
      surface: 'native',
      endpoint: null,
      kind: 'generate',
      mapping,
      options,
      jobs,
      isKnownModel: () => true,
    }),
  )
const complaint = async (header: string, mapping: Omit<Mapping, 'format'>) =>
  (await read(`${header}\na,b\nc,d\n`, { format: 'csv', ...mapping })).map(one =>
    'code' in one ? [one.line, one.message] : one,
  )

describe('the rows of a CSV', () => {
  it('become inputs by the names of their columns', async () => {
    expect(
      await read('custom_id,system,prompt,more,schema\nx,,Hi,1,"{""type"":""object""}"\n,Be brief,"a\nb",2,\n', {
        format: 'csv',
      }),
    ).toMatchObject([
      { line: 2, customId: 'x', kind: 'generate', input: { prompt: 'Hi', schema: { type: 'object' } } },
      { line: 3, customId: null, input: { prompt: 'a\nb', system: 'Be brief' } },
    ])
  })

  it('become inputs by the mapped columns', async () => {
    const mapping: Mapping = { format: 'csv', columns: { prompt: 'review', system: 'how' }, custom_id: 'id' }
    expect(await read(' id ;review;how\n1;Nice;Be brief\n', { ...mapping, delimiter: ';' })).toMatchObject([
      { line: 2, customId: '1', input: { prompt: 'Nice', system: 'Be brief' } },
    ])
  })

  it('fill a template unchanged', async () => {
    const mapping: Mapping = {
      format: 'csv',
      template: 'Is {{ review }} of {{who}}? {{review}} {one}',
      columns: { system: 'who' },
    }
    expect(await read('review,who,prompt\n$& {{who}} $1,"A, ""B""",x\n', mapping)).toMatchObject([
      { input: { prompt: 'Is $& {{who}} $1 of A, "B"? $& {{who}} $1 {one}', system: 'A, "B"' } },
    ])
    expect(await read('review\nx', { format: 'csv', template: '{{review}}' })).toMatchObject([
      { input: { prompt: 'x' } },
    ])
  })

  it.each<[string, string, Omit<Mapping, 'format'>, string]>([
    [
      'a template with an unknown column',
      'id,review',
      { template: '{{text}} {{body}}' },
      'There is no column "text"; there are id, review.',
    ],
    [
      'columns with an unknown column',
      'id,review',
      { columns: { prompt: 'text' } },
      'There is no column "text"; there are id, review.',
    ],
    [
      'columns with an unknown field',
      'id,review',
      { columns: { text: 'review' } },
      'generate has no field "text"; it has prompt, messages, system, schema, tools, tool_choice, stop, reasoning_effort.',
    ],
    [
      'a property of every JavaScript object',
      'id,review',
      { columns: { toString: 'review' } },
      'generate has no field "toString"; it has prompt, messages, system, schema, tools, tool_choice, stop, reasoning_effort.',
    ],
    ['a column that is there twice', 'review,review', { template: '{{review}}' }, 'There are two columns "review".'],
    ['a template without a column', 'id,review', { template: 'Hi' }, 'The template names no column, as {{column}}.'],
    [
      'two sources of the prompt',
      'id,review',
      { template: '{{review}}', columns: { prompt: 'id' } },
      'Both template and columns say what the prompt is.',
    ],
    [
      'no column that can be mapped',
      'id,review',
      {},
      'No column is named as a field of generate: name it in columns, or give a template.',
    ],
    [
      'a missing custom_id column',
      'id,review',
      { template: '{{review}}', custom_id: 'key' },
      'There is no column "key"; there are id, review.',
    ],
  ])('cannot be read with %s: one problem', async (_, header, mapping, message) => {
    expect(await complaint(header, mapping)).toEqual([[1, message]])
  })
})

describe('the records of JSON', () => {
  const input = { prompt: 'Hi' }
  it('are inputs, or envelopes if they have a field `input`', async () => {
    const envelope = { input, custom_id: 'x', options: { model: 'm', max_tokens: 5 }, metadata: { a: 1 } }
    const records = [input, envelope, { input, custom_id: null, metadata: null }]
    const options = { max_tokens: 9, temperature: 1, priority: 'low', deadline_seconds: 60 }
    const defaults = { on_budget: 'fallback', cache: 'use' }
    const expected = [
      {
        line: 1,
        customId: null,
        kind: 'generate',
        input,
        options: { max_tokens: 9, temperature: 1, ...defaults },
        metadata: null,
      },
      {
        line: 2,
        customId: 'x',
        kind: 'generate',
        input,
        options: { max_tokens: 5, temperature: 1, model: 'm', ...defaults },
        metadata: { a: 1 },
      },
      {
        line: 3,
        customId: null,
        kind: 'generate',
        input,
        options: { max_tokens: 9, temperature: 1, ...defaults },
        metadata: null,
      },
    ]
    expect(await read(JSON.stringify(records), { format: 'json' }, options)).toEqual(expected)
    expect(await read(records.map(one => JSON.stringify(one)).join('\n'), { format: 'jsonl' }, options)).toEqual(
      expected,
    )
  })
})

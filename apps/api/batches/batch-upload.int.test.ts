import { once } from 'node:events'
import { connect } from 'node:net'
import fc from 'fast-check'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import {
  asking,
  BATCHES,
  batchesWith,
  createNative,
  jsonl,
  line,
  type Settings,
} from '#shared/testing/native-batches.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
let key: string
beforeEach(async () => {
  stack.upstream.reset()
  key = (await stack.makeKey()).secret
})

const { call, send, sendForm, ended, resultsOf, prompts, asked, kept, leavesNothing } = createNative(stack, () => key)

const CSV = 'id,review\n1,"Good,\nreally"\n2,Bad\n'
const TEMPLATE = { template: 'Classify: {{review}}', custom_id: 'id' }

describe('an Idempotency-Key', () => {
  const once = (body: unknown, settings = asking(), idempotencyKey = 'nightly') =>
    call('POST', batchesWith(settings), { body, headers: { 'idempotency-key': idempotencyKey } })

  it('creates one batch and one file for a repeated request', async () => {
    const lines = ['a', 'b'].map(line)
    const first = await once(lines)
    expect(first.status).toBe(202)
    const done = await ended(first.body)
    const before = await kept()
    const again = await once(lines)
    expect(again).toMatchObject({ status: 202, body: done })
    expect(again.headers.get('location')).toBe(first.body.urls.self)
    for (const other of [await once(lines.slice(1)), await once(lines, asking({ completion_window: '2h' }))])
      expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_mismatch' } })
    for (const wrong of ['', 'a b', 'x'.repeat(256)])
      expect(await once(lines, asking(), wrong)).toMatchObject({ status: 400, body: { code: 'invalid_header' } })
    await leavesNothing(before)
    expect(asked()).toEqual({ a: 1, b: 1 })
  })

  it('creates one batch for concurrent requests, and is shared with tasks', async () => {
    const sent = await Promise.all([1, 2, 3].map(() => once([line('a')])))
    expect(sent.map(one => one.status)).toEqual([202, 202, 202])
    expect(new Set(sent.map(one => one.body.id)).size).toBe(1)
    const task = await stack.submit({}, { key, headers: { 'idempotency-key': 'nightly' } })
    expect(task).toMatchObject({ status: 422, body: { code: 'idempotency_mismatch' } })
    await ended(sent[0]!.body)
    expect(asked()).toEqual({ a: 1 })
  })
})

describe('a dry run', () => {
  it('returns the number of lines and the maximum cost, and stores nothing', async () => {
    const before = await kept()
    const dry = asking({ dry_run: 'true' }, { model: 'claude-haiku-4-5', max_tokens: 100 })
    const checked = [await send(dry, ['a', 'b', 'c'].map(line)), await sendForm(dry, jsonl(['a', 'b', 'c'].map(line)))]
    for (const { status, body } of checked) {
      expect(status).toBe(200)
      const model = 'claude-haiku-4-5'
      expect(body).toEqual({ valid: true, lines: 3, errors: [], cost_bound_usd: expect.any(Number), model })
      // 100 output tokens each at $5 per million, plus the input.
      expect(body.cost_bound_usd).toBeGreaterThan(0.0015)
      expect(body.cost_bound_usd).toBeLessThan(0.01)
    }
    await leavesNothing(before)
    expect(asked()).toEqual({})
  })

  it.each<[string, Settings, string, string, [number, string][]]>([
    ['not JSON', {}, '{"prompt":"a"}\n{"prompt', 'application/jsonl', [[2, 'invalid_json_line']]],
    ['an array that is cut off', {}, '[{"prompt":"a"},', 'application/json', [[2, 'invalid_json']]],
    ['an empty array', {}, '[]', 'application/json', [[1, 'empty_file']]],
    ['nothing', {}, '', 'application/jsonl', [[1, 'empty_file']]],
    ['a header alone', TEMPLATE, 'id,review\n', 'text/csv', [[1, 'empty_file']]],
    [
      'too many cells',
      TEMPLATE,
      `${CSV}3,x,y\n4\n`,
      'text/csv',
      [
        [5, 'invalid_csv_record'],
        [6, 'invalid_csv_record'],
      ],
    ],
    ['an open quote', TEMPLATE, `${CSV}3,"x\n`, 'text/csv', [[5, 'invalid_csv_record']]],
    ['no such column', { template: '{{colour}}' }, CSV, 'text/csv', [[1, 'invalid_mapping']]],
    ['a field of no such kind', { columns: '{"colour":"review"}' }, CSV, 'text/csv', [[1, 'invalid_mapping']]],
    ['a custom_id twice', TEMPLATE, `${CSV}1,x\n`, 'text/csv', [[5, 'duplicate_custom_id']]],
    ['a line that is not an object', {}, '[1]', 'application/json', [[1, 'invalid_record']]],
    [
      'an unknown option',
      {},
      '[{"input":{"prompt":"a"},"options":{"colour":1}}]',
      'application/json',
      [[1, 'invalid_options']],
    ],
    [
      'an unknown model',
      {},
      '[{"input":{"prompt":"a"},"options":{"model":"gpt-9"}}]',
      'application/json',
      [[1, 'model_not_found']],
    ],
    ['what cannot be stored', {}, '[{"prompt":"\\u0000"}]', 'application/json', [[1, 'invalid_text']]],
  ])('reports %s with its line', async (_, settings, content, type, expected) => {
    const before = await kept()
    const { status, body } = await send(asking({ ...settings, dry_run: 'true' }), content, type)
    expect(status).toBe(200)
    expect(body).toMatchObject({ valid: false, cost_bound_usd: null })
    expect(body.errors.map((one: { line: number; code: string }) => [one.line, one.code])).toEqual(expected)
    await leavesNothing(before)
  })

  it('answers 200 to any bytes', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map(some => Buffer.from(some)),
      fc.array(fc.json({ maxDepth: 3 })).map(some => Buffer.from(some.join('\n'))),
      fc.string({ unit: fc.constantFrom(...'{}[]",:\\\n\r; a1\u{FEFF}é') }).map(some => Buffer.from(some)),
    )
    const types = fc.constantFrom('text/csv', 'application/json', 'application/jsonl')
    await fc.assert(
      fc.asyncProperty(bytes, types, async (content, type) => {
        const response = await fetch(`http://127.0.0.1:${stack.api.port}${batchesWith(asking({ dry_run: 'true' }))}`, {
          method: 'POST',
          headers: { authorization: `Bearer ${key}`, 'content-type': type },
          body: content,
        })
        expect(response.status).toBe(200)
        const body = (await response.json()) as { valid: boolean; errors: unknown[]; lines: number }
        expect(body.valid).toBe(body.errors.length === 0)
        if (body.valid) expect(body.lines).toBeGreaterThan(0)
      }),
      { numRuns: 60 },
    )
  })
})

it('no line is lost, whatever it contains', async () => {
  const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter(one => !one.includes('\0'))
  const texts = [...new Set(fc.sample(text, { numRuns: 60, seed: 7 }))]
  const cell = (value: string) => `"${value.replaceAll('"', '""')}"`
  const records = texts.map((prompt, i) => ({ custom_id: `${i}${prompt}`, input: { prompt } }))
  const rows = records.map(one => `${cell(one.custom_id)},${cell(one.input.prompt)}`)
  const inputs = [
    [JSON.stringify(records), 'application/json'],
    [jsonl(records), 'application/jsonl'],
    [['custom_id,prompt', ...rows].join('\r\n'), 'text/csv'],
  ] as const
  for (const [content, type] of inputs) {
    stack.upstream.reset()
    const { body } = await send(asking(), content, type)
    expect(await ended(body)).toMatchObject({ status: 'completed', counts: { succeeded: texts.length } })
    expect((await resultsOf(body)).map(one => one.custom_id)).toEqual(records.map(one => one.custom_id))
    expect(prompts()).toEqual(texts.toSorted())
  }
})

describe('a batch is refused:', () => {
  const GOOD = jsonl([line('a')])
  it.each<[string, Settings, string]>([
    ['no kind', { kind: '' }, 'kind'],
    ['another kind', { kind: 'colour' }, 'kind'],
    ['another format', { format: 'xml' }, 'format'],
    ['columns that are no JSON', { format: 'csv', columns: '{' }, 'columns'],
    ['columns that are no object', { format: 'csv', columns: '[]' }, 'columns'],
    ['columns that are no names', { format: 'csv', columns: '{"prompt":1}' }, 'columns'],
    ['columns of what has none', { columns: '{"prompt":"review"}' }, 'columns'],
    ['a template of what has no columns', { template: '{{review}}' }, 'template'],
    ['a column of what has none', { custom_id: 'id' }, 'custom_id'],
    ['a delimiter of what has none', { delimiter: ';' }, 'delimiter'],
    ['an empty template', { format: 'csv', template: '' }, 'template'],
    ['another delimiter', { format: 'csv', delimiter: 'x' }, 'delimiter'],
    ['options that are no JSON', { options: '{' }, 'options'],
    ['options that are no object', { options: 'null' }, 'options'],
    ['an unknown option', { options: '{"colour":"red"}' }, 'options/colour'],
    ['an option that is wrong', { options: '{"temperature":9}' }, 'options/temperature'],
    ['a deadline', { options: '{"deadline_seconds":60}' }, 'options/deadline_seconds'],
    ['a stream', { options: '{"stream":true}' }, 'options/stream'],
    ['a webhook to a private address', { options: '{"webhook_url":"http://10.0.0.1/"}' }, 'options/webhook_url'],
    ['an invalid webhook URL', { options: '{"webhook_url":"x"}' }, 'options/webhook_url'],
    ['metadata that is not JSON', { metadata: 'x' }, 'metadata'],
    ['metadata that is not an object', { metadata: '"x"' }, 'metadata'],
    ['metadata that cannot be stored', { metadata: '{"a":"\\u0000"}' }, 'metadata'],
    ['another window', { completion_window: '1d' }, 'completion_window'],
    ['too long a window', { completion_window: '169h' }, 'completion_window'],
    ['no window', { completion_window: '0h' }, 'completion_window'],
    ['an invalid cost', { max_cost_usd: 'x' }, 'max_cost_usd'],
    ['a cost below nothing', { max_cost_usd: '-1' }, 'max_cost_usd'],
    ['too fine a cost', { max_cost_usd: '0.0000000000001' }, 'max_cost_usd'],
    ['neither a dry run nor none', { dry_run: '1' }, 'dry_run'],
    ['an unknown setting', { colour: 'red' }, 'colour'],
  ])('%s, with the field named and nothing left', async (_, settings, field) => {
    const before = await kept()
    const all = { kind: 'generate', ...settings }
    const context = { field: expect.stringMatching(new RegExp(`^/${field}`)) }
    for (const answer of [await send(all, GOOD, 'application/jsonl'), await sendForm(all, GOOD)]) {
      expect(answer).toMatchObject({ status: 422, body: { context } })
      expect(answer.body.code).toMatch(/^(invalid_request|invalid_text|unknown_field)$/)
      if (answer.body.code !== 'invalid_text') expect(answer.body.detail).toContain(`\`${field.replace('/', '.')}`)
    }
    await leavesNothing(before)
  })

  it('settings nested too deeply', async () => {
    const deep = `{"a":${'['.repeat(7000)}${']'.repeat(7000)}}`
    for (const field of ['options', 'metadata'])
      expect((await sendForm({ kind: 'generate', [field]: deep }, GOOD)).body).toMatchObject({
        status: 422,
        context: { field: `/${field}` },
      })
  })

  it('a setting given twice', async () => {
    const before = await kept()
    const twice = [
      await sendForm({ kind: 'generate' }, GOOD, 'in.jsonl', { kind: 'generate' }),
      await call('POST', `${BATCHES}?kind=generate&kind=generate`, { body: [line('a')] }),
    ]
    for (const answer of twice) expect(answer).toMatchObject({ status: 422, body: { context: { field: '/kind' } } })
    await leavesNothing(before)
  })

  it('a form without a format or a file', async () => {
    const before = await kept()
    const unnamed = await sendForm({ kind: 'generate' }, GOOD, 'lines')
    expect(unnamed).toMatchObject({ status: 422, body: { context: { field: '/format' } } })
    const empty = await sendForm({ kind: 'generate' }, null)
    expect(empty).toMatchObject({ status: 422, body: { context: { field: '/file' } } })
    const large = await sendForm({ kind: 'generate', metadata: JSON.stringify({ a: 'x'.repeat(17_000) }) }, GOOD)
    expect(large).toMatchObject({ status: 413, body: { code: 'field_too_large', context: { field: '/metadata' } } })
    const part = 'x'.repeat(200_000)
    const together = await sendForm({ kind: 'generate', options: part, columns: part, template: part }, GOOD)
    expect(together).toMatchObject({ status: 413, body: { context: { field: '/template', limit_bytes: 524_288 } } })
    await leavesNothing(before)
  })

  it('another content type', async () => {
    for (const type of ['text/plain', 'application/xml'])
      expect(await send(asking(), GOOD, type)).toMatchObject({ status: 415, body: { code: 'unsupported_media_type' } })
  })

  it('a large body with a wrong setting, and the client can read the answer', async () => {
    const before = await kept()
    const answer = await send(asking({ colour: 'red' }), 'x'.repeat(20_000_000), 'application/jsonl')
    expect(answer).toMatchObject({ status: 422, body: { context: { field: '/colour' } } })
    await leavesNothing(before)
  })

  it('a body that declares more than 200 MB, before it is sent', async () => {
    const before = await kept()
    const socket = connect(stack.api.port, '127.0.0.1').setEncoding('utf8')
    const lines = [`authorization: Bearer ${key}`, 'content-type: application/jsonl', 'content-length: 251658240']
    socket.write(`POST ${batchesWith(asking())} HTTP/1.1\r\nhost: a\r\n${lines.join('\r\n')}\r\n\r\n`)
    const [text] = (await once(socket, 'data')) as [string]
    socket.destroy()
    expect(text).toMatch(/^HTTP\/1.1 413 /)
    expect(text).toContain('"body_too_large"')
    await leavesNothing(before)
  })

  it('a body that is cut off leaves nothing behind', async () => {
    const before = await kept()
    const leave = new AbortController()
    async function* pieces() {
      yield Buffer.alloc(3_000_000, 'x')
      await vi.waitFor(
        async () => expect(await stack.sql(`SELECT 1 FROM files WHERE status = 'uploading'`)).toHaveLength(1),
        20_000,
      )
      leave.abort()
      yield Buffer.alloc(10)
    }
    const sent = fetch(`http://127.0.0.1:${stack.api.port}${batchesWith(asking())}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/jsonl' },
      body: ReadableStream.from(pieces()),
      signal: leave.signal,
      duplex: 'half',
    } as RequestInit)
    await expect(sent).rejects.toMatchObject({ name: 'AbortError' })
    await leavesNothing(before)
  })
})

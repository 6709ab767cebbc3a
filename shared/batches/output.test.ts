import { parse } from 'csv-parse/sync'
import fc from 'fast-check'
import type { ChatCompletion } from 'openai/resources/chat/completions'
import type { Response } from 'openai/resources/responses/responses'
import { describe, expect, it } from 'vitest'
import type { EndedLine } from '#shared/db/batches/read-lines.ts'
import { ERRORS } from '#shared/errors.ts'
import { rejectedError } from './openai.ts'
import { csvHeader, csvOutputLine, nativeOutputLine, openAiOutputLine } from './output.ts'

const CHAT = '/v1/chat/completions'
const HEX = '019a9f0c5d7e7cc2a1b2c3d4e5f60718'

const ended = (changes: Partial<EndedLine> = {}): EndedLine => ({
  task_id: '019a9f0c-5d7e-7cc2-a1b2-c3d4e5f60718',
  line: 3,
  custom_id: 'request-1',
  kind: 'generate',
  status: 'succeeded',
  result: { text: 'Hello' },
  source: 'ai',
  quality: 'high',
  provider: 'anthropic',
  model: 'claude-haiku-4-5',
  error: null,
  input: { messages: [{ role: 'user', content: 'Hi' }] },
  options: { model: 'claude-haiku-4-5', max_tokens: 100, temperature: 0.5 },
  input_tokens: 10,
  output_tokens: 20,
  cache_read_tokens: 0,
  cache_write_tokens: 0,
  reasoning_tokens: 0,
  finish_reason: 'stop',
  answer_tokens: 20,
  cost_usd: '0.000110000000',
  created_at: new Date('2026-01-02T03:04:05.600Z'),
  finished_at: new Date('2026-01-02T03:05:05.600Z'),
  ...changes,
})
const failed = (code: string, context?: Record<string, unknown>) =>
  ended({ status: 'failed', result: null, error: { code, message: 'Why.', ...(context && { context }) } })
const written = (line: EndedLine, endpoint = CHAT) => {
  const { file, text } = openAiOutputLine(endpoint, line)
  expect(text).not.toContain('\n')
  return { file, ...JSON.parse(text) }
}

it('is not reported as truncated because rejected answers had many tokens', () => {
  const line = ended({ finish_reason: null, output_tokens: 110, answer_tokens: 50 })
  expect(written(line).response.body.choices[0].finish_reason).toBe('stop')
  expect(written(line, '/v1/responses').response.body.status).toBe('completed')
})

describe('the answer to a chat completion', () => {
  const completion = {
    id: `chatcmpl-${HEX}`,
    object: 'chat.completion',
    created: 1_767_323_105,
    model: 'claude-haiku-4-5',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage: {
      prompt_tokens: 10,
      completion_tokens: 20,
      total_tokens: 30,
      prompt_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0 },
    },
  } satisfies ChatCompletion

  it('has the type of the SDK', () => {
    expect(written(ended())).toEqual({
      file: 'output',
      id: `batch_req_${HEX}`,
      custom_id: 'request-1',
      response: { status_code: 200, request_id: `req_${HEX}`, body: completion },
      error: null,
    })
  })

  it('reports truncation', () => {
    const reasonOf = (line: EndedLine): ChatCompletion.Choice['finish_reason'] =>
      written(line).response.body.choices[0].finish_reason
    expect(reasonOf(ended({ finish_reason: 'length', options: {} }))).toBe('length')
    expect(reasonOf(ended({ finish_reason: 'stop', answer_tokens: 100 }))).toBe('stop')
    // Earlier versions did not store it.
    expect(reasonOf(ended({ finish_reason: null, answer_tokens: 100 }))).toBe('length')
  })

  it('can be a refusal, whatever format was requested', () => {
    const line = ended({ result: { text: 'No.' }, finish_reason: 'refusal', input: { messages: [], schema: {} } })
    const { file, response } = written(line)
    expect([file, response.status_code]).toEqual(['output', 200])
    expect(response.body.choices[0]).toMatchObject({
      message: { content: null, refusal: 'No.' },
      finish_reason: 'stop',
    })
  })

  it('contains the text that a content filter left', () => {
    const choice = (text: string) =>
      written(ended({ result: { text }, finish_reason: 'content_filter' })).response.body.choices[0]
    expect(choice('Half')).toMatchObject({
      message: { content: 'Half', refusal: null },
      finish_reason: 'content_filter',
    })
    expect(choice('')).toMatchObject({ message: { content: null }, finish_reason: 'content_filter' })
  })

  it('counts cached, cache-written and reasoning tokens', () => {
    const line = ended({ cache_read_tokens: 4, cache_write_tokens: 3, reasoning_tokens: 12 })
    expect(written(line).response.body.usage).toMatchObject({
      prompt_tokens_details: { cached_tokens: 4, cache_write_tokens: 3 },
      completion_tokens_details: { reasoning_tokens: 12 },
    })
    expect(written(line, '/v1/responses').response.body.usage).toMatchObject({
      input_tokens_details: { cached_tokens: 4, cache_write_tokens: 3 },
      output_tokens_details: { reasoning_tokens: 12 },
    })
  })

  it('is the JSON of the requested schema, which may have a field `text`', () => {
    const content = (result: unknown) =>
      written(ended({ result, input: { messages: [], schema: {} } })).response.body.choices[0].message.content
    expect(content({ n: 1 })).toBe('{"n":1}')
    expect(content({ text: 'Hello' })).toBe('{"text":"Hello"}')
    expect(content('Hello')).toBe('"Hello"')
  })
})

describe('the answer to a response', () => {
  const response = {
    id: `resp_${HEX}`,
    object: 'response',
    created_at: 1_767_323_105,
    status: 'completed',
    error: null,
    access_programs: null,
    incomplete_details: null,
    instructions: null,
    max_output_tokens: 100,
    metadata: null,
    model: 'claude-haiku-4-5',
    output: [
      {
        id: `msg_${HEX}`,
        type: 'message',
        role: 'assistant',
        status: 'completed',
        content: [{ type: 'output_text', text: 'Hello', annotations: [], logprobs: [] }],
      },
    ],
    parallel_tool_calls: true,
    previous_response_id: null,
    temperature: 0.5,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    truncation: 'disabled',
    usage: {
      input_tokens: 10,
      input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
      output_tokens: 20,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 30,
    },
    // Fields that the SDK adds.
  } satisfies Omit<Response, 'output_text'>

  it('has the type of the SDK', () => {
    const { file, response: answer } = written(ended(), '/v1/responses')
    expect({ file, answer }).toEqual({
      file: 'output',
      answer: { status_code: 200, request_id: `req_${HEX}`, body: response },
    })
  })

  it('reports that it is incomplete', () => {
    expect(written(ended({ finish_reason: 'length' }), '/v1/responses').response.body).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      output: [{ status: 'incomplete' }],
    } satisfies { status: Response['status']; incomplete_details: Response['incomplete_details']; output: object[] })
    expect(written(ended({ finish_reason: 'content_filter' }), '/v1/responses').response.body).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'content_filter' },
    })
  })

  it('is a refusal', () => {
    const line = ended({ result: { text: 'No.' }, finish_reason: 'refusal' })
    expect(written(line, '/v1/responses').response.body).toMatchObject({
      status: 'completed',
      output: [{ content: [{ type: 'refusal', refusal: 'No.' }] }],
    })
  })
})

describe('a line without an answer', () => {
  const error = (line: EndedLine) => {
    const { file, custom_id, response, error } = written(line)
    expect([file, custom_id]).toEqual(['error', 'request-1'])
    return response === null ? error.code : [error, response.status_code, response.body.error]
  }

  it('reports the rejection of its request', () => {
    const said = { message: 'No.', type: 'image_error', param: 'temperature', code: 'invalid_value' }
    const rejected = rejectedError({ status: 400, error: said })
    expect(error(ended({ status: 'failed', error: rejected }))).toEqual([null, 400, said])
  })

  it('reports the rejection of its request without details', () => {
    expect(error(failed('invalid_request'))).toEqual([
      null,
      422,
      { message: 'Why.', type: 'invalid_request_error', param: null, code: 'invalid_request' },
    ])
  })

  it.each([
    ['provider_rejected', 422, 'invalid_request_error'],
    ['model_price_unknown', 422, 'invalid_request_error'],
    ['budget_exceeded', 402, 'insufficient_quota'],
    ['provider_failed', 502, 'server_error'],
    ['invalid_output', 502, 'server_error'],
    ['no_provider', 503, 'server_error'],
    ['worker_lost', 500, 'server_error'],
    ['toString', 500, 'server_error'],
  ])('failed: %s becomes a response with status %i', (code, status, type) => {
    expect(error(failed(code))).toEqual([null, status, { message: 'Why.', type, param: null, code }])
  })

  it('reports that its request expired or was cancelled', () => {
    expect(error(ended({ status: 'expired', result: null }))).toBe('batch_expired')
    expect(error(ended({ status: 'cancelled', result: null }))).toBe('batch_cancelled')
    expect(error(failed('deadline_exceeded'))).toBe('request_timeout')
  })

  it('has an output line for every error code', () => {
    for (const code of Object.keys(ERRORS)) expect(written(failed(code)).file).toBe('error')
  })
})

describe('native results', () => {
  it('as JSON', () => {
    expect(JSON.parse(nativeOutputLine(ended()))).toEqual({
      task_id: `task_${HEX}`,
      line: 3,
      custom_id: 'request-1',
      status: 'succeeded',
      result: { text: 'Hello' },
      source: 'ai',
      quality: 'high',
      provider: 'anthropic',
      model: 'claude-haiku-4-5',
      finish_reason: 'stop',
      usage: {
        input_tokens: 10,
        output_tokens: 20,
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
      },
      cost_usd: 0.00011,
      error: null,
    })
    expect(JSON.parse(nativeOutputLine(failed('provider_failed')))).toMatchObject({
      status: 'failed',
      result: null,
      error: { code: 'provider_failed', message: 'Why.' },
    })
  })

  const csv = (line: EndedLine) =>
    parse(`${csvHeader()}\n${csvOutputLine(line)}`, { columns: true })[0] as Record<string, string>

  it('as CSV, whatever a model wrote', () => {
    const text = fc
      .array(fc.constantFrom('a', '"', ',', '\n', '\r\n', '😀', ' ', '-'), { maxLength: 8 })
      .map(parts => `x${parts.join('')}`)
    fc.assert(
      fc.property(text, text, (text, custom_id) => {
        expect(csv(ended({ result: { text }, custom_id }))).toMatchObject({
          task_id: `task_${HEX}`,
          line: '3',
          custom_id,
          result: text,
          input_tokens: '10',
          cost_usd: '0.00011',
          error_code: '',
        })
      }),
    )
    expect(csv(ended({ result: { text: 'a', more: 1 } })).result).toBe('{"text":"a","more":1}')
    expect(csv(failed('provider_failed'))).toMatchObject({
      result: '',
      error_code: 'provider_failed',
      error_message: 'Why.',
    })
  })

  it.each([
    ['=1+1', "'=1+1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['-2+3+cmd|x!A1', "'-2+3+cmd|x!A1"],
    ['+49 30', "'+49 30"],
    ['\t=1', "'\t=1"],
    ['\n=1', "'\n=1"],
    ['＝1', "'＝1"],
    ['-12.5', '-12.5'],
    ['+1', '+1'],
    ['a=1', 'a=1'],
  ])('as CSV contain no formulas: %j is %j', (text, expected) => {
    expect(csv(ended({ result: { text } })).result).toBe(expected)
  })
})

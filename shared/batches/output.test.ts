import { parse } from 'csv-parse/sync'
import fc from 'fast-check'
import type { ChatCompletion } from 'openai/resources/chat/completions'
import type { Response } from 'openai/resources/responses/responses'
import { describe, expect, it } from 'vitest'
import { ERRORS } from '#shared/errors.ts'
import { rejectedError } from './openai.ts'
import { csvHeader, csvOutputLine, type EndedLine, nativeOutputLine, openAiOutputLine } from './output.ts'

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

it('was not cut off because earlier answers, which were of no use, had many tokens, too', () => {
  const line = ended({ output_tokens: 110, answer_tokens: 50 })
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
    usage: { prompt_tokens: 10, completion_tokens: 20, total_tokens: 30 },
  } satisfies ChatCompletion

  it('is what the SDK knows', () => {
    expect(written(ended())).toEqual({
      file: 'output',
      id: `batch_req_${HEX}`,
      custom_id: 'request-1',
      response: { status_code: 200, request_id: `req_${HEX}`, body: completion },
      error: null,
    })
  })

  it('says that it was cut off', () => {
    const [choice] = written(ended({ answer_tokens: 100 })).response.body.choices
    expect(choice.finish_reason satisfies ChatCompletion.Choice['finish_reason']).toBe('length')
  })

  it('is the JSON that a schema wanted, which may be an object with a text', () => {
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
        content: [{ type: 'output_text', text: 'Hello', annotations: [] }],
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
    // What the SDK adds when it reads one.
  } satisfies Omit<Response, 'output_text'>

  it('is what the SDK knows', () => {
    const { file, response: answer } = written(ended(), '/v1/responses')
    expect({ file, answer }).toEqual({
      file: 'output',
      answer: { status_code: 200, request_id: `req_${HEX}`, body: response },
    })
  })

  it('says that it is incomplete', () => {
    expect(written(ended({ answer_tokens: 101 }), '/v1/responses').response.body).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      output: [{ status: 'incomplete' }],
    } satisfies { status: Response['status']; incomplete_details: Response['incomplete_details']; output: object[] })
  })
})

describe('a line without an answer', () => {
  const error = (line: EndedLine) => {
    const { file, custom_id, response, error } = written(line)
    expect([file, custom_id]).toEqual(['error', 'request-1'])
    return response === null ? error.code : [error, response.status_code, response.body.error]
  }

  it('was refused for what it asked', () => {
    const said = { message: 'No.', type: 'image_error', param: 'temperature', code: 'invalid_value' }
    const rejected = rejectedError({ status: 400, error: said })
    expect(error(ended({ status: 'failed', error: rejected }))).toEqual([null, 400, said])
  })

  it('was refused for what it asked, also if nothing but that is known', () => {
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
  ])('failed: %s is a response %i', (code, status, type) => {
    expect(error(failed(code))).toEqual([null, status, { message: 'Why.', type, param: null, code }])
  })

  it('was not asked in time, or not at all', () => {
    expect(error(ended({ status: 'expired', result: null }))).toBe('batch_expired')
    expect(error(ended({ status: 'cancelled', result: null }))).toBe('batch_cancelled')
    expect(error(failed('deadline_exceeded'))).toBe('request_timeout')
  })

  it('has a line for every error there is', () => {
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
      usage: { input_tokens: 10, output_tokens: 20 },
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
  ])('as CSV no spreadsheet runs: %j is %j', (text, expected) => {
    expect(csv(ended({ result: { text } })).result).toBe(expected)
  })
})

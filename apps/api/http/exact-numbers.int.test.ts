import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startStack } from '#shared/testing/stack.ts'

/** Compares bodies as text, because JSON.parse would round both sides. */
const stack = startStack(() => ({ PRICES: '{"anthropic/claude*":{"input":1,"output":5}}' }))

const NUMBERS = ['2512292042121000001', '-9223372036854775809', '0.1234567890123456789', '1e400', '-0']
const ALL = `[${NUMBERS.join(',')}]`
const SCHEMA = '{"type":"object","properties":{"ids":{"type":"array","items":{"type":"number"}}},"required":["ids"]}'

let key: string
beforeAll(async () => {
  key = (await stack.makeKey()).secret
})
beforeEach(() => stack.upstream.reset())

async function send(method: string, path: string, body?: string, headers: Record<string, string> = {}) {
  const response = await fetch(`http://127.0.0.1:${stack.api.port}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body }),
  })
  const text = await response.text()
  return { status: response.status, text }
}
const TASKS = '/api/v1/tasks/generate'
const WAIT = { prefer: 'wait=30' }
/** A task whose schema, metadata and answer contain all the numbers. */
const task = (prompt: string, more = '"cache":"off"') =>
  `{"input":{"prompt":"${prompt}","schema":${SCHEMA.slice(0, -1)},"maximum":${NUMBERS[0]}}},"options":{${more}},"metadata":{"mine":${ALL}}}`
const answerAll = () => stack.upstream.default({ text: `{"ids":${ALL}}` })

describe('numbers that a double cannot hold', () => {
  it('are exact in result, metadata and input wherever a task is read', async () => {
    answerAll()
    const whole = await send('POST', TASKS, task('a'), WAIT)
    expect(whole.status).toBe(200)
    const id = JSON.parse(whole.text).task_id
    const read = await send('GET', `/api/v1/tasks/${id}`)
    const list = await send('GET', '/api/v1/tasks?limit=1')
    const events = await send('GET', `/api/v1/tasks/${id}/events`)
    const input = await send('GET', `/api/v1/tasks/${id}/input`)
    for (const { text } of [whole, read, list, events]) expect(text).toContain(`"metadata":{"mine":${ALL}}`)
    for (const { text } of [whole, read, events]) expect(text).toContain(`"result":{"ids":${ALL}}`)
    expect(input.text).toContain(`"maximum":${NUMBERS[0]}`)
    // The schema in the prompt has them, too.
    expect(stack.upstream.calls).toHaveLength(1)
  })

  it('are exact in a cached answer', async () => {
    answerAll()
    const options = '"cache":"use"'
    expect((await send('POST', TASKS, task('again', options), WAIT)).text).toContain(`"result":{"ids":${ALL}}`)
    const again = await send('POST', TASKS, task('again', options), WAIT)
    expect(again.text).toContain(`"source":"cache"`)
    expect(again.text).toContain(`"result":{"ids":${ALL}}`)
  })

  it('make two inputs different that differ in the last digit', async () => {
    answerAll()
    const options = '"cache":"use"'
    await send('POST', TASKS, task('apart', options), WAIT)
    const other = await send(
      'POST',
      TASKS,
      task('apart', options).replace(`"maximum":${NUMBERS[0]}`, '"maximum":2512292042121000002'),
      WAIT,
    )
    expect(other.text).toContain('"source":"ai"')
    expect(stack.upstream.calls).toHaveLength(2)
  })

  it('make two bodies with one Idempotency-Key different', async () => {
    const once = { 'idempotency-key': 'an-id' }
    const body = task('once')
    expect((await send('POST', TASKS, body, once)).status).toBe(202)
    expect((await send('POST', TASKS, body, once)).status).toBe(202)
    const other = await send('POST', TASKS, body.replace(`[${NUMBERS[0]}`, '[2512292042121000002'), once)
    expect(other).toMatchObject({ status: 422, text: expect.stringContaining('idempotency_mismatch') })
  })

  it.each([
    ['application/jsonl', (line: string) => `${line}\n`],
    ['application/json', (line: string) => `[${line}]`],
  ])('are exact in a batch of %s and its results', async (type, wrap) => {
    answerAll()
    const line = `{"input":{"prompt":"b","schema":${SCHEMA}},"options":{"cache":"off"},"metadata":{"line":${ALL}}}`
    const metadata = encodeURIComponent(`{"batch":${ALL}}`)
    const made = await send('POST', `/api/v1/batches?kind=generate&metadata=${metadata}`, wrap(line), {
      'content-type': type,
    })
    expect(made.status).toBe(202)
    expect(made.text).toContain(`"metadata":{"batch":${ALL}}`)
    const { id, urls } = JSON.parse(made.text)
    await send('GET', urls.events)
    expect((await send('GET', `/api/v1/batches/${id}`)).text).toContain(`"metadata":{"batch":${ALL}}`)
    expect((await send('GET', urls.results)).text).toContain(`"result":{"ids":${ALL}}`)
    expect((await send('GET', `${urls.results}?format=csv`)).text).toContain(`"{""ids"":${ALL}}"`)
    const [row] = await stack.sql<{ metadata: string }>(
      `SELECT metadata::text AS metadata FROM tasks WHERE batch_id IS NOT NULL ORDER BY id DESC LIMIT 1`,
    )
    expect(row).toEqual({ metadata: `{"line":${ALL}}` })
  })

  it('are exact in a CSV cell', async () => {
    answerAll()
    const csv = `prompt,schema\nc,"${SCHEMA.replaceAll('"', '""').slice(0, -1)},""maximum"":${NUMBERS[0]}}"\n`
    const made = await send('POST', '/api/v1/batches?kind=generate', csv, { 'content-type': 'text/csv' })
    await send('GET', JSON.parse(made.text).urls.events)
    const [row] = await stack.sql<{ maximum: string }>(
      `SELECT input->'schema'->>'maximum' AS maximum FROM tasks WHERE batch_id IS NOT NULL ORDER BY id DESC LIMIT 1`,
    )
    expect(row).toEqual({ maximum: NUMBERS[0] })
  })

  it('are exact in a form field, JSON or not', async () => {
    const parts = [
      ...['--b', 'content-disposition: form-data; name="kind"', 'content-type: application/json', '', '"generate"'],
      ...[
        '--b',
        'content-disposition: form-data; name="metadata"',
        'content-type: application/json',
        '',
        `{"form":${ALL}}`,
      ],
      ...['--b', 'content-disposition: form-data; name="file"; filename="a.jsonl"', '', '{"prompt":"a"}', '--b--', ''],
    ]
    const made = await send('POST', '/api/v1/batches', parts.join('\r\n'), {
      'content-type': 'multipart/form-data; boundary=b',
    })
    expect(made.text).toContain(`"metadata":{"form":${ALL}}`)
  })

  it('are refused in a schema that compares them', async () => {
    const body = `{"input":{"prompt":"a","schema":{"properties":{"id":{"const":${NUMBERS[0]}}}}}}`
    const refused = await send('POST', TASKS, body)
    expect(refused.status).toBe(422)
    expect(JSON.parse(refused.text)).toMatchObject({ code: 'invalid_request', context: { field: '/input/schema' } })
    expect(refused.text).toContain('/properties/id/const')
  })

  it.each([
    ['max_tokens', '12345678901234567890', 422],
    ['max_tokens', '1e400', 422],
    ['temperature', '0.69999999999999996', 202],
  ])('are ordinary numbers in options (%s: %s)', async (option, number, status) => {
    const body = `{"input":{"prompt":"a"},"options":{"cache":"off","${option}":${number}}}`
    const answer = await send('POST', TASKS, body)
    expect(answer.status).toBe(status)
    if (status === 422) expect(JSON.parse(answer.text)).toMatchObject({ context: { field: `/options/${option}` } })
  })

  it.each(['12345678901234567890', '1e400'])('are refused as metadata: %s', async number => {
    const answer = await send('POST', TASKS, `{"input":{"prompt":"a"},"metadata":${number}}`)
    expect(JSON.parse(answer.text)).toMatchObject({ status: 422, context: { field: '/metadata' } })
  })
})

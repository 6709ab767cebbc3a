import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  asking,
  BATCHES,
  createNative,
  eventsOf,
  jsonl,
  line,
  type NativeBatch,
  numbered,
} from '#shared/testing/native-batches.ts'
import { type Receiver, startReceiver } from '#shared/testing/receiver.ts'
import { ADMIN, startStack } from '#shared/testing/stack.ts'

const stack = startStack(() => ({ BATCH_CONCURRENCY: '4' }))
let receiver: Receiver
let key: string
let webhookSecret: string
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(async () => {
  stack.upstream.reset()
  receiver.received.length = 0
  ;({ secret: key, webhookSecret } = await stack.makeKey())
})

const { call, send, sendForm, start, ended, run, resultsOf, until, prompts, asked } = createNative(stack, () => key)

const CSV = 'id,review\n1,"Good,\nreally"\n2,Bad\n'
const TEMPLATE = { template: 'Classify: {{review}}', custom_id: 'id' }

describe('a native batch', () => {
  const lines = jsonl([line('a'), line('b')])
  const array = JSON.stringify([line('a'), line('b')])
  it.each<[string, string, string, string]>([
    ['JSON lines', lines, 'in.jsonl', 'application/jsonl'],
    ['JSON lines', lines, 'in.ndjson', 'application/x-ndjson'],
    ['a JSON array', array, 'in.json', 'application/json'],
    ['a JSON array', array, 'IN.JSON', 'application/json; charset=utf-8'],
    ['CSV', 'custom_id,prompt\na,[[a]]\nb,[[b]]', 'in.csv', 'text/csv'],
  ])('is created from %s, in a form or as the body', async (_, content, name, type) => {
    const { options } = asking() as { options: string }
    const accepted = [
      await send(asking(), content, type),
      await sendForm(asking(), content, name),
      await sendForm({ options }, content, name, { kind: 'generate' }),
    ]
    for (const { status, headers, body } of accepted) {
      expect(status).toBe(202)
      expect(headers.get('location')).toBe(body.urls.self)
      expect(headers.get('retry-after')).toBe('1')
      expect(body).toMatchObject({
        id: expect.stringMatching(/^batch_[0-9a-f]{32}$/),
        status: 'validating',
        kind: 'generate',
        endpoint: null,
        counts: { total: 0, succeeded: 0, failed: 0, cancelled: 0, expired: 0 },
        errors: null,
        output_file_id: null,
        finished_at: null,
      })
      const batch = await ended(body)
      expect(batch).toMatchObject({ status: 'completed', counts: { total: 2, succeeded: 2, failed: 0 } })
      expect(batch.cost_usd).toBeGreaterThan(0)
      expect(batch.cost_bound_usd).toBeGreaterThanOrEqual(batch.cost_usd)
      expect(await resultsOf(body)).toMatchObject([
        { custom_id: 'a', status: 'succeeded', result: { text: 'Hello from upstream.' }, error: null },
        { custom_id: 'b', status: 'succeeded', result: { text: 'Hello from upstream.' }, error: null },
      ])
    }
    expect(asked()).toEqual({ a: 3, b: 3 })
  })

  it('fills a template from CSV columns or maps them', async () => {
    const { body } = await send(asking(TEMPLATE), CSV, 'text/csv')
    await ended(body)
    expect((await resultsOf(body)).map(one => [one.line, one.custom_id])).toEqual([
      [2, '1'],
      [4, '2'],
    ])
    expect(prompts()).toEqual(['Classify: Bad', 'Classify: Good,\nreally'])
    stack.upstream.reset()
    const columns = JSON.stringify({ prompt: 'review' })
    const mapped = await sendForm(asking({ columns, delimiter: ';', format: 'csv' }), 'id;review\n1;a,b\n', 'reviews')
    expect(await ended(mapped.body)).toMatchObject({ status: 'completed', counts: { total: 1 } })
    expect(prompts()).toEqual(['a,b'])
  })

  it('keeps its settings', async () => {
    const metadata = { post: 7, tags: ['a', { b: null }] }
    const settings = asking(
      { metadata: JSON.stringify(metadata), completion_window: '2h', max_cost_usd: '0.25' },
      { model: 'claude-sonnet-5', max_tokens: 9, priority: 'low', temperature: 0.5 },
    )
    const batch = await run(['a'], settings)
    expect(batch).toMatchObject({ status: 'completed', metadata, max_cost_usd: 0.25, model: 'claude-sonnet-5' })
    expect(Date.parse(batch.expires_at) - Date.parse(batch.created_at)).toBe(7_200_000)
    expect(stack.upstream.calls[0]!.body).toMatchObject({ model: 'claude-sonnet-5', max_tokens: 9 })
  })

  it('fails as a whole for an invalid line, which it names', async () => {
    const { body } = await send(asking(), jsonl([line('a'), { input: {} }, line('a')]), 'application/jsonl')
    const batch = await ended(body)
    expect(batch).toMatchObject({ status: 'failed', counts: { total: 0 }, finished_at: expect.any(String) })
    expect(batch.errors).toMatchObject([
      { line: 2, code: 'invalid_input' },
      { line: 3, code: 'duplicate_custom_id' },
    ])
    expect(await resultsOf(body)).toEqual([])
    expect(asked()).toEqual({})
    expect(await call('POST', body.urls.retry)).toMatchObject({ status: 409, body: { code: 'nothing_to_retry' } })
  })

  it('is listed newest first, together with OpenAI batches', async () => {
    const ids: string[] = []
    for (const name of ['a', 'b', 'c']) ids.unshift((await start([name])).id)
    const first = (await call('GET', `${BATCHES}?limit=2`)).body
    expect(first.data.map((one: NativeBatch) => one.id)).toEqual(ids.slice(0, 2))
    expect(first).toMatchObject({ has_more: true, next: ids[1] })
    const second = (await call('GET', `${BATCHES}?limit=2&after=${first.next}`)).body
    expect(second).toMatchObject({ data: [{ id: ids[2] }], has_more: false, next: null })
    for (const query of ['limit=0', 'limit=101', 'after=x', `after=batch_${'0'.repeat(32)}`])
      expect(await call('GET', `${BATCHES}?${query}`)).toMatchObject({ status: 422, body: { code: 'invalid_request' } })
    expect((await call('GET', `${BATCHES}?colour=red`)).body.code).toBe('unknown_field')
    expect((await call('GET', '/v1/batches')).body.data).toEqual([])
  })

  it('is visible to its key and to an admin key', async () => {
    const { urls, id } = await start(['a'])
    await ended({ urls })
    const other = await stack.makeKey()
    const routes = [
      ['GET', urls.self],
      ['GET', urls.results],
      ['GET', urls.events],
      ['POST', urls.cancel],
      ['POST', urls.retry],
    ] as const
    for (const [method, path] of routes) {
      for (const wrong of [path, path.replace(id, 'batch_0'), path.replace(id, `batch_${'0'.repeat(32)}`)])
        expect(await call(method, wrong, { key: other.secret }), wrong).toMatchObject({
          status: 404,
          body: { code: 'batch_not_found' },
        })
      expect(await call(method, path, { key: ADMIN })).not.toMatchObject({ status: 404 })
    }
    const reader = (await stack.makeKey({ scopes: ['read'] })).secret
    const writer = (await stack.makeKey({ scopes: ['submit'] })).secret
    for (const [method, path] of [...routes, ['GET', BATCHES], ['POST', BATCHES]] as const) {
      const answer = await call(method, path, { key: method === 'GET' ? writer : reader })
      expect(answer, path).toMatchObject({ status: 403, body: { code: 'forbidden' } })
    }
  })
})

describe('max_cost_usd', () => {
  it('is never exceeded; the remaining lines fail', async () => {
    const usage = { inputTokens: 20, outputTokens: 100 }
    stack.upstream.default({ usage })
    const options = { model: 'claude-haiku-4-5', max_tokens: 100, on_budget: 'fail' }
    const names = numbered(20)
    const bound = (await send(asking({ dry_run: 'true' }, options), names.map(line))).body.cost_bound_usd as number
    const max = bound / 2
    const batch = await run(names, asking({ max_cost_usd: max.toFixed(9) }, options))
    expect(batch).toMatchObject({ status: 'completed', cost_bound_usd: bound })
    expect(batch.cost_usd).toBeLessThanOrEqual(max)
    expect(batch.cost_usd).toBeGreaterThan(0)
    const { succeeded, failed } = batch.counts
    expect(succeeded).toBeGreaterThan(0)
    expect(failed).toBeGreaterThan(0)
    expect(succeeded + failed).toBe(20)
    const lines = await resultsOf(batch)
    const broke = lines.filter(one => one.status === 'failed')
    expect(broke.map(one => one.error.code)).toEqual(Array(failed).fill('budget_exceeded'))
    expect(Object.keys(asked()).toSorted()).toEqual(
      lines
        .filter(one => one.status === 'succeeded')
        .map(one => one.custom_id)
        .toSorted(),
    )
    // The budget ends with the batch.
    const { data } = (await call('GET', '/api/v1/budgets', { key: ADMIN })).body
    expect(data).toEqual([])
  })

  it('may be 0', async () => {
    const batch = await run(['a', 'b'], asking({ max_cost_usd: '0' }, { on_budget: 'fail' }))
    expect(batch).toMatchObject({ status: 'completed', cost_usd: 0, max_cost_usd: 0, counts: { failed: 2 } })
    expect(asked()).toEqual({})
  })
})

describe('the results', () => {
  it('are readable while the batch runs and complete at its end', async () => {
    const gate = stack.upstream.hold({ when: /held/ })
    const batch = await start(['a', 'held-1', 'b', 'held-2'])
    await gate.waiting(2)
    await until(batch, { status: 'in_progress', counts: { total: 4, succeeded: 2 } })
    expect((await resultsOf(batch)).map(one => [one.line, one.custom_id])).toEqual([
      [1, 'a'],
      [3, 'b'],
    ])
    gate.release()
    const done = await ended(batch)
    const lines = await resultsOf(batch)
    expect(lines.map(one => one.custom_id)).toEqual(['a', 'held-1', 'b', 'held-2'])
    expect(lines[0]).toEqual({
      task_id: expect.stringMatching(/^task_[0-9a-f]{32}$/),
      line: 1,
      custom_id: 'a',
      status: 'succeeded',
      result: { text: 'Hello from upstream.' },
      source: 'ai',
      quality: 'high',
      provider: 'anthropic',
      model: expect.any(String),
      finish_reason: 'stop',
      usage: {
        input_tokens: expect.any(Number),
        output_tokens: expect.any(Number),
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
      },
      cost_usd: expect.any(Number),
      error: null,
    })
    const sum = (name: 'input_tokens' | 'output_tokens') => lines.reduce((total, one) => total + one.usage[name], 0)
    expect(done.usage).toMatchObject({ input_tokens: sum('input_tokens'), output_tokens: sum('output_tokens') })
    // A line is an ordinary task.
    expect((await call('GET', `/api/v1/tasks/${lines[0].task_id}`)).body).toMatchObject({ status: 'succeeded' })
  })

  it('can be CSV', async () => {
    stack.upstream.rule('formula', { text: '=1+1' })
    stack.upstream.rule('lines', { text: 'two\n"lines"' })
    const batch = await start(['formula', 'lines'])
    await ended(batch)
    const answer = await call('GET', `${batch.urls.results}?format=csv`)
    expect(answer.headers.get('content-type')).toBe('text/csv; charset=utf-8')
    expect(answer.headers.get('content-disposition')).toBe(`attachment; filename="${batch.id}.csv"`)
    const [header, ...rows] = (answer.body as string).split('\n')
    expect(header).toMatch(/^task_id,line,custom_id,status,result,/)
    expect(rows.join('\n')).toMatch(/^task_\w+,1,formula,succeeded,'=1\+1,/)
    expect(rows.join('\n')).toContain(',2,lines,succeeded,"two\n""lines""",')
    const jsonl = await call('GET', `${batch.urls.results}?format=jsonl`)
    expect(jsonl.headers.get('content-type')).toMatch(/^application\/jsonl/)
    const wrong = await call('GET', `${batch.urls.results}?format=xml`)
    expect(wrong).toMatchObject({ status: 422, body: { code: 'invalid_request', context: { field: '/format' } } })
  })
})

describe('the events', () => {
  it('report progress and then the end', async () => {
    const gate = stack.upstream.hold({ when: /last/ })
    const batch = await start(['a', 'b', 'last'])
    const response = await fetch(`http://127.0.0.1:${stack.api.port}${batch.urls.events}`, {
      headers: { authorization: `Bearer ${key}` },
    })
    const pieces = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    let text = (await pieces.read()).value!
    // HEAD would keep the stream open without events.
    expect((await fetch(response.url, { method: 'HEAD' })).status).toBe(405)
    await gate.waiting()
    await until(batch, { counts: { succeeded: 2 } })
    gate.release()
    for (let next = await pieces.read(); !next.done; next = await pieces.read()) text += next.value
    const seen = eventsOf(text)
    expect(seen.at(-1)).toMatchObject({ event: 'done', data: { id: batch.id, status: 'completed' } })
    const before = seen.slice(0, -1)
    expect(before.length).toBeGreaterThan(0)
    expect(new Set(before.map(one => one.event))).toEqual(new Set(['progress']))
    const counts = seen.map(one => one.data.counts.succeeded)
    expect(counts).toEqual(counts.toSorted((a, b) => a - b))
    // A client that connects after the end gets `done` immediately.
    expect(eventsOf((await call('GET', batch.urls.events)).body)).toEqual([seen.at(-1)])
  })

  it('may be left; the batch continues', async () => {
    const gate = stack.upstream.hold()
    const batch = await start(['a'])
    await gate.waiting()
    const leave = new AbortController()
    const response = await fetch(`http://127.0.0.1:${stack.api.port}${batch.urls.events}`, {
      headers: { authorization: `Bearer ${key}` },
      signal: leave.signal,
    })
    const { value } = await response.body!.getReader().read()
    expect(Buffer.from(value!).toString()).toMatch(/^event: progress\n/)
    leave.abort()
    gate.release()
    expect(await ended(batch)).toMatchObject({ status: 'completed' })
  })
})

describe('cancelling', () => {
  it('keeps answers and makes no further calls', async () => {
    const gate = stack.upstream.hold({ when: /line/ })
    // A worker notices half a second later. By then it may have started some dozen lines.
    stack.upstream.rule('line', { delayMs: 200 })
    const names = numbered(150)
    const batch = await start(['quick', ...names])
    await gate.waiting()
    await until(batch, { counts: { succeeded: 1 } })
    expect(await call('POST', batch.urls.cancel)).toMatchObject({ status: 200, body: { status: 'cancelling' } })
    expect(await call('POST', batch.urls.retry)).toMatchObject({ status: 409, body: { code: 'nothing_to_retry' } })
    gate.release()
    const done = await ended(batch)
    const { total, succeeded, cancelled } = done.counts
    expect(done).toMatchObject({ status: 'cancelled', counts: { total: 151, failed: 0, expired: 0 } })
    expect(cancelled).toBeGreaterThan(0)
    expect(succeeded + cancelled).toBe(total)
    expect(Object.keys(asked())).toHaveLength(succeeded)
    const lines = await resultsOf(batch)
    expect(lines).toHaveLength(151)
    expect(lines.filter(one => one.status === 'cancelled')).toHaveLength(cancelled)
    expect(await call('POST', batch.urls.cancel)).toMatchObject({ status: 409, body: { code: 'batch_finished' } })

    // The lines that were not run can be retried.
    stack.upstream.rule('line', {})
    expect(await call('POST', batch.urls.retry)).toMatchObject({ status: 200, body: { status: 'in_progress' } })
    expect(await ended(batch)).toMatchObject({
      status: 'completed',
      counts: { total: 151, succeeded: 151, cancelled: 0 },
    })
    expect(asked()).toEqual(Object.fromEntries(['quick', ...names].map(name => [name, 1])))
  })
})

describe('retrying', () => {
  it('runs only the failed lines again', async () => {
    const no = { status: 400, message: 'not now' }
    stack.upstream.script({ when: 'bad-1', ...no }, { when: 'bad-2', ...no })
    const names = ['good-1', 'bad-1', 'good-2', 'bad-2']
    const batch = await start(names)
    const first = await ended(batch)
    expect(first).toMatchObject({ status: 'completed', counts: { total: 4, succeeded: 2, failed: 2 } })
    const before = await resultsOf(batch)
    const gate = stack.upstream.hold()
    const again = await call('POST', batch.urls.retry)
    expect(again).toMatchObject({
      status: 200,
      body: { status: 'in_progress', counts: { succeeded: 2, failed: 0 }, finished_at: null },
    })
    await gate.waiting(2)
    expect(await call('POST', batch.urls.retry)).toMatchObject({ status: 409, body: { code: 'nothing_to_retry' } })
    gate.release()
    const second = await ended(batch)
    expect(second).toMatchObject({ status: 'completed', counts: { total: 4, succeeded: 4, failed: 0 } })
    expect(second.cost_usd).toBeGreaterThan(first.cost_usd)
    expect(asked()).toEqual({ 'good-1': 1, 'bad-1': 2, 'good-2': 1, 'bad-2': 2 })
    const lines = await resultsOf(batch)
    expect(lines.map(one => one.custom_id)).toEqual(names)
    expect([lines[0], lines[2]]).toEqual([before[0], before[2]])
    expect(await call('POST', batch.urls.retry)).toMatchObject({ status: 409, body: { code: 'nothing_to_retry' } })
  })

  it('replaces the output files of an OpenAI batch', async () => {
    const openai = new OpenAI({ apiKey: key, baseURL: `http://127.0.0.1:${stack.api.port}/v1`, maxRetries: 0 })
    stack.upstream.script({ when: 'bad', status: 400, message: 'not now' })
    const url = '/v1/chat/completions' as const
    const body = (content: string) => ({ model: 'claude-haiku-4-5', messages: [{ role: 'user', content }] })
    const lines = ['good', 'bad'].map(id => ({ custom_id: id, method: 'POST', url, body: body(`[[${id}]]`) }))
    const refused = { custom_id: 'never', method: 'POST', url, body: {} }
    const file = new File([jsonl([...lines, refused])], 'in.jsonl')
    const { id: input_file_id } = await openai.files.create({ file, purpose: 'batch' })
    const { id } = await openai.batches.create({ input_file_id, endpoint: url, completion_window: '24h' })
    const batch = (await call('GET', `${BATCHES}/${id}`)).body
    const first = await ended(batch)
    expect(first).toMatchObject({ counts: { succeeded: 1, failed: 2 } })
    expect(await call('POST', batch.urls.retry)).toMatchObject({ status: 200 })
    const second = await ended(batch)
    expect(second).toMatchObject({ status: 'completed', counts: { succeeded: 2, failed: 1 } })
    const names = async (id: string) =>
      (await (await openai.files.content(id)).text()).match(/(?<="custom_id":")\w+/g)!.toSorted()
    expect(await names(second.output_file_id)).toEqual(['bad', 'good'])
    expect(await names(second.error_file_id)).toEqual(['never'])
    for (const old of [first.output_file_id, first.error_file_id])
      await expect(openai.files.retrieve(old)).rejects.toMatchObject({ status: 404 })
    expect(asked()).toEqual({ good: 1, bad: 2 })
    // A line that was refused when the file was read is not retried.
    expect(await call('POST', batch.urls.retry)).toMatchObject({ status: 409, body: { code: 'nothing_to_retry' } })
  })
})

describe('the webhook of a batch', () => {
  const received = async (path: string) => {
    await receiver.until(1, one => one.path === path)
    // Any further webhook of this batch would be sent within the first attempt of its row.
    await expect
      .poll(() => stack.sql(`SELECT status, attempts FROM webhook_deliveries WHERE url LIKE '%${path}'`))
      .toEqual([{ status: 'delivered', attempts: 1 }])
    const [one, ...more] = receiver.received.filter(one => one.path === path)
    expect(more).toEqual([])
    const { webhooks } = new OpenAI({ apiKey: 'none', webhookSecret })
    return webhooks.unwrap(one!.body, one!.headers as Record<string, string>)
  }

  it('is sent once and verified by the openai library', async () => {
    const { id } = await start(['a', 'b'], asking({}, { webhook_url: `${receiver.url}/completed` }))
    expect(await received('/completed')).toEqual({
      id: expect.stringMatching(/^evt_/),
      object: 'event',
      created_at: expect.any(Number),
      type: 'batch.completed',
      data: { id },
    })
    // Its lines send no webhooks.
    expect(receiver.received).toHaveLength(1)
  })

  it.each(['failed', 'cancelled', 'expired'])('is sent when the batch has %s', async status => {
    const gate = stack.upstream.hold()
    const webhook_url = `${receiver.url}/${status}`
    const batch = await start(status === 'failed' ? [] : ['a'], asking({}, { webhook_url }))
    if (status !== 'failed') await gate.waiting()
    if (status === 'cancelled') await call('POST', batch.urls.cancel)
    const id = batch.id.slice('batch_'.length)
    // A line whose call is in flight when the batch expires may finish.
    if (status === 'expired') {
      await stack.sql(`UPDATE tasks SET deadline_at = now() WHERE batch_id = '${id}'`)
      await stack.sql(`UPDATE batches SET expires_at = now() WHERE id = '${id}'`)
    } else gate.release()
    expect(await received(`/${status}`)).toMatchObject({ type: `batch.${status}`, data: { id: batch.id } })
    gate.release()
  })

  it('is sent for a batch of the OpenAI API', async () => {
    const openai = new OpenAI({ apiKey: key, baseURL: `http://127.0.0.1:${stack.api.port}/v1`, maxRetries: 0 })
    const file = await openai.files.create({ file: new File(['{}'], 'in.jsonl'), purpose: 'batch' })
    const { id } = await openai.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/responses',
      completion_window: '24h',
      webhook_url: `${receiver.url}/openai`,
    } as OpenAI.BatchCreateParams)
    expect(await received('/openai')).toMatchObject({ type: 'batch.failed', data: { id } })
  })
})

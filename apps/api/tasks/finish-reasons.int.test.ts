import OpenAI, { toFile } from 'openai'
import type { Batch } from 'openai/resources/batches'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { ADMIN, startStack } from '#shared/testing/stack.ts'
import type { Script } from '#shared/testing/upstream.ts'

/** Finish reasons and usage, from the provider to the client. */

const stack = startStack(upstream => ({
  PROVIDERS: 'anthropic,openai,ollama',
  OPENAI_API_KEY: 'key',
  OPENAI_BASE_URL: `${upstream.url}/v1`,
  OLLAMA_HOST: upstream.url,
}))
beforeEach(() => stack.upstream.reset())
vi.setConfig({ testTimeout: 60_000 })

const CUT: Script = { text: 'Half an', stop: 'max_tokens' }
const REFUSED: Script = { text: 'I would rather not.', stop: 'refusal' }
const MODELS = ['claude-haiku-5-5', 'gpt-5.4-mini', 'ollama/llama3.2']

describe('a task', () => {
  it.each(MODELS)('reports finish_reason length in the task, its attempt and its events: %s', async model => {
    stack.upstream.default(CUT)
    const task = await stack.finished({ options: { model, max_tokens: 100, stream: true } })
    expect(task).toMatchObject({
      status: 'succeeded',
      result: { text: 'Half an' },
      finish_reason: 'length',
      attempts: [{ outcome: 'succeeded', finish_reason: 'length' }],
    })
    const { body } = await stack.call('GET', `/api/v1/tasks/${task.task_id}/events`)
    const done = /event: done\n(?:id: .*\n)?data: (.*)\n/.exec(body)
    expect(JSON.parse(done![1]!)).toMatchObject({ finish_reason: 'length' })
    expect(await stack.sql('SELECT finish_reason FROM attempts ORDER BY started_at DESC LIMIT 1')).toEqual([
      { finish_reason: 'length' },
    ])
  })

  it('keeps the finish reason of a cached answer', async () => {
    stack.upstream.default(CUT)
    const body = { input: { prompt: 'again and again' }, options: { cache: 'use', max_tokens: 100 } }
    expect(await stack.finished(body)).toMatchObject({ source: 'ai', finish_reason: 'length' })
    const { body: repeated } = await stack.submit(body, { headers: { prefer: 'wait=30' } })
    expect(repeated).toMatchObject({ source: 'cache', finish_reason: 'length' })
    expect((await stack.call('GET', `/api/v1/tasks/${repeated.task_id}`)).body.finish_reason).toBe('length')
  })

  it('does not cache a refusal, or an answer cut off at a limit that the client did not set', async () => {
    for (const [prompt, script] of [
      ['cut off at ours', CUT],
      ['refused', REFUSED],
    ] as const) {
      stack.upstream.default(script)
      for (const n of [1, 2]) {
        expect(
          await stack.finished({ input: { prompt }, options: { cache: 'use', provider: 'openai' } }),
        ).toMatchObject({
          source: 'ai',
        })
        expect(stack.upstream.count(new RegExp(prompt))).toBe(n)
      }
    }
  })

  it.each(MODELS.slice(0, 2))('has the refusal as its result when the model refuses: %s', async model => {
    stack.upstream.default(REFUSED)
    const task = await stack.finished({ options: { model } })
    expect(task).toMatchObject({
      status: 'succeeded',
      result: { text: 'I would rather not.' },
      finish_reason: 'refusal',
    })
    expect(stack.upstream.count()).toBe(1)
  })

  it('with a schema fails with the refusal after one call', async () => {
    stack.upstream.default(REFUSED)
    const input = { prompt: 'Say hello', schema: { type: 'object' } }
    expect(await stack.finished({ input, options: { provider: 'openai' } })).toMatchObject({
      status: 'failed',
      finish_reason: 'refusal',
      error: { code: 'model_refused', message: expect.stringContaining('I would rather not.') },
    })
    expect(stack.upstream.count()).toBe(1)
  })

  it('of kind moderate that the model refuses goes to review, and is 503 on /v1/moderations', async () => {
    stack.upstream.default(REFUSED)
    const { body } = await stack.call('POST', '/api/v1/tasks/moderate', {
      body: { input: { text: 'What a lovely photograph.' }, options: { model: MODELS[0] } },
      headers: { prefer: 'wait=20' },
    })
    expect(body).toMatchObject({ status: 'failed', error: { code: 'model_refused' }, result: { decision: 'review' } })
    const { status } = await stack.call('POST', '/v1/moderations', {
      body: { input: 'What a lovely place.', model: MODELS[1] },
    })
    expect(status).toBe(503)
    expect(stack.upstream.count()).toBe(2)
  })

  it.each([
    ['claude-haiku-5-5', 'max_tokens', 128_000],
    ['gpt-5.4-mini', 'max_completion_tokens', 128_000],
  ])('without max_tokens gets the limit of the model: %s', async (model, field, tokens) => {
    await stack.finished({ options: { model } })
    expect(stack.upstream.calls[0]!.body[field]).toBe(tokens)
  })

  it('gets an output limit that fits the rest of the budget', async () => {
    const { body: budget } = await stack.call('PUT', '/api/v1/budgets', {
      body: { scope: 'kind:generate', window: 'total', limit_usd: 0.01 },
    })
    try {
      expect(await stack.finished({ options: { model: 'claude-haiku-5-5' } })).toMatchObject({ status: 'succeeded' })
      const limit = stack.upstream.calls[0]!.body.max_tokens as number
      // $0.50 per million tokens, and less than $0.001 for the prompt.
      expect(limit).toBeGreaterThan(18_000)
      expect(limit).toBeLessThanOrEqual(20_000)
    } finally {
      await stack.call('DELETE', `/api/v1/budgets/${budget.id}`)
    }
  })
})

describe('usage', () => {
  const USAGE = {
    inputTokens: 1000,
    outputTokens: 500,
    cacheReadTokens: 600,
    cacheWriteTokens: 100,
    reasoningTokens: 400,
  }

  it.each(MODELS.slice(0, 2))('separates cached, cache-written and reasoning tokens: %s', async model => {
    stack.upstream.default({ usage: USAGE })
    const task = await stack.finished({ options: { model } })
    expect(task.usage).toEqual({
      input_tokens: 1000,
      output_tokens: 500,
      cache_read_tokens: 600,
      cache_write_tokens: 100,
      reasoning_tokens: 400,
    })
    stack.upstream.default({ usage: { ...USAGE, cacheReadTokens: 0, cacheWriteTokens: 0 } })
    const dearer = await stack.finished({ options: { model } })
    expect(task.cost_usd).toBeLessThan(dearer.cost_usd)
    const { body } = await stack.call('GET', '/api/v1/analytics/costs')
    expect(body.totals.reasoning_tokens).toBeGreaterThanOrEqual(800)
    expect(body.totals.cache_write_tokens).toBeGreaterThanOrEqual(100)
  })
})

describe('an OpenAI batch', () => {
  const ENDPOINTS = ['/v1/chat/completions', '/v1/responses'] as const
  const client = () => new OpenAI({ apiKey: ADMIN, maxRetries: 0, baseURL: `http://127.0.0.1:${stack.api.port}/v1` })
  const bodyOf = (endpoint: string, prompt: string) =>
    endpoint === '/v1/responses' ? { input: prompt } : { messages: [{ role: 'user', content: prompt }] }

  // biome-ignore lint/suspicious/noExplicitAny: the documents under test.
  type Lines = Record<string, { status_code: number; body: any }>
  async function run(
    endpoint: string,
    bodies: Record<string, object>,
    more: object = {},
  ): Promise<{ batch: Batch; lines: Lines }> {
    const text = Object.entries(bodies)
      .map(([custom_id, body]) => JSON.stringify({ custom_id, method: 'POST', url: endpoint, body }))
      .join('\n')
    const { files, batches } = client()
    const { id } = await files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' })
    const made = await batches.create({
      input_file_id: id,
      endpoint: endpoint as '/v1/responses',
      completion_window: '24h',
      ...more,
    })
    const batch = await vi.waitFor(
      async () => {
        const found = await batches.retrieve(made.id)
        expect(['completed', 'failed']).toContain(found.status)
        return found
      },
      { timeout: 50_000 },
    )
    expect(batch.error_file_id ?? null).toBeNull()
    const output = await (await files.content(batch.output_file_id!)).text()
    const lines = output
      .trim()
      .split('\n')
      .map(one => JSON.parse(one))
    return { batch, lines: Object.fromEntries(lines.map(one => [one.custom_id, one.response])) }
  }

  it.each(ENDPOINTS)('answers a refusal with 200, with or without a schema: %s', async endpoint => {
    stack.upstream.default(REFUSED)
    const format = { type: 'json_schema', name: 'a', schema: { type: 'object' } }
    const shaped =
      endpoint === '/v1/responses'
        ? { text: { format } }
        : { response_format: { type: 'json_schema', json_schema: { name: 'a', schema: format.schema } } }
    const { batch, lines } = await run(endpoint, {
      plain: { model: MODELS[0], ...bodyOf(endpoint, 'plain') },
      shaped: { model: MODELS[1], ...bodyOf(endpoint, 'shaped'), ...shaped },
    })
    expect(batch.request_counts).toEqual({ total: 2, completed: 2, failed: 0 })
    for (const { status_code, body } of Object.values(lines)) {
      expect(status_code).toBe(200)
      if (endpoint === '/v1/responses')
        expect(body).toMatchObject({
          status: 'completed',
          output: [{ content: [{ type: 'refusal', refusal: 'I would rather not.' }] }],
        })
      else
        expect(body.choices[0]).toMatchObject({
          message: { content: null, refusal: 'I would rather not.' },
          finish_reason: 'stop',
        })
    }
    expect(stack.upstream.count()).toBe(2)
  })

  it.each(ENDPOINTS)(
    'lets lines without a limit be as long as the model writes, and says which were cut off: %s',
    async endpoint => {
      stack.upstream.rule('whole', { text: 'All of it' })
      stack.upstream.rule('half', CUT)
      const model = MODELS[0]
      const { lines } = await run(endpoint, {
        whole: { model, ...bodyOf(endpoint, 'whole') },
        half: { model, ...bodyOf(endpoint, 'half') },
      })
      expect(stack.upstream.calls.map(one => one.body.max_tokens)).toEqual([128_000, 128_000])
      const { whole, half } = lines
      if (endpoint === '/v1/responses') {
        expect(whole!.body).toMatchObject({ status: 'completed', max_output_tokens: null })
        expect(half!.body).toMatchObject({ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } })
      } else {
        expect(whole!.body.choices[0].finish_reason).toBe('stop')
        expect(half!.body.choices[0].finish_reason).toBe('length')
      }
    },
  )

  it('lowers the output limit of its lines to fit max_cost_usd', async () => {
    const [endpoint] = ENDPOINTS
    const names = ['a', 'b', 'c', 'd', 'e', 'f']
    const bodies = Object.fromEntries(names.map(name => [name, { model: MODELS[0], ...bodyOf(endpoint, name) }]))
    const { batch } = await run(endpoint, bodies, { max_cost_usd: 0.02 })
    expect(batch.request_counts).toEqual({ total: 6, completed: 6, failed: 0 })
    for (const { body } of stack.upstream.calls) expect(body.max_tokens).toBeGreaterThanOrEqual(2048)
  })

  it('sums cached and reasoning tokens of its lines', async () => {
    stack.upstream.default({ usage: { inputTokens: 10, outputTokens: 9, cacheReadTokens: 4, reasoningTokens: 7 } })
    const [endpoint] = ENDPOINTS
    const body = (prompt: string) => ({ model: MODELS[1], ...bodyOf(endpoint, prompt) })
    const { batch, lines } = await run(endpoint, { a: body('a'), b: body('b') })
    expect(lines.a!.body.usage).toMatchObject({
      prompt_tokens: 10,
      prompt_tokens_details: { cached_tokens: 4 },
      completion_tokens: 9,
      completion_tokens_details: { reasoning_tokens: 7 },
    })
    expect(batch.usage).toMatchObject({
      input_tokens: 20,
      input_tokens_details: { cached_tokens: 8 },
      output_tokens: 18,
      output_tokens_details: { reasoning_tokens: 14 },
    })
  })
})

import OpenAI, { toFile } from 'openai'
import { describe, expect, it, vi } from 'vitest'
import { startStack } from '#shared/testing/stack.ts'
import type { Script } from '#shared/testing/upstream.ts'
import { vectorOf } from '#shared/testing/upstream-wires/index.ts'

const stack = startStack(upstream => ({
  PROVIDERS: 'anthropic,openai,ollama',
  OPENAI_API_KEY: 'key',
  OPENAI_BASE_URL: `${upstream.url}/v1`,
  OLLAMA_HOST: upstream.url,
  BACKOFF_BASE_MS: '20',
  BACKOFF_MAX_MS: '50',
}))
const SMALL = 'text-embedding-3-small'
const NOMIC = 'ollama/nomic-embed-text'

/** Every text is unique, so that no answer comes from the cache. */
let texts = 0
const fresh = (text = 'A red bicycle') => `${text}, ${++texts}`
/** Rounded to 32 bits. */
const floats = (text: string, dimensions = 8) => vectorOf(text, dimensions).map(Math.fround)

const post = (input: object, options: object = {}) =>
  stack.call('POST', '/api/v1/tasks/embed', { body: { input, options }, headers: { prefer: 'wait=30' } })
async function embed(input: object, options: object = {}) {
  const { status, body } = await post(input, options)
  expect(status).toBe(200)
  return body
}
const outcomes = (task: { attempts: { outcome: string }[] }) => task.attempts.map(one => one.outcome)

describe('texts', () => {
  it.each([
    ['OpenAI', SMALL, 'openai', '/v1/embeddings', 0.02],
    ['Ollama', NOMIC, 'ollama', '/api/embed', 0],
  ])('get vectors from %s at the cost of their input tokens', async (_, model, provider, path, price) => {
    const two = [fresh(), fresh()]
    stack.upstream.script({ usage: { inputTokens: 1000 } })
    const task = await embed({ texts: two }, { model })
    expect(task).toMatchObject({
      kind: 'embed',
      status: 'succeeded',
      source: 'ai',
      provider,
      result: { dimensions: 8, vectors: two.map(text => vectorOf(text, 8)) },
      usage: { input_tokens: 1000, output_tokens: 0 },
      cost_usd: price / 1000,
    })
    expect(stack.upstream.calls.at(-1)).toMatchObject({ path, streaming: false, body: { input: two } })
    expect(stack.upstream.calls.at(-1)!.body).not.toHaveProperty('dimensions')
  })

  it('get vectors of the requested dimensions, as numbers or base64', async () => {
    for (const model of [SMALL, NOMIC]) {
      const text = fresh()
      const task = await embed({ text, dimensions: 3, encoding: 'base64' }, { model })
      const bytes = Buffer.from(task.result.vectors[0], 'base64')
      expect([0, 4, 8].map(at => bytes.readFloatLE(at))).toEqual(floats(text, 3))
      expect(stack.upstream.calls.at(-1)!.body).toMatchObject({ dimensions: 3 })
    }
  })

  it('go to the first embedding model when none is named', async () => {
    expect(await embed({ text: fresh() })).toMatchObject({ provider: 'openai', model: SMALL })
    expect(await embed({ text: fresh() }, { model: 'auto' })).toMatchObject({ provider: 'openai', model: SMALL })
    const text = fresh()
    stack.upstream.rule(text, { status: 401 })
    const task = await embed({ text })
    expect(task).toMatchObject({ status: 'failed', error: { code: 'provider_failed' } })
    expect(outcomes(task)).toEqual(['auth'])
  })

  it('are cached and coalesced', async () => {
    const text = fresh()
    expect((await embed({ text })).source).toBe('ai')
    expect(await embed({ text })).toMatchObject({
      source: 'cache',
      cost_usd: 0,
      result: { vectors: [vectorOf(text, 8)] },
    })
    expect((await embed({ text }, { model: NOMIC })).source).toBe('ai')
    expect((await embed({ text, dimensions: 4 })).source).toBe('ai')
  })

  it.each<[string, Script]>([
    ['too few', { vectors: [[1, 2]] }],
    ['of several lengths', { vectors: [[1, 2], [3]] }],
    ['empty', { vectors: [[], []] }],
    ['beyond 32 bits', { vectors: [[1e300], [1]] }],
  ])('are sent again when the vectors are invalid: %s', async (_, script) => {
    for (const model of [SMALL, NOMIC]) {
      const before = stack.upstream.count()
      stack.upstream.script(script)
      const task = await embed({ texts: [fresh(), fresh()] }, { model })
      expect(task.status).toBe('succeeded')
      expect(outcomes(task)).toEqual(['rejected', 'succeeded'])
      expect(stack.upstream.count() - before).toBe(2)
      // Unchanged: an embedding model cannot be told the reason.
      const [first, second] = stack.upstream.calls.slice(-2)
      expect(second!.body).toEqual(first!.body)
    }
  })

  it.each<[string, Script]>([
    ['no numbers', { vectors: [['a'], ['b']] }],
    ['no lists', { vectors: [1, null] }],
    ['JSON of another shape', { fault: 'wrong_shape' }],
    ['no JSON', { fault: 'garbage' }],
    ['half of it', { fault: 'cut_midway' }],
    ['an overload', { status: 503 }],
  ])('are sent again when the answer is invalid: %s', async (_, script) => {
    for (const model of [SMALL, NOMIC]) {
      stack.upstream.script(script)
      const task = await embed({ texts: [fresh(), fresh()] }, { model })
      expect(task.status).toBe('succeeded')
      expect(task.attempts).toHaveLength(2)
    }
  })

  it('fail rather than return vectors of another length', async () => {
    const text = fresh()
    stack.upstream.rule(text, { vectors: [[1, 2]] })
    const task = await embed({ text, dimensions: 3 })
    expect(task).toMatchObject({
      status: 'failed',
      result: null,
      error: { code: 'invalid_output', message: 'vector 0 has 2 dimensions, not 3' },
    })
    expect(new Set(outcomes(task))).toEqual(new Set(['rejected']))
  })

  it('are not filtered when vectors look like secrets', async () => {
    const text = fresh('4111 1111 1111 1111')
    const vectors = [[4111111111111111, 219099999]]
    stack.upstream.script({ vectors })
    expect(await embed({ text })).toMatchObject({ output_filtered: null, result: { vectors } })
  })

  it('get a stale cached answer when no model answers', async () => {
    const text = fresh()
    const model = 'ollama/embed-remembered'
    const first = await embed({ text }, { model })
    stack.upstream.rule(text, { status: 500 })
    const task = await embed({ text }, { model, cache: 'refresh', deadline_seconds: 10 })
    expect(task).toMatchObject({ status: 'succeeded', source: 'cache', result: first.result })
  })

  it('are refused when one request would exceed its budget', async () => {
    const model = 'text-embedding-ada-002'
    const { body: budget } = await stack.call('PUT', '/api/v1/budgets', {
      body: { scope: 'kind:embed', window: 'request', limit_usd: '0.005' },
    })
    try {
      // 60,000 bytes can be up to 60,000 tokens: $0.006 at this price.
      await vi.waitFor(
        async () => {
          const { status, body } = await post({ text: fresh('a'.repeat(60_000)) }, { model })
          expect([status, body.code]).toEqual([422, 'request_over_budget'])
        },
        { timeout: 10_000, interval: 200 },
      )
      expect((await embed({ text: fresh('a'.repeat(40_000)) }, { model })).status).toBe('succeeded')
    } finally {
      await stack.call('DELETE', `/api/v1/budgets/${budget.id}`)
    }
  })
})

describe('a task is refused', () => {
  it.each([
    ['a chat model', { model: 'gpt-5.4' }, '/options/model', 'model_unsuitable'],
    ['a chat model of Ollama', { model: 'ollama/llama3.2' }, '/options/model', 'model_unsuitable'],
    ['an unknown model', { model: 'no-such-model' }, '/options/model', 'unknown_model'],
    ['a provider without embeddings', { provider: 'anthropic' }, '/options/provider', 'model_unsuitable'],
    [
      'a model of a provider without embeddings',
      { model: 'anthropic/claude-haiku-5-5' },
      '/options/model',
      'model_unsuitable',
    ],
  ])('with %s', async (_, options, field, code) => {
    const { status, body } = await post({ text: 'a' }, options)
    expect([status, body.code, body.context.field]).toEqual([422, code, field])
  })

  it('with a model without a price', async () => {
    const { body } = await post({ text: 'a' }, { model: 'openai/someones-embedding' })
    expect(body.code).toBe('model_price_unknown')
  })

  it.each([{ max_tokens: 5 }, { temperature: 1 }, { stream: true }, { output_filter: 'on' }])(
    'with an option that embeddings do not have: %j',
    async options => {
      const { status, body } = await post({ text: 'a' }, options)
      expect([status, body.context.field]).toEqual([422, `/options/${Object.keys(options)[0]}`])
    },
  )

  it('of another kind with an embedding model', async () => {
    for (const model of [SMALL, NOMIC, 'openai/text-embedding-3-large']) {
      const { status, body } = await stack.submit({ options: { model } })
      expect([status, body.code]).toEqual([422, 'model_unsuitable'])
    }
    const before = stack.upstream.count()
    const task = await stack.finished({ options: { model: 'auto' } })
    expect(task).toMatchObject({ status: 'succeeded', provider: 'anthropic' })
    expect(stack.upstream.calls.slice(before).every(one => one.path === '/v1/messages')).toBe(true)
  })

  it('in an experiment with a model of the wrong operation', async () => {
    const put = (kind: string, model: string) =>
      stack.call('PUT', '/api/v1/experiments/vectors', {
        body: { kind, variants: [{ name: 'a', weight: 1, model }, { name: 'b', weight: 1 }] }, // biome-ignore format: one line
      })
    for (const [kind, model] of [['embed', 'gpt-5.4'], ['generate', SMALL]] as const) // biome-ignore format: one line
      expect((await put(kind, model)).body).toMatchObject({
        code: 'model_unsuitable',
        context: { field: '/variants/0/model' },
      })
  })
})

it('the catalogue marks embedding models', async () => {
  const { body } = await stack.call('GET', '/api/v1/models?provider=openai')
  const model = (name: string) => body.data.find((one: { model: string }) => one.model === name)
  expect(model(SMALL)).toMatchObject({
    operation: 'embed',
    default: true,
    price: { bands: [{ input: '0.02', output: '0' }], batch: '0.5' },
  })
  expect(model('gpt-5.4-mini')).toMatchObject({ operation: 'chat', default: true })
})

describe('the OpenAI client', () => {
  const client = () =>
    new OpenAI({
      baseURL: `http://127.0.0.1:${stack.api.port}/v1`,
      apiKey: 'the-admin-key-of-this-test',
      maxRetries: 0,
    })
  const failure = async (body: object) => {
    const error = await client()
      .embeddings.create({ input: 'a', model: SMALL, ...body })
      .catch(error => error)
    expect(error).toBeInstanceOf(OpenAI.APIError)
    return error as InstanceType<typeof OpenAI.APIError>
  }

  it('gets the vector of a text, requested as base64', async () => {
    const input = fresh()
    stack.upstream.script({ usage: { inputTokens: 7 } })
    const { data, ...more } = await client().embeddings.create({ input, model: SMALL })
    expect(data).toEqual([{ object: 'embedding', index: 0, embedding: floats(input) }])
    expect(more).toMatchObject({ object: 'list', model: SMALL, usage: { prompt_tokens: 7, total_tokens: 7 } })
  })

  it('gets one vector per text, from any provider', async () => {
    const input = [fresh(), fresh(), fresh()]
    const { data } = await client().embeddings.create({ input, model: NOMIC, dimensions: 5, user: 'somebody' })
    expect(data.map(one => one.embedding)).toEqual(input.map(text => floats(text, 5)))
    expect(data.map(one => one.index)).toEqual([0, 1, 2])
  })

  it('gets vectors for token lists, from any provider', async () => {
    // "Hello world" and "Hi" in cl100k_base.
    for (const model of [SMALL, NOMIC]) {
      const many = await client().embeddings.create({ input: [[9906, 1917], [13347]], model, dimensions: 5 })
      expect(many.data.map(one => one.embedding)).toEqual([floats('Hello world', 5), floats('Hi', 5)])
      const one = await client().embeddings.create({ input: [9906, 1917], model, dimensions: 6 })
      expect(one.data.map(one => one.embedding)).toEqual([floats('Hello world', 6)])
    }
  })

  it('gets numbers or base64 by encoding_format', async () => {
    const input = fresh()
    const numbers = await client().embeddings.create({ input, model: SMALL, encoding_format: 'float' })
    expect(numbers.data[0]!.embedding).toEqual(vectorOf(input, 8))
    const bytes = await client().embeddings.create({ input, model: SMALL, encoding_format: 'base64' })
    expect(bytes.data[0]!.embedding).toBe(Buffer.from(Float32Array.from(vectorOf(input, 8)).buffer).toString('base64'))
  })

  it('gets a cached answer for 0 tokens', async () => {
    const input = fresh()
    const ask = () => client().embeddings.create({ input, model: SMALL })
    await ask()
    const before = stack.upstream.count()
    expect(await ask()).toMatchObject({ data: [{ embedding: floats(input) }], usage: { total_tokens: 0 } })
    expect(stack.upstream.count()).toBe(before)
  })

  it('gets 2,048 vectors in one answer', async () => {
    const input = Array.from({ length: 2048 }, () => fresh('x'))
    const { data } = await client().embeddings.create({ input, model: SMALL, dimensions: 16 })
    expect(data).toHaveLength(2048)
    expect(data.at(-1)!.embedding).toEqual(floats(input.at(-1)!, 16))
  })

  it.each([
    ['no text', { input: '' }, 400, 'input'],
    ['no texts', { input: [] }, 400, 'input'],
    ['an empty text among others', { input: ['a', ''] }, 400, 'input'],
    ['a token that does not exist', { input: [1, 200_000] }, 400, 'input[1]'],
    ['lists with such a token', { input: [[1], [2, -1]] }, 400, 'input[1][1]'],
    ['tokens and text', { input: ['a', 1] }, 400, 'input'],
    ['more texts than are taken', { input: Array(2049).fill('a'), dimensions: 1 }, 400, 'input'],
    ['more than one answer holds', { input: Array(700).fill('a') }, 400, 'input'],
    ['no dimensions', { dimensions: 0 }, 400, 'dimensions'],
    ['more dimensions than any model has', { dimensions: 100_000 }, 400, 'dimensions'],
    ['U+0000', { input: 'a\0' }, 400, 'input'],
    ['a chat model', { model: 'gpt-5.4' }, 404, 'model'],
    ['an unknown model', { model: 'no-such-model' }, 404, 'model'],
  ])('gets an error that names the parameter: %s', async (_, body, status, param) => {
    expect(await failure(body)).toMatchObject({ status, param, type: 'invalid_request_error' })
  })

  it('gets the reason when there is no answer', async () => {
    const input = fresh()
    stack.upstream.rule(input, { status: 400, message: 'too long for this model' })
    const refused = await failure({ input })
    expect(refused).toMatchObject({ status: 400, code: 'provider_rejected' })
    expect(refused.message).toContain('too long for this model')
    const broken = fresh()
    stack.upstream.rule(broken, { vectors: [] })
    expect(await failure({ input: broken })).toMatchObject({ status: 502, code: 'invalid_output' })
  })

  it('gets insufficient_quota when a budget is spent', async () => {
    const { body: budget } = await stack.call('PUT', '/api/v1/budgets', {
      body: { scope: 'kind:embed', window: 'total', limit_usd: 0 },
    })
    expect(await failure({ input: fresh() })).toMatchObject({ status: 429, code: 'insufficient_quota' })
    await stack.call('DELETE', `/api/v1/budgets/${budget.id}`)
  })

  it('gets vectors for batch lines', async () => {
    const [one, two, three] = [fresh(), fresh(), fresh()]
    const line = (custom_id: string, body: object) => ({ custom_id, method: 'POST', url: '/v1/embeddings', body })
    const lines = [
      line('numbers', { model: SMALL, input: [one, two] }),
      line('bytes', { model: NOMIC, input: three, encoding_format: 'base64', dimensions: 4 }),
      line('writes', { model: 'gpt-5.4', input: one }),
      line('tokens', { model: SMALL, input: [[9906], [-1]] }),
      line('empty', { model: SMALL, input: [] }),
      line('too many', { model: SMALL, input: Array(700).fill('a') }),
      line('unknown', { model: SMALL, input: one, temperature: 1 }),
    ]
    const file = await client().files.create({
      file: await toFile(Buffer.from(lines.map(one => JSON.stringify(one)).join('\n')), 'in.jsonl'),
      purpose: 'batch',
    })
    const { id } = await client().batches.create({
      input_file_id: file.id,
      endpoint: '/v1/embeddings',
      completion_window: '24h',
    })
    const batch = await vi.waitFor(
      async () => {
        const found = await client().batches.retrieve(id)
        expect(found.status).toBe('completed')
        return found
      },
      { timeout: 20_000, interval: 100 },
    )
    expect(batch.request_counts).toEqual({ total: 7, completed: 2, failed: 5 })
    const read = async (file: string | null | undefined) =>
      (await (await client().files.content(file!)).text())
        .trim()
        .split('\n')
        .map(text => JSON.parse(text))
    const [numbers, bytes] = await read(batch.output_file_id)
    expect(numbers).toMatchObject({
      custom_id: 'numbers',
      response: {
        status_code: 200,
        body: {
          object: 'list',
          model: SMALL,
          data: [one, two].map((text, index) => ({ object: 'embedding', index, embedding: vectorOf(text!, 8) })),
          usage: { prompt_tokens: expect.any(Number) },
        },
      },
    })
    const buffer = Buffer.from(bytes.response.body.data[0].embedding, 'base64')
    expect([0, 1, 2, 3].map(n => buffer.readFloatLE(n * 4))).toEqual(floats(three!, 4))
    const errors = Object.fromEntries(
      (await read(batch.error_file_id)).map(one => [
        one.custom_id,
        [one.response.status_code, one.response.body.error.code, one.response.body.error.param],
      ]),
    )
    expect(errors).toEqual({
      writes: [404, 'model_not_found', 'model'],
      tokens: [400, 'invalid_value', 'input[1][0]'],
      empty: [400, 'invalid_value', 'input'],
      'too many': [400, 'string_above_max_length', 'input'],
      unknown: [400, 'unknown_parameter', 'temperature'],
    })
  })
})

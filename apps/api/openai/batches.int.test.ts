import { Readable } from 'node:stream'
import OpenAI, { toFile } from 'openai'
import type { Batch } from 'openai/resources/batches'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { ADMIN, sharedStack, startStack } from '#shared/testing/stack.ts'

/** Uses the official SDK, unmodified. Responses are also checked against /openapi.json. */

const stack = startStack(upstream => ({
  PROVIDERS: 'anthropic,ollama',
  OLLAMA_HOST: upstream.url,
  // Limits concurrency, so that not all of some dozen lines are in flight together.
  BATCH_CONCURRENCY: '4',
}))

let requests = 0
const clientOf = (apiKey: string, { maxRetries = 0, port = stack.api.port } = {}) =>
  new OpenAI({
    apiKey,
    maxRetries,
    baseURL: `http://127.0.0.1:${port}/v1`,
    async fetch(url, init) {
      requests++
      const response = await fetch(url, init)
      const type = response.headers.get('content-type')?.split(';')[0] ?? ''
      if (type !== 'application/json') return response
      const { pathname } = new URL(String(url))
      const body = await response.clone().json()
      const { wrong } = stack.contract.check(init?.method ?? 'GET', pathname, { status: response.status, type, body })
      expect(wrong).toBeNull()
      return response
    },
  })
const makeClient = async (body: object = {}) => clientOf((await stack.makeKey(body)).secret)

let client: OpenAI
beforeEach(async () => {
  stack.upstream.reset()
  client = await makeClient()
  requests = 0
})

vi.setConfig({ testTimeout: 120_000 })

const MODEL = 'claude-haiku-4-5'
const ENDPOINT = '/v1/chat/completions'
/** A line whose calls are counted by its custom_id. */
const line = (custom_id: string, body: object = {}, more: object = {}) => ({
  custom_id,
  method: 'POST',
  url: ENDPOINT,
  body: { model: MODEL, messages: [{ role: 'user', content: `[[${custom_id}]]` }], ...body },
  ...more,
})
const jsonl = (lines: unknown[]) =>
  lines.map(one => `${typeof one === 'string' ? one : JSON.stringify(one)}\n`).join('')
const upload = async (content: string | Buffer, by = client) =>
  (await by.files.create({ file: await toFile(Buffer.from(content), 'in.jsonl'), purpose: 'batch' })).id
type Params = Omit<Partial<OpenAI.BatchCreateParams>, 'endpoint'> & { endpoint?: string }
const create = (input_file_id: string, more: Params = {}, by = client) =>
  by.batches.create({
    input_file_id,
    endpoint: ENDPOINT,
    completion_window: '24h',
    ...more,
  } as OpenAI.BatchCreateParams)
const start = async (lines: unknown[], more: Params = {}) => create(await upload(jsonl(lines)), more)
const until = ({ id }: Pick<Batch, 'id'>, fits: (batch: Batch) => boolean, by = client) =>
  vi.waitFor(
    async () => {
      const batch = await by.batches.retrieve(id)
      expect(batch).toSatisfy(fits)
      return batch
    },
    { timeout: 55_000 },
  )
const ENDED = ['completed', 'failed', 'expired', 'cancelled']
const ended = (batch: Pick<Batch, 'id'>, by = client) => until(batch, one => ENDED.includes(one.status), by)
const run = async (lines: unknown[], more?: Params) => ended(await start(lines, more))

type Answered = {
  id: string
  custom_id: string
  // biome-ignore lint/suspicious/noExplicitAny: the documents under test.
  response: { status_code: number; request_id: string; body: any } | null
  error: { code: string; message: string } | null
}
/** The lines of a file by their custom_id. Each must be unique. */
async function linesOf(fileId: string | null | undefined, by: OpenAI): Promise<Record<string, Answered>> {
  if (!fileId) return {}
  const text = await (await by.files.content(fileId)).text()
  expect(text.endsWith('\n')).toBe(true)
  const lines = text
    .slice(0, -1)
    .split('\n')
    .map(one => JSON.parse(one) as Answered)
  const found = Object.fromEntries(lines.map(one => [one.custom_id, one]))
  expect(Object.keys(found)).toHaveLength(lines.length)
  return found
}
const results = async ({ output_file_id, error_file_id }: Batch, by = client) => ({
  output: await linesOf(output_file_id, by),
  errors: await linesOf(error_file_id, by),
})
const errorOf = async (work: PromiseLike<unknown>) => {
  const error = await Promise.resolve(work).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(OpenAI.APIError)
  return error as InstanceType<typeof OpenAI.APIError>
}
const asked = () => stack.upstream.markers()
const numbered = (count: number, name = 'line') => Array.from({ length: count }, (_, i) => `${name}-${i + 1}`)
/** Stops the worker, so that a batch makes no progress, for less time than it takes to count as dead. */
async function whileWorkersSleep<T>(work: () => Promise<T>): Promise<T> {
  stack.worker.process.kill('SIGSTOP')
  return await work().finally(() => stack.worker.process.kill('SIGCONT'))
}

describe('a batch of the openai SDK', () => {
  it('is created, polled and its output downloaded', async () => {
    const names = numbered(25)
    const input = await upload(jsonl(names.map(name => line(name, { max_tokens: 50 }))))
    const before = Math.floor(Date.now() / 1000)
    const created = await whileWorkersSleep(() => create(input, { metadata: { job: 'nightly' } }))
    expect(created).toEqual({
      id: expect.stringMatching(/^batch_[0-9a-f]{32}$/),
      object: 'batch',
      endpoint: ENDPOINT,
      input_file_id: input,
      completion_window: '24h',
      status: 'validating',
      created_at: expect.any(Number),
      expires_at: created.created_at + 86_400,
      request_counts: { total: 0, completed: 0, failed: 0 },
      metadata: { job: 'nightly' },
    })
    expect(created.created_at).toBeGreaterThanOrEqual(before)

    const batch = await ended(created)
    const { output_file_id, in_progress_at, finalizing_at, completed_at, usage, ...rest } = batch
    expect(rest).toEqual({
      ...created,
      model: MODEL,
      status: 'completed',
      request_counts: { total: 25, completed: 25, failed: 0 },
    })
    const times = [batch.created_at, in_progress_at!, finalizing_at!, completed_at!]
    expect(times.every(Number.isInteger)).toBe(true)
    expect(times.toSorted((a, b) => a - b)).toEqual(times)

    const file = await client.files.retrieve(output_file_id!)
    expect(file).toMatchObject({ purpose: 'batch_output', filename: `${batch.id}_output.jsonl`, status: 'processed' })
    expect((await client.files.list({ purpose: 'batch_output' })).data).toEqual([file])
    const { output } = await results(batch)
    expect(Object.keys(output).toSorted()).toEqual(names.toSorted())
    for (const answer of Object.values(output)) {
      expect(answer).toEqual({
        id: expect.stringMatching(/^batch_req_[0-9a-f]{32}$/),
        custom_id: answer.custom_id,
        response: { status_code: 200, request_id: expect.stringMatching(/./), body: expect.any(Object) },
        error: null,
      })
      expect(answer.response!.body).toMatchObject({
        object: 'chat.completion',
        model: MODEL,
        choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: 'Hello from upstream.' } }],
      })
    }
    const used = Object.values(output).map(one => one.response!.body.usage as OpenAI.CompletionUsage)
    const sum = (name: 'prompt_tokens' | 'completion_tokens') => used.reduce((total, one) => total + one[name], 0)
    expect(usage).toEqual({
      input_tokens: sum('prompt_tokens'),
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: sum('completion_tokens'),
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: sum('prompt_tokens') + sum('completion_tokens'),
    })
    expect(usage!.input_tokens).toBeGreaterThan(0)
    expect(asked()).toEqual(Object.fromEntries(names.map(name => [name, 1])))
  })

  it('can call /v1/responses', async () => {
    const endpoint = '/v1/responses'
    const body = { model: MODEL, input: '[[one]]' }
    const batch = await run([{ custom_id: 'one', method: 'POST', url: endpoint, body }], { endpoint })
    expect(batch).toMatchObject({ status: 'completed', endpoint })
    const { one } = (await results(batch)).output
    expect(one!.response!.body).toMatchObject({ object: 'response', status: 'completed', error: null })
    expect(one!.response!.body.output[0].content[0].text).toBe('Hello from upstream.')
  })

  it('may name models of several providers', async () => {
    const models = { one: MODEL, two: 'ollama/llama3.2', three: 'anthropic/claude-sonnet-5', four: 'ollama/llama3.2' }
    const batch = await run(Object.entries(models).map(([name, model]) => line(name, { model })))
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 4, completed: 4, failed: 0 } })
    expect(batch).not.toHaveProperty('model')
    const { output } = await results(batch)
    const answered = Object.entries(output).map(([name, one]) => [name, one.response!.body.model])
    expect(Object.fromEntries(answered)).toEqual({
      ...models,
      two: 'llama3.2',
      three: 'claude-sonnet-5',
      four: 'llama3.2',
    })
    const providers = stack.upstream.log().map(call => [call.markers[0], call.provider])
    expect(Object.fromEntries(providers)).toEqual({
      one: 'anthropic',
      two: 'ollama',
      three: 'anthropic',
      four: 'ollama',
    })
  })

  it('answers invalid lines with an error and runs the others', async () => {
    stack.upstream.rule('refused', { status: 400, message: 'not this one' })
    const batch = await run([
      line('good'),
      line('tools', { tools: [{ type: 'function', function: { name: 'f' } }] }),
      line('refused'),
    ])
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 3, completed: 1, failed: 2 } })
    expect(batch).not.toHaveProperty('errors')
    const { output, errors } = await results(batch)
    expect(Object.keys(output)).toEqual(['good'])
    expect(Object.keys(errors)).toHaveLength(2)
    const said = (name: string) => {
      expect(errors[name]!.error).toBeNull()
      const { status_code, body } = errors[name]!.response!
      return { status_code, ...body.error }
    }
    const type = 'invalid_request_error'
    expect(said('tools')).toMatchObject({ status_code: 400, type, code: 'unsupported_parameter', param: 'tools' })
    expect(said('refused')).toMatchObject({ status_code: 422, code: 'provider_rejected' })
    expect(asked()).toEqual({ good: 1, refused: 1 })
    const file = await client.files.retrieve(batch.error_file_id!)
    expect(file).toMatchObject({ purpose: 'batch_output', filename: `${batch.id}_error.jsonl` })
  })

  it('completes without an output file when every line failed', async () => {
    const batch = await run([line('a', { n: 2 }), line('b', { model: 7 })])
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 2, completed: 0, failed: 2 } })
    expect(batch).not.toHaveProperty('output_file_id')
    expect(Object.keys((await results(batch)).errors)).toEqual(['a', 'b'])
    expect(asked()).toEqual({})
  })

  it('has files that expire after output_expires_after', async () => {
    const output_expires_after = { anchor: 'created_at', seconds: 7200 } as const
    const batch = await run([line('a'), line('b', { n: 2 })], { output_expires_after })
    for (const id of [batch.output_file_id!, batch.error_file_id!]) {
      const file = await client.files.retrieve(id)
      expect(file.expires_at).toBe(file.created_at + 7200)
    }
  })

  it('continues without its input file once it is in progress', async () => {
    const gate = stack.upstream.hold()
    const created = await start(numbered(3).map(name => line(name)))
    await gate.waiting(3)
    expect(await client.files.delete(created.input_file_id)).toMatchObject({ deleted: true })
    gate.release()
    const batch = await ended(created)
    expect(batch).toMatchObject({ status: 'completed', input_file_id: created.input_file_id })
    expect(Object.keys((await results(batch)).output)).toHaveLength(3)
  })

  it('fails if its input file is deleted before it is read', async () => {
    const created = await whileWorkersSleep(async () => {
      const one = await start([line('a')])
      await client.files.delete(one.input_file_id)
      return one
    })
    const batch = await ended(created)
    expect(batch.errors?.data).toMatchObject([{ code: 'input_file_not_found', param: 'input_file_id' }])
    expect(batch).toMatchObject({ status: 'failed', failed_at: expect.any(Number) })
  })

  it('is created once per Idempotency-Key', async () => {
    const input_file_id = await upload(jsonl([line('a')]))
    const params = { input_file_id, endpoint: ENDPOINT, completion_window: '24h' } as const
    const once = (more: object = {}, key = 'nightly') =>
      client.batches.create({ ...params, ...more }, { headers: { 'idempotency-key': key } })
    const first = await once({ metadata: { a: '1', b: '2' } })
    const batch = await ended(first)
    expect(await once({ metadata: { b: '2', a: '1' } }), 'as it is by now').toEqual(batch)
    const other = await once({}, 'another')
    expect(other.id).not.toBe(first.id)
    expect(await errorOf(once({ metadata: { a: '2' } }))).toMatchObject({ status: 400, code: 'idempotency_mismatch' })
    await errorOf(once({}, 'x'.repeat(256)))
    expect((await client.batches.list()).data).toHaveLength(2)
    await ended(other)
    expect(asked()).toEqual({ a: 2 })
  })

  it('can share its input file with others', async () => {
    const file = await upload(jsonl([line('a')]))
    const batches = [await create(file), await create(file)]
    for (const batch of batches) expect(Object.keys((await results(await ended(batch))).output)).toEqual(['a'])
    expect(asked()).toEqual({ a: 2 })
  })
})

/**
 * A worker notices a cancellation half a second later. By then it may have started some dozen of these lines. Each has its own
 * model, because three slow calls open the breaker of a model.
 */
function holdSlowly() {
  stack.upstream.rule('held', { delayMs: 200 })
  return stack.upstream.hold({ when: /held/ })
}

describe('a batch that is cancelled', () => {
  it('keeps its answers and makes no further calls', async () => {
    const names = [...numbered(3, 'quick'), ...numbered(150, 'held')]
    const gate = holdSlowly()
    const created = await start(names.map(name => line(name, { model: 'claude-sonnet-5-5' })))
    await gate.waiting(1)
    const running = await until(created, one => one.request_counts!.completed === 3)
    expect(running).toMatchObject({ status: 'in_progress', request_counts: { total: 153, completed: 3, failed: 0 } })
    expect(running).not.toHaveProperty('output_file_id')
    expect(running).not.toHaveProperty('usage')
    const cancelling = await client.batches.cancel(created.id)
    expect(cancelling).toMatchObject({ status: 'cancelling', cancelling_at: expect.any(Number) })
    expect(await client.batches.cancel(created.id)).toMatchObject({ status: 'cancelling' })
    gate.release()
    const batch = await ended(created)
    const calls = asked()
    expect(batch).toMatchObject({ status: 'cancelled', cancelled_at: expect.any(Number) })
    expect(batch).not.toHaveProperty('completed_at')
    const { output, errors } = await results(batch)
    expect([...Object.keys(output), ...Object.keys(errors)].toSorted()).toEqual(names.toSorted())
    expect(Object.keys(output).toSorted()).toEqual(Object.keys(calls).toSorted())
    expect(Object.values(calls).every(count => count === 1)).toBe(true)
    const [done, rest] = [Object.keys(output).length, Object.keys(errors).length]
    expect(rest).toBeGreaterThan(0)
    expect(batch.request_counts).toEqual({ total: 153, completed: done, failed: rest })
    for (const one of Object.values(errors))
      expect(one).toMatchObject({ response: null, error: { code: 'batch_cancelled', message: /./ } })
  })

  it('before it was read has no lines', async () => {
    const created = await whileWorkersSleep(async () => {
      const one = await start([line('a')])
      expect(await client.batches.cancel(one.id)).toMatchObject({ status: 'cancelling' })
      return one
    })
    const batch = await ended(created)
    expect(batch).toMatchObject({ status: 'cancelled', request_counts: { total: 0, completed: 0, failed: 0 } })
    expect(batch).not.toHaveProperty('output_file_id')
    expect(batch).not.toHaveProperty('error_file_id')
    expect(asked()).toEqual({})
  })

  it('after its end is a conflict, which the SDK does not retry', async () => {
    const batch = await run([line('a')])
    const failed = await run(['{'])
    for (const { id } of [batch, failed]) {
      requests = 0
      const error = await errorOf(clientOf(client.apiKey!, { maxRetries: 3 }).batches.cancel(id))
      expect(error).toBeInstanceOf(OpenAI.ConflictError)
      expect(error).toMatchObject({ status: 409, code: 'batch_finished', type: 'invalid_request_error' })
      expect(error.headers!.get('x-should-retry')).toBe('false')
      expect(requests).toBe(1)
    }
    expect(await client.batches.retrieve(batch.id)).toEqual(batch)
  })
})

describe('a batch that expires', () => {
  const expire = ({ id }: Batch) => {
    const uuid = `'${id.slice('batch_'.length)}'::uuid`
    return stack.sql(`UPDATE batches SET expires_at = now() WHERE id = ${uuid}`)
  }

  it('keeps its answers and lists the lines without one', async () => {
    const names = [...numbered(3, 'quick'), ...numbered(150, 'held')]
    const gate = holdSlowly()
    const created = await start(names.map(name => line(name, { model: 'claude-opus-5-5' })))
    await until(created, one => one.request_counts!.completed === 3)
    await expire(created)
    gate.release()
    const batch = await ended(created)
    expect(batch).toMatchObject({ status: 'expired', expired_at: expect.any(Number) })
    expect(batch).not.toHaveProperty('completed_at')
    const { output, errors } = await results(batch)
    expect([...Object.keys(output), ...Object.keys(errors)].toSorted()).toEqual(names.toSorted())
    expect(Object.keys(output)).toEqual(expect.arrayContaining(numbered(3, 'quick')))
    expect(Object.keys(errors).length).toBeGreaterThan(0)
    for (const one of Object.values(errors))
      expect(one).toMatchObject({ response: null, error: { code: 'batch_expired', message: /./ } })
    const [completed, failed] = [Object.keys(output).length, Object.keys(errors).length]
    expect(batch.request_counts).toEqual({ total: 153, completed, failed })
  })

  it('before it was read has no lines', async () => {
    const created = await whileWorkersSleep(async () => {
      const one = await start([line('a')])
      await expire(one)
      return one
    })
    const batch = await ended(created)
    expect(batch).toMatchObject({ status: 'expired', request_counts: { total: 0, completed: 0, failed: 0 } })
    expect(asked()).toEqual({})
  })
})

describe('a list of batches', () => {
  it('holds the batches of its key, newest first, in pages', async () => {
    const file = await upload('')
    const ids: string[] = []
    for (let i = 0; i < 5; i++) ids.unshift((await create(file)).id)
    const other = await makeClient()
    const theirs = await create(await upload('', other), {}, other)
    const paged: string[] = []
    let pages = 0
    for await (const page of (await client.batches.list({ limit: 2 })).iterPages()) {
      pages++
      paged.push(...page.data.map(one => one.id))
    }
    expect({ paged, pages }).toEqual({ paged: ids, pages: 3 })
    const page = await stack.call('GET', '/v1/batches?limit=2', { key: client.apiKey })
    expect(page.body).toMatchObject({ object: 'list', first_id: ids[0], last_id: ids[1], has_more: true })
    expect((await client.batches.list({ after: ids[3]! })).data.map(one => one.id)).toEqual([ids[4]])
    expect(await client.batches.list({ after: ids[4]! })).toMatchObject({ data: [], has_more: false })
    const all = (await clientOf(ADMIN).batches.list({ limit: 6 })).data.map(one => one.id)
    expect(all).toEqual([theirs.id, ...ids])
  })

  it('names the wrong parameter', async () => {
    for (const query of [{ limit: 0 }, { limit: 101 }, { limit: 'x' }, { after: 'x' }, { colour: 'red' }]) {
      const error = await errorOf(client.batches.list(query as OpenAI.BatchListParams))
      expect(error).toBeInstanceOf(OpenAI.BadRequestError)
      expect(error.param).toBe(Object.keys(query)[0])
    }
  })
})

describe('a refused batch', () => {
  it.each<[string, string, Params]>([
    ['another endpoint', 'endpoint', { endpoint: '/v1/nothing' }],
    ['an endpoint that is not served', 'endpoint', { endpoint: '/v1/completions' }],
    ['no endpoint', 'endpoint', { endpoint: undefined as never }],
    ['another window', 'completion_window', { completion_window: '48h' as '24h' }],
    ['no window', 'completion_window', { completion_window: undefined as never }],
    ['no file', 'input_file_id', { input_file_id: undefined as never }],
    ['a file of another type', 'input_file_id', { input_file_id: 7 as never }],
    ['metadata that is not an object', 'metadata', { metadata: 'x' as never }],
    ['a metadata value that is not a string', 'metadata.n', { metadata: { n: 7 as never } }],
    ['a metadata value that is too long', 'metadata.a', { metadata: { a: 'x'.repeat(513) } }],
    ['too much metadata', 'metadata', { metadata: Object.fromEntries(numbered(17).map(name => [name, ''])) }],
    ['a metadata key that is too long', 'metadata', { metadata: { ['x'.repeat(65)]: '' } }],
    ['metadata that cannot be stored', 'metadata.a', { metadata: { a: '\0' } }],
    [
      'an expiry of its output that is too short',
      'output_expires_after.seconds',
      { output_expires_after: { anchor: 'created_at', seconds: 1 } },
    ],
    [
      'another anchor',
      'output_expires_after.anchor',
      { output_expires_after: { anchor: 'now' as never, seconds: 7200 } },
    ],
    ['an unknown field', 'colour', { colour: 'red' } as never],
    ['a negative cost', 'max_cost_usd', { max_cost_usd: -1 } as never],
    ['a webhook to a private address', 'webhook_url', { webhook_url: 'http://10.0.0.1/' } as never],
  ])('with %s is refused at once, with param %s', async (_, param, more) => {
    const error = await errorOf(create(await upload(''), more))
    expect(error).toBeInstanceOf(OpenAI.BadRequestError)
    expect(error).toMatchObject({ param, type: 'invalid_request_error', code: expect.any(String) })
    expect(error.message).toMatch(/./)
    expect(error.headers!.get('x-should-retry')).toBe('false')
    expect((await client.batches.list()).data).toEqual([])
  })

  it('without an input file of its key is refused at once', async () => {
    const other = await makeClient()
    const theirs = await upload('', other)
    for (const id of [theirs, 'file-0', `file-${'0'.repeat(32)}`, `batch_${'0'.repeat(32)}`]) {
      const error = await errorOf(create(id))
      expect(error).toBeInstanceOf(OpenAI.NotFoundError)
      expect(error).toMatchObject({ code: 'file_not_found', param: 'input_file_id' })
    }
    const { output_file_id } = await run([line('a')])
    const error = await errorOf(create(output_file_id!))
    expect(error).toBeInstanceOf(OpenAI.BadRequestError)
    expect(error).toMatchObject({ param: 'input_file_id', message: expect.stringContaining('purpose') })
  })

  it('of another key is not found and cannot be cancelled', async () => {
    const gate = stack.upstream.hold()
    const { id } = await start([line('a')])
    await gate.waiting()
    const other = await makeClient()
    for (const wrong of [id, 'batch_0', `batch_${'0'.repeat(32)}`, `file-${id.slice(6)}`]) {
      for (const work of [() => other.batches.retrieve(wrong), () => other.batches.cancel(wrong)]) {
        const error = await errorOf(work())
        expect(error).toBeInstanceOf(OpenAI.NotFoundError)
        expect(error).toMatchObject({ code: 'batch_not_found', type: 'invalid_request_error' })
      }
    }
    gate.release()
    expect(await ended({ id })).toMatchObject({ status: 'completed' })
    expect(await clientOf(ADMIN).batches.retrieve(id)).toMatchObject({ id, status: 'completed' })
  })

  it('needs the scope', async () => {
    const [reader, writer] = [await makeClient({ scopes: ['read'] }), await makeClient({ scopes: ['submit'] })]
    expect(await errorOf(create('file-0', {}, reader))).toBeInstanceOf(OpenAI.PermissionDeniedError)
    expect(await errorOf(reader.batches.cancel('batch_0'))).toBeInstanceOf(OpenAI.PermissionDeniedError)
    expect(await errorOf(writer.batches.retrieve('batch_0'))).toBeInstanceOf(OpenAI.PermissionDeniedError)
    expect(await errorOf(clientOf('sk-wrong').batches.list())).toBeInstanceOf(OpenAI.AuthenticationError)
  })
})

describe('an invalid input file', () => {
  const fails = async (content: string | Buffer) => {
    const batch = await ended(await create(await upload(content)))
    expect(batch).toMatchObject({ status: 'failed', failed_at: expect.any(Number), errors: { object: 'list' } })
    expect(batch.request_counts).toEqual({ total: 0, completed: 0, failed: 0 })
    for (const name of ['usage', 'output_file_id', 'error_file_id', 'in_progress_at'])
      expect(batch).not.toHaveProperty(name)
    expect(asked()).toEqual({})
    return batch.errors!.data!.map(({ code, line, param, message }) => {
      expect(message).toMatch(/./)
      return [line, code, param]
    })
  }

  it('fails the batch with the line and its error', async () => {
    const wrong: [unknown, string, string | null][] = [
      ['Hello', 'invalid_json_line', null],
      ['[]', 'invalid_json_line', null],
      [line('a', {}, { custom_id: undefined }), 'missing_required_parameter', 'custom_id'],
      [line('a', {}, { custom_id: 7 }), 'invalid_custom_id', 'custom_id'],
      [line('a', {}, { method: undefined }), 'missing_required_parameter', 'method'],
      [line('a', {}, { method: 'GET' }), 'invalid_method', 'method'],
      [line('a', {}, { url: '/chat' }), 'invalid_url', 'url'],
      [line('a', {}, { url: '/v1/responses' }), 'url_mismatch', 'url'],
      [line('a', {}, { body: undefined }), 'missing_required_parameter', 'body'],
      [line('a', {}, { body: [] }), 'invalid_type', 'body'],
      [line('a', { stream: true }), 'streaming_unsupported', 'body.stream'],
      [line('good'), 'duplicate_custom_id', 'custom_id'],
    ]
    const expected = wrong.map(([, code, param], i) => [i + 2, code, param])
    expect(await fails(jsonl([line('good'), ...wrong.map(([one]) => one)]))).toEqual(expected)
  })

  it('fails the batch as a whole', async () => {
    expect(await fails('')).toEqual([[1, 'empty_file', null]])
    expect(await fails('\n\r\n')).toEqual([[1, 'empty_file', null]])
    const latin = Buffer.concat([Buffer.from(jsonl([line('a')])), Buffer.from('{"é":1}\n', 'latin1')])
    expect(await fails(latin)).toEqual([[2, 'invalid_utf8', null]])
    expect(await fails(Buffer.alloc(100_000))).toEqual([[1, 'invalid_json_line', null]])
    expect(await fails(`${jsonl([line('a')])}${'x'.repeat(9 << 20)}`)).toEqual([[2, 'line_too_long', null]])
    expect(await fails('no\n'.repeat(1000))).toHaveLength(100)
  })

  it('fails the batch with 50,001 lines', { timeout: 120_000 }, async () => {
    const lines = numbered(50_001).map(name => line(name))
    expect(await fails(jsonl(lines))).toEqual([[50_001, 'too_many_tasks', null]])
    expect(await stack.sql(`SELECT count(*)::int AS n FROM tasks WHERE custom_id = 'line-50000'`)).toEqual([{ n: 0 }])
  })

  it('may have a byte order mark, CRLF, blank lines, no final newline and a line of 5 MB', async () => {
    const lines = [line('a'), line('b', { messages: [{ role: 'user', content: 'x'.repeat(5_000_000) }] }), line('ä🙂')]
    const text = `\uFEFF${lines.map(one => JSON.stringify(one)).join('\r\n\r\n')}`
    const batch = await ended(await create(await upload(text)))
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 3, completed: 2, failed: 1 } })
    const { output, errors } = await results(batch)
    expect(Object.keys(output)).toEqual(['a', 'ä🙂'])
    // Longer than the limit of a text, which is an error of this line only.
    expect(errors.b!.response).toMatchObject({ status_code: 400, body: { error: { code: 'string_above_max_length' } } })
  })
})

describe('an unknown model', () => {
  // Ollama may have any model.
  const without = sharedStack()

  it('is 404 for its line only', async () => {
    const by = clientOf(ADMIN, { port: without.api.port })
    const input = await upload(jsonl([line('good'), line('unknown', { model: 'gpt-9' })]), by)
    const batch = await ended(await create(input, {}, by), by)
    expect(batch).toMatchObject({ status: 'completed', request_counts: { total: 2, completed: 1, failed: 1 } })
    const { output, errors } = await results(batch, by)
    expect(Object.keys(output)).toEqual(['good'])
    expect(errors).toEqual({ unknown: expect.objectContaining({ error: null }) })
    const { status_code, body } = errors.unknown!.response!
    expect({ status_code, error: body.error }).toMatchObject({
      status_code: 404,
      error: { type: 'invalid_request_error', code: 'model_not_found', param: 'model' },
    })
    expect(without.upstream.markers()).toEqual({ good: 1 })
  })
})

it('an upload may be a stream', async () => {
  const file = await toFile(
    Readable.from([Buffer.from(jsonl([line('a')])), Buffer.from(jsonl([line('b')]))]),
    'in.jsonl',
  )
  const { id } = await client.files.create({ file, purpose: 'batch' })
  expect(await ended(await create(id))).toMatchObject({ request_counts: { total: 2, completed: 2, failed: 0 } })
})

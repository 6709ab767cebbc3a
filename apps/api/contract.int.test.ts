import { createHash } from 'node:crypto'
import { connect as openSocket } from 'node:net'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import { ERRORS } from '#shared/errors.ts'
import { jobs } from '#shared/jobs/index.ts'
import type { Lifecycle } from '#shared/lifecycle.ts'
import { createLogger } from '#shared/logger.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { type Child, startChild } from '#shared/testing/child.ts'
import { createTestDatabase, type TestDatabase, testPrefix } from '#shared/testing/database.ts'
import { type Contract, createContract, type OpenApi } from '#shared/testing/openapi.ts'
import { ask, connect } from '#shared/testing/postgres.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { startApi } from './server.ts'

/** The real API and a worker process. Every answer in this file is held against /openapi.json. */

const ADMIN = 'the-admin-key-of-this-test'
let database: TestDatabase
let upstream: Upstream
let api: { lifecycle: Lifecycle; port: number }
let worker: Child
let document: OpenApi
let contract: Contract
/** Which operations were called, and which statuses they answered. */
const seen = new Map<string, Set<number>>()

beforeAll(async () => {
  ;[database, upstream] = await Promise.all([createTestDatabase(), startUpstream()])
  const env = {
    DATABASE_URL: database.url,
    REDIS_URL: inject('redisUrl'),
    REDIS_PREFIX: testPrefix(),
    ANTHROPIC_API_KEY: 'key',
    ANTHROPIC_BASE_URL: upstream.url,
    PROVIDERS: 'anthropic',
    PORT: '0',
    WORKER_PORT: '0',
    WORKER_CONCURRENCY: '20',
    ADMIN_KEY: ADMIN,
    LOG_LEVEL: 'silent',
    DRAIN_SECONDS: '2',
  }
  const logger = createLogger({ level: 'silent', name: 'test' })
  ;[api, worker] = await Promise.all([
    startApi({ config: parseConfig(env), logger, host: 'here', pid: process.pid }),
    startChild('workers/main.ts', env),
  ])
  document = (await (await fetch(`http://127.0.0.1:${api.port}/openapi.json`)).json()) as OpenApi
  contract = createContract(document)
})
afterAll(async () => {
  await worker?.stop()
  await api?.lifecycle.stop()
  await upstream?.close()
  await database?.drop()
})

type CallOptions = { key?: string | null; headers?: Record<string, string>; body?: unknown }
// biome-ignore lint/suspicious/noExplicitAny: the documents under test, held against their schemas before anything else.
type Answer = { status: number; headers: Headers; body: any }

/** One request as a client would make it; its answer must be what the documentation says. */
async function call(method: string, path: string, { key = ADMIN, headers, body }: CallOptions = {}): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${api.port}${path}`, {
    method,
    redirect: 'manual',
    headers: {
      ...(key !== null && { authorization: `Bearer ${key}` }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  const type = response.headers.get('content-type')?.split(';')[0] ?? ''
  const answer = {
    status: response.status,
    headers: response.headers,
    body: /json/.test(type) ? JSON.parse(text) : text,
  }
  const { name, wrong } = contract.check(method, new URL(path, 'http://x').pathname, { ...answer, type })
  expect(wrong).toBeNull()
  if (name) seen.set(name, (seen.get(name) ?? new Set()).add(answer.status))
  expect(answer.headers.get('x-request-id')).toMatch(/^[\w.:-]{1,128}$/)
  if (answer.status >= 400 && name !== 'GET /health/ready') {
    expect(type).toBe('application/problem+json')
    expect(answer.body).toEqual({
      type: `urn:sluice:error:${answer.body.code}`,
      title: expect.stringMatching(/./),
      status: answer.status,
      code: expect.toBeOneOf(Object.keys(ERRORS)),
      detail: expect.stringMatching(/./),
      retryable: expect.any(Boolean),
      advice: expect.stringMatching(/./),
      request_id: answer.headers.get('x-request-id'),
      context: expect.any(Object),
    })
  }
  return answer
}
const submit = (body: object = {}, options: CallOptions = {}) =>
  call('POST', '/api/v1/tasks/generate', { body: { input: { prompt: 'Say hello' }, ...body }, ...options })
const makeKey = async (body: object = {}): Promise<{ id: string; secret: string }> => {
  const answer = await call('POST', '/api/v1/keys', { body: { name: 'an application', ...body } })
  expect(answer.status).toBe(201)
  return { id: answer.body.id, secret: answer.body.key }
}
const finished = async (body: object = {}, options: CallOptions = {}) => {
  const answer = await submit(body, { ...options, headers: { prefer: 'wait=30', ...options.headers } })
  expect(answer.status).toBe(200)
  return answer.body
}

describe('the OpenAPI document', () => {
  it('is OpenAPI 3.1 with every operation described', () => {
    expect(document.openapi).toMatch(/^3\.1\.\d$/)
    expect(document.info).toMatchObject({ title: 'Sluice', version: expect.stringMatching(/^\d/) })
    const schemes = Object.keys(document.components?.securitySchemes ?? {})
    expect(schemes.length).toBeGreaterThan(0)
    for (const { name, path, operation } of contract.operations) {
      expect(operation.summary, name).toMatch(/./)
      expect(operation.tags, name).toHaveLength(1)
      const statuses = Object.keys(operation.responses)
      expect(
        statuses.some(status => status.startsWith('2')),
        `${name} says how it succeeds`,
      ).toBe(true)
      expect(statuses, name).toEqual(expect.arrayContaining(['4XX', '5XX']))
      const inPath = (operation.parameters ?? []).filter(one => one.in === 'path')
      expect(
        inPath.map(one => `{${one.name}}`),
        name,
      ).toEqual(path.match(/\{[^}]+\}/g) ?? [])
      expect(
        inPath.every(one => one.required),
        name,
      ).toBe(true)
      for (const security of operation.security ?? [])
        expect(schemes).toEqual(expect.arrayContaining(Object.keys(security)))
      expect(Boolean(operation.security?.length), `${name} needs a key`).toBe(path.startsWith('/api/'))
    }
    const ids = contract.operations.flatMap(one => one.operation.operationId ?? [])
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('has only schemas that are valid, and asks for nothing that has a default', () => {
    const walk = (node: unknown, where: string): void => {
      if (typeof node !== 'object' || node === null) return
      const { required, properties } = node as {
        required?: string[]
        properties?: Record<string, { default?: unknown }>
      }
      if (Array.isArray(required) && properties)
        for (const name of required) expect(properties[name]?.default, `${where}/${name}`).toBeUndefined()
      for (const [key, child] of Object.entries(node)) walk(child, `${where}/${key}`)
    }
    for (const { name, operation } of contract.operations) {
      for (const parameter of operation.parameters ?? []) {
        expect(() => contract.violation(parameter.schema, null), `${name} ${parameter.name}`).not.toThrow()
        if ((parameter.schema as { default?: unknown }).default !== undefined)
          expect(parameter.required, `${name} ${parameter.name}`).not.toBe(true)
      }
      for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
        expect(() => contract.violation(schema!, null), name).not.toThrow()
        walk(schema, name)
      }
      for (const [status, response] of Object.entries(operation.responses)) {
        expect(response.description).toMatch(/./)
        for (const { schema } of Object.values(response.content ?? {}))
          expect(() => contract.violation(schema!, null), `${name} ${status}`).not.toThrow()
      }
    }
  })

  it('has a route for every job kind', () => {
    for (const kind of jobs.keys()) expect(document.paths).toHaveProperty([`/api/v1/tasks/${kind}`, 'post'])
  })

  it('has examples that work as they are', async () => {
    for (const { name, method, path, operation } of contract.operations) {
      const media = operation.requestBody?.content['application/json']
      if (!media) continue
      const examples = [media.example, ...Object.values(media.examples ?? {}).map(one => one.value)].filter(Boolean)
      expect(examples.length, `${name} has an example`).toBeGreaterThan(0)
      for (const body of examples) {
        expect(contract.violation(media.schema!, body)).toBeNull()
        expect((await call(method, path, { body })).status, name).toBeLessThan(300)
      }
    }
  })
})

describe('submitting', () => {
  it('answers 202 with where to look, before the task has run', async () => {
    const gate = upstream.hold()
    const answer = await submit({ metadata: { order: 7 }, options: { stream: false } })
    expect(answer.status).toBe(202)
    const { task_id } = answer.body
    const self = `/api/v1/tasks/${task_id}`
    expect(answer.body).toMatchObject({
      kind: 'generate',
      status: 'queued',
      urls: { self, events: `${self}/events`, cancel: `${self}/cancel` },
    })
    expect(answer.headers.get('location')).toBe(self)
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    gate.release()
    const task = (await call('GET', `${self}?wait=30`)).body
    expect(task).toMatchObject({
      task_id,
      status: 'succeeded',
      result: { text: 'Hello from upstream.' },
      source: 'ai',
      quality: 'high',
      provider: 'anthropic',
      metadata: { order: 7 },
      error: null,
      attempts: [{ provider: 'anthropic', outcome: 'succeeded' }],
    })
    expect(task.usage.output_tokens).toBeGreaterThan(0)
    expect(task.cost_usd).toBeGreaterThan(0)
    expect(Date.parse(task.finished_at)).toBeGreaterThanOrEqual(Date.parse(task.created_at))
  })

  it('answers 200 with the whole task when the client prefers to wait', async () => {
    const task = await finished()
    expect(task).toMatchObject({ status: 'succeeded', result: { text: 'Hello from upstream.' } })
    expect((await call('GET', `/api/v1/tasks/${task.task_id}`)).body).toEqual(task)
  })

  it('answers 202 when the wait is over first, and the task goes on', async () => {
    const gate = upstream.hold({ when: /patience/ })
    const answer = await submit({ input: { prompt: 'patience' } }, { headers: { prefer: 'respond-async, wait=1' } })
    expect(answer.status).toBe(202)
    gate.release()
    expect((await call('GET', `${answer.body.urls.self}?wait=30`)).body.status).toBe('succeeded')
  })

  it('gives a checked object when a schema is asked for', async () => {
    upstream.script({ when: 'as JSON', text: '{"n":1}' })
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    expect((await finished({ input: { prompt: 'as JSON', schema } })).result).toEqual({ n: 1 })
  })

  it('tells what went wrong when a task fails', async () => {
    upstream.script({ when: 'refuse', status: 400, message: 'prompt is too long' })
    const task = await finished({ input: { prompt: 'refuse' } })
    expect(task).toMatchObject({ status: 'failed', result: null, source: null, error: { code: 'provider_rejected' } })
    expect(task.attempts[0]).toMatchObject({ outcome: 'invalid_request', error: { code: 'invalid_request' } })
    expect(task.attempts[0].error.message).toContain('prompt is too long')
  })

  it('makes one task of one Idempotency-Key', async () => {
    const headers = { 'idempotency-key': 'order-7' }
    const first = await submit({ metadata: { a: 1, b: 2 } }, { headers })
    const same = await submit({ metadata: { b: 2, a: 1 } }, { headers })
    expect([first.status, same.status]).toEqual([202, 202])
    expect(same.body.task_id).toBe(first.body.task_id)
    const waited = await submit({ metadata: { a: 1, b: 2 } }, { headers: { ...headers, prefer: 'wait=30' } })
    expect(waited).toMatchObject({ status: 200, body: { task_id: first.body.task_id, status: 'succeeded' } })
    const other = await submit({ metadata: { a: 2 } }, { headers })
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_mismatch' } })
    const { secret } = await makeKey()
    const stranger = await submit({}, { headers, key: secret })
    expect(stranger.body.task_id).not.toBe(first.body.task_id)
  })
})

describe('errors', () => {
  const prompt = (input: unknown) => ({ body: { input } })
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  it.each<[string, string, string, CallOptions, number, string, Record<string, unknown>]>([
    ['no key', 'GET', '/api/v1/tasks', { key: null }, 401, 'unauthenticated', {}],
    ['a wrong key', 'GET', '/api/v1/tasks', { key: `${ADMIN}x` }, 401, 'unauthenticated', {}],
    ['a path that is nothing', 'GET', '/api/v2/tasks', {}, 404, 'not_found', {}],
    ['a method that is nothing', 'PUT', '/api/v1/tasks/generate', { body: {} }, 404, 'not_found', {}],
    ['a URL that cannot be decoded', 'GET', '/api/v1/tasks/%zz', {}, 404, 'not_found', {}],
    ['an unknown kind', 'POST', '/api/v1/tasks/poem', { body: {} }, 404, 'unknown_kind', { kinds: [...jobs.keys()] }],
    ['what is no id', 'GET', '/api/v1/tasks/task_1', {}, 404, 'task_not_found', { task_id: 'task_1' }],
    ['U+0000 for an id', 'GET', '/api/v1/tasks/%00', {}, 404, 'task_not_found', {}],
    ['broken JSON', 'POST', '/api/v1/tasks/generate', { body: '{"input":' }, 400, 'invalid_json', {}],
    ['a key named __proto__', 'POST', '/api/v1/tasks/generate', { body: '{"__proto__":{}}' }, 400, 'invalid_json', {}],
    ['no body', 'POST', '/api/v1/tasks/generate', {}, 422, 'invalid_request', { field: '/' }],
    ['null', 'POST', '/api/v1/tasks/generate', { body: 'null' }, 422, 'invalid_request', { field: '/' }],
    ['no input', 'POST', '/api/v1/tasks/generate', { body: {} }, 422, 'invalid_request', { field: '/input' }],
    [
      'a number for a text',
      'POST',
      '/api/v1/tasks/generate',
      prompt({ prompt: 1 }),
      422,
      'invalid_request',
      { field: '/input/prompt' },
    ],
    [
      'neither prompt nor messages',
      'POST',
      '/api/v1/tasks/generate',
      prompt({}),
      422,
      'invalid_request',
      { field: '/input/prompt' },
    ],
    [
      'an unknown field',
      'POST',
      '/api/v1/tasks/generate',
      prompt({ prompt: 'a', tone: 'b' }),
      422,
      'invalid_request',
      { field: '/input/tone' },
    ],
    [
      'a useless schema',
      'POST',
      '/api/v1/tasks/generate',
      prompt({ prompt: 'a', schema: { type: 'x' } }),
      422,
      'invalid_request',
      { field: '/input/schema' },
    ],
    [
      'a prompt over 1 MB',
      'POST',
      '/api/v1/tasks/generate',
      prompt({ prompt: 'x'.repeat(1_000_001) }),
      413,
      'field_too_large',
      { field: '/input/prompt' },
    ],
    [
      'a body over 8 MB',
      'POST',
      '/api/v1/tasks/generate',
      { body: ' '.repeat(8 * 1024 * 1024 + 1) },
      413,
      'body_too_large',
      {},
    ],
    [
      'U+0000',
      'POST',
      '/api/v1/tasks/generate',
      prompt({ prompt: 'a\0' }),
      422,
      'invalid_text',
      { field: '/input/prompt' },
    ],
    [
      'half a surrogate',
      'POST',
      '/api/v1/tasks/generate',
      { body: '{"input":{"prompt":"a"},"metadata":{"k":["\\ud800"]}}' },
      422,
      'invalid_text',
      { field: '/metadata/k/0' },
    ],
    [
      'deep nesting',
      'POST',
      '/api/v1/tasks/generate',
      { body: `{"input":{"prompt":"a"},"metadata":{"k":${nested(5000)}}}` },
      422,
      'invalid_request',
      { field: '/metadata' },
    ],
    [
      'bottomless nesting',
      'POST',
      '/api/v1/tasks/generate',
      { body: `{"input":{"prompt":"a","schema":{"k":${nested(1e6)}}}}` },
      422,
      'invalid_request',
      { field: '/input' },
    ],
    [
      'too much metadata',
      'POST',
      '/api/v1/tasks/generate',
      { body: { input: { prompt: 'a' }, metadata: { k: 'x'.repeat(17_000) } } },
      413,
      'field_too_large',
      { field: '/metadata' },
    ],
    [
      'an unknown option',
      'POST',
      '/api/v1/tasks/generate',
      { body: { input: { prompt: 'a' }, options: { tone: 1 } } },
      422,
      'invalid_request',
      { field: '/options/tone' },
    ],
    [
      'an unknown provider',
      'POST',
      '/api/v1/tasks/generate',
      { body: { input: { prompt: 'a' }, options: { provider: 'me' } } },
      422,
      'invalid_request',
      { field: '/options/provider' },
    ],
    [
      'a text for a number',
      'POST',
      '/api/v1/tasks/generate',
      { body: { input: { prompt: 'a' }, options: { max_tokens: '5' } } },
      422,
      'invalid_request',
      { field: '/options/max_tokens' },
    ],
    [
      'a type that is not JSON',
      'POST',
      '/api/v1/tasks/generate',
      { body: 'x', headers: { 'content-type': 'text/plain' } },
      415,
      'unsupported_media_type',
      {},
    ],
    [
      'an endless Idempotency-Key',
      'POST',
      '/api/v1/tasks/generate',
      { ...prompt({ prompt: 'a' }), headers: { 'idempotency-key': 'x'.repeat(256) } },
      413,
      'field_too_large',
      { in: 'headers' },
    ],
    [
      'an unknown filter',
      'GET',
      '/api/v1/tasks?tone=1',
      {},
      422,
      'invalid_request',
      { field: '/tone', in: 'querystring' },
    ],
    ['an unknown status', 'GET', '/api/v1/tasks?status=done', {}, 422, 'invalid_request', { field: '/status' }],
    ['a page of a thousand', 'GET', '/api/v1/tasks?limit=1000', {}, 422, 'invalid_request', { field: '/limit' }],
    ['a cursor that is none', 'GET', '/api/v1/tasks?after=1', {}, 422, 'invalid_request', { field: '/after' }],
    ['a wait of an hour', 'GET', '/api/v1/tasks/task_1?wait=3600', {}, 422, 'invalid_request', { field: '/wait' }],
    [
      'an unknown scope',
      'POST',
      '/api/v1/keys',
      { body: { name: 'a', scopes: ['root'] } },
      422,
      'invalid_request',
      { field: '/scopes/0' },
    ],
    ['a key without a name', 'POST', '/api/v1/keys', { body: {} }, 422, 'invalid_request', { field: '/name' }],
    ['a name with U+0000', 'POST', '/api/v1/keys', { body: { name: 'a\0' } }, 422, 'invalid_text', { field: '/name' }],
    ['what is no key', 'DELETE', '/api/v1/keys/key_1', {}, 404, 'key_not_found', { id: 'key_1' }],
  ])('say what is wrong with %s', async (_, method, path, options, status, code, context) => {
    const before = await tasksStored()
    expect(await call(method, path, options)).toMatchObject({ status, body: { code, context } })
    expect(await tasksStored()).toBe(before)
  })

  const tasksStored = async () => {
    const db = connect(database.url, 1)
    try {
      return (await ask<{ n: number }>(db, 'SELECT count(*)::int AS n FROM tasks'))[0]!.n
    } finally {
      await db.close()
    }
  }

  it('carry the caller’s own request id, if it is a decent one', async () => {
    const given = await call('GET', '/api/v1/tasks/task_1', { headers: { 'x-request-id': 'trace:1.a-b' } })
    expect(given.body.request_id).toBe('trace:1.a-b')
    const bad = await call('GET', '/api/v1/tasks/task_1', { headers: { 'x-request-id': 'a b'.repeat(100) } })
    expect(bad.body.request_id).toMatch(/^[0-9a-f-]{36}$/)
  })
})

describe('a task', () => {
  it('can be waited for, and is given at once when it has ended', async () => {
    const gate = upstream.hold({ when: /be waited for/ })
    const { body } = await submit({ input: { prompt: 'be waited for' } })
    await gate.waiting()
    const waiting = call('GET', `${body.urls.self}?wait=60`)
    gate.release()
    expect((await waiting).body.status).toBe('succeeded')
    expect((await call('GET', `${body.urls.self}?wait=60`)).body.status).toBe('succeeded')
  })

  it('is cancelled while its call is running, once', async () => {
    const gate = upstream.hold({ when: /be cancelled/ })
    const { body } = await submit({ input: { prompt: 'be cancelled' } })
    await gate.waiting()
    const before = upstream.aborted(1)
    const cancelled = await call('POST', body.urls.cancel)
    expect(cancelled).toMatchObject({ status: 200, body: { status: 'cancelled', error: { code: 'cancelled' } } })
    await before
    gate.release()
    const again = await call('POST', body.urls.cancel)
    expect(again).toMatchObject({
      status: 409,
      body: { code: 'already_finished', context: { task_id: body.task_id, status: 'cancelled' } },
    })
  })

  it('is listed newest first, page by page', async () => {
    const { secret: key } = await makeKey({ name: 'pages' })
    const ids: string[] = []
    for (let n = 0; n < 5; n++) ids.push((await submit({}, { key })).body.task_id)
    const listed: string[] = []
    for (let path: string | null = '/api/v1/tasks?limit=2'; path; ) {
      const { body } = await call('GET', path, { key })
      expect(body.has_more).toBe(listed.length + body.data.length < ids.length)
      expect(body.next === null).toBe(!body.has_more)
      listed.push(...body.data.map((task: { task_id: string }) => task.task_id))
      path = body.next && `/api/v1/tasks?limit=2&after=${body.next}`
    }
    expect(listed).toEqual(ids.toReversed())
    await Promise.all(ids.map(id => call('GET', `/api/v1/tasks/${id}?wait=30`, { key })))
    const done = await call('GET', '/api/v1/tasks?status=succeeded&kind=generate', { key })
    expect(done.body.data).toHaveLength(5)
    expect((await call('GET', '/api/v1/tasks?status=failed', { key })).body.data).toEqual([])
  })

  /** The frames of an event stream that has ended. */
  const framesOf = (text: string) =>
    text.split('\n\n').flatMap(frame => {
      const fields = Object.fromEntries(
        frame.split('\n').map(line => {
          const [, name = '', value = ''] = /^(\w*): ?(.*)$/s.exec(line) ?? []
          return [name, value]
        }),
      )
      return fields.event ? [{ event: fields.event, id: fields.id, data: JSON.parse(fields.data!) }] : []
    })

  it('is followed by its events, from the beginning or from any of them on', async () => {
    upstream.script({ when: 'be followed', text: 'Once upon a time', chunks: ['Once ', 'upon ', 'a time'] })
    const { body } = await submit({ input: { prompt: 'be followed' }, options: { stream: true } })
    const answer = await call('GET', body.urls.events)
    const events = framesOf(answer.body)
    const text = events.map(one => (one.event === 'delta' ? one.data.text : '')).join('')
    expect(text).toBe('Once upon a time')
    const done = events.at(-1)!
    expect(done.event).toBe('done')
    const task = await call('GET', body.urls.self)
    expect(done.data).toEqual(task.body)
    for (const [index, { id }] of events.entries()) {
      const rest = await call('GET', body.urls.events, { headers: { 'last-event-id': id! } })
      expect(framesOf(rest.body)).toEqual(events.slice(index + 1))
    }
  })

  it('has events that end when it is cancelled before it ran', async () => {
    const gate = upstream.hold({ when: /silence/ })
    const { body } = await submit({ input: { prompt: 'silence' } })
    const events = call('GET', body.urls.events)
    await gate.waiting()
    await call('POST', body.urls.cancel)
    gate.release()
    expect(framesOf((await events).body).at(-1)).toMatchObject({ event: 'done', data: { status: 'cancelled' } })
  })

  it.each(['-1', 'x', '1.5', '99999999999999999999'])('has no event %s to go on from', async id => {
    const { task_id } = await finished()
    const answer = await call('GET', `/api/v1/tasks/${task_id}/events`, { headers: { 'last-event-id': id } })
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_header', context: { field: 'Last-Event-ID' } } })
  })
})

describe('a key', () => {
  it('is shown once and stored as a hash', async () => {
    const made = await call('POST', '/api/v1/keys', { body: { name: 'secret', requests_per_minute: 9 } })
    const { key: secret, ...rest } = made.body
    expect(secret).toMatch(/^sk-sluice-[\w-]{43}$/)
    expect(rest).toMatchObject({
      name: 'secret',
      scopes: ['submit', 'read'],
      requests_per_minute: 9,
      hint: secret.slice(-4),
    })
    const list = await call('GET', '/api/v1/keys')
    expect(list.body.data).toContainEqual(rest)
    expect(JSON.stringify(list.body)).not.toContain(secret)

    const db = connect(database.url, 1)
    const rows = await ask<{ whole: string; secret_hash: Buffer }>(
      db,
      `SELECT k::text AS whole, secret_hash FROM api_keys k WHERE name = 'secret'`,
    )
    await db.close()
    expect(rows).toHaveLength(1)
    expect(rows[0]!.whole).not.toContain(secret)
    expect(rows[0]!.secret_hash).toEqual(createHash('sha256').update(secret).digest())
  })

  it('may come in either header', async () => {
    expect((await call('GET', '/api/v1/tasks', { key: null, headers: { 'x-api-key': ADMIN } })).status).toBe(200)
    expect(
      (await call('GET', '/api/v1/tasks', { key: null, headers: { authorization: `bearer ${ADMIN}` } })).status,
    ).toBe(200)
    const basic = { authorization: `Basic ${Buffer.from(`x:${ADMIN}`).toString('base64')}` }
    expect((await call('GET', '/api/v1/tasks', { key: null, headers: basic })).status).toBe(401)
  })

  it('is refused at once when it has been revoked, and its tasks stay', async () => {
    const { id, secret } = await makeKey({ name: 'to go' })
    const { body } = await submit({}, { key: secret })
    expect(await call('DELETE', `/api/v1/keys/${id}`)).toMatchObject({ status: 200, body: { id, name: 'to go' } })
    expect((await submit({}, { key: secret })).status).toBe(401)
    expect((await call('DELETE', `/api/v1/keys/${id}`)).status).toBe(404)
    expect((await call('GET', '/api/v1/keys')).body.data).not.toContainEqual(expect.objectContaining({ id }))
    expect((await call('GET', `${body.urls.self}?wait=30`)).body.status).toBe('succeeded')
  })

  it('may do what its scopes say and nothing else', async () => {
    const { body } = await submit()
    const id = body.task_id
    const routes: [scope: string, method: string, path: string][] = [
      ['submit', 'POST', '/api/v1/tasks/generate'],
      ['submit', 'POST', '/api/v1/tasks/poem'],
      ['submit', 'POST', `/api/v1/tasks/${id}/cancel`],
      ['read', 'GET', '/api/v1/tasks'],
      ['read', 'GET', `/api/v1/tasks/${id}`],
      ['read', 'GET', `/api/v1/tasks/${id}/events`],
      ['admin', 'GET', '/api/v1/keys'],
      ['admin', 'POST', '/api/v1/keys'],
      ['admin', 'DELETE', `/api/v1/keys/${id}`],
      ['admin', 'GET', '/api/v1/workers'],
    ]
    for (const own of ['submit', 'read']) {
      const { secret: key } = await makeKey({ name: own, scopes: [own] })
      for (const [scope, method, path] of routes) {
        const answer = await call(method, path, { key })
        if (scope === own) expect([401, 403], path).not.toContain(answer.status)
        else
          expect(answer).toMatchObject({ status: 403, body: { code: 'forbidden', context: { scope, scopes: [own] } } })
      }
    }
  })

  it('sees its own tasks only, as if there were no others; an admin key sees all', async () => {
    const [{ secret: mine }, { secret: yours }] = [await makeKey(), await makeKey()]
    const { body } = await submit({}, { key: mine })
    for (const [method, path] of [
      ['GET', body.urls.self],
      ['GET', `${body.urls.self}?wait=5`],
      ['GET', body.urls.events],
      ['POST', body.urls.cancel],
    ] as const) {
      const stranger = await call(method, path, { key: yours })
      expect(stranger).toMatchObject({ status: 404, body: { code: 'task_not_found' } })
    }
    expect((await call('GET', '/api/v1/tasks', { key: yours })).body.data).toEqual([])
    for (const key of [mine, ADMIN]) expect((await call('GET', body.urls.self, { key })).status).toBe(200)
  })

  it('is held to its limit, and told when to come back', async () => {
    const { secret: key } = await makeKey({ name: 'limited', requests_per_minute: 1 })
    expect((await call('GET', '/api/v1/tasks', { key })).status).toBe(200)
    const refused = await call('GET', '/api/v1/tasks', { key })
    expect(refused).toMatchObject({ status: 429, body: { code: 'rate_limited', context: { requests_per_minute: 1 } } })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  })
})

describe('operation', () => {
  it('shows the live workers', async () => {
    const { body } = await call('GET', '/api/v1/workers')
    expect(body.data).toEqual([
      expect.objectContaining({
        pid: worker.process.pid,
        queues: ['default'],
        concurrency: 20,
        metrics_port: worker.port,
      }),
    ])
  })

  it('says that it lives and is ready, without a key', async () => {
    expect((await call('GET', '/health/live', { key: null })).body).toEqual({ status: 'ok' })
    const ready = await call('GET', '/health/ready?strict=1', { key: null })
    expect(ready).toMatchObject({ status: 200, body: { status: 'ok', parts: { postgres: 'ok', redis: 'ok' } } })
  })

  it('has documentation that loads, with everything that it refers to', async () => {
    for (const path of ['/docs', '/docs/']) {
      const page = await call('GET', path, { key: null })
      expect(page.status).toBe(200)
      const assets = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(
        match => new URL(match[1]!, `http://x${path}`),
      )
      expect(assets.length).toBeGreaterThan(3)
      for (const { pathname } of assets) {
        const asset = await call('GET', pathname, { key: null })
        expect([pathname, asset.status]).toEqual([pathname, 200])
        expect(asset.body.length).toBeGreaterThan(0)
      }
    }
  })
})

describe('the dashboard of the queues', () => {
  const basic = (secret: string) => ({
    key: null,
    headers: { authorization: `Basic ${Buffer.from(`anyone:${secret}`).toString('base64')}` },
  })

  it('asks a browser to sign in', async () => {
    for (const path of ['/queues', '/queues/', '/queues/api/queues', '/queues/static/js/x.js']) {
      for (const options of [{ key: null }, basic('wrong'), basic('')]) {
        const answer = await call('GET', path, options)
        expect(answer).toMatchObject({ status: 401, body: { code: 'unauthenticated' } })
        expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm="/)
      }
    }
  })

  it('is closed to a key that is not an admin’s', async () => {
    const { secret } = await makeKey()
    for (const options of [basic(secret), { key: secret }]) {
      const answer = await call('GET', '/queues/api/queues', options)
      expect(answer).toMatchObject({ status: 403, body: { code: 'forbidden', context: { scope: 'admin' } } })
    }
  })

  it('opens with an admin key for a password, with everything that the page refers to', async () => {
    const page = await call('GET', '/queues/', basic(ADMIN))
    expect(page.status).toBe(200)
    const own = [...page.body.matchAll(/(?:href|src)="(static[^"]+)"/g)].map(match => `/queues/${match[1]}`)
    expect(own.length).toBeGreaterThan(2)
    for (const path of own) expect([path, (await call('GET', path, basic(ADMIN))).status]).toEqual([path, 200])
  })

  it('changes nothing', async () => {
    const queue = '/queues/api/queues/default'
    const state = async () => {
      const { isPaused, globalConcurrency, readOnlyMode } = (await call('GET', '/queues/api/queues', basic(ADMIN))).body
        .queues[0]
      return { isPaused, globalConcurrency, readOnlyMode }
    }
    const before = await state()
    expect(before).toEqual({ isPaused: false, globalConcurrency: null, readOnlyMode: true })
    const gate = upstream.hold({ when: /dashboard/ })
    const { body } = await submit({ input: { prompt: 'dashboard' } })
    await gate.waiting()
    const actions: [method: string, path: string, body?: object][] = [
      ['PUT', '/queues/api/queues/pause'],
      ['PUT', '/queues/api/queues/resume'],
      ['POST', `${queue}/add`, { name: 'x', data: {}, options: {} }],
      ['PUT', `${queue}/pause`],
      ['PUT', `${queue}/resume`],
      ['PUT', `${queue}/empty`],
      ['PUT', `${queue}/obliterate`],
      ['PUT', `${queue}/promote`],
      ['PUT', `${queue}/retry/failed`],
      ['PUT', `${queue}/clean/failed`],
      ['PUT', `${queue}/concurrency`, { concurrency: 1 }],
      ['PUT', `${queue}/rate-limit`, { max: 1, duration: 1000 }],
    ]
    const url = `http://127.0.0.1:${api.port}`
    for (const [method, path, json] of actions) {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { ...basic(ADMIN).headers, ...(json && { 'content-type': 'application/json' }) },
        ...(json && { body: JSON.stringify(json) }),
      })
      // Those for all queues pass over the ones that are read-only.
      if (path.startsWith(queue)) expect(response.status, `${method} ${path}`).toBeGreaterThanOrEqual(400)
      expect(await state(), `${method} ${path}`).toEqual(before)
    }
    gate.release()
    expect((await call('GET', `${body.urls.self}?wait=30`)).body.status).toBe('succeeded')
  })
})

describe('metrics', () => {
  /** The text format, strictly: every sample belongs to a family that was declared before it. */
  function parse(text: string) {
    const families = new Map<string, string>()
    const samples: { name: string; labels: Record<string, string>; value: number }[] = []
    for (const line of text.split('\n').filter(Boolean)) {
      const declared = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line)
      if (declared) {
        if (declared[1] === 'TYPE') families.set(declared[2]!, declared[3]!)
        continue
      }
      const [, name, labels = '', value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
      expect(name, line).toBeDefined()
      const family = families.has(name!) ? name! : name!.replace(/_(bucket|sum|count)$/, '')
      expect(families.has(family), line).toBe(true)
      expect(value, line).toMatch(/^([+-]?Inf|nan|[-+\d.e]+)$/i)
      const pairs = [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/g)]
      expect(pairs.map(pair => pair[0]).join(''), line).toBe(labels)
      samples.push({
        name: name!,
        labels: Object.fromEntries(pairs.map(pair => [pair[1], pair[2]])),
        value: Number(value),
      })
    }
    return samples
  }
  const scrape = async () => parse((await call('GET', '/metrics', { key: null })).body)
  const scrapeWorker = async () => parse(await (await fetch(`http://127.0.0.1:${worker.port}/metrics`)).text())

  it('of both processes can be parsed, and their labels come from closed sets', async () => {
    await finished()
    const routes = new Set([
      'unknown',
      '/openapi.json',
      '/api/v1/tasks/:kind',
      ...contract.operations.map(one => one.path.replaceAll(/\{(\w+)\}/g, ':$1')),
    ])
    const closed: Record<string, (value: string) => boolean> = {
      part: value => ['api', 'worker'].includes(value),
      method: value => /^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(value),
      route: value => routes.has(value) || /^\/(docs|queues)\b/.test(value),
      status: value => /^([1-5]\d\d|queued|running|succeeded|failed|cancelled|expired)$/.test(value),
      kind: value => jobs.has(value),
      source: value => ['ai', 'cache', 'precomputed', 'rules', 'none'].includes(value),
      provider: value => (PROVIDER_NAMES as string[]).includes(value),
      outcome: value => /^[a-z_]{1,30}$/.test(value),
      direction: value => ['input', 'output'].includes(value),
      queue: value => value === 'default',
      state: value => /^[a-z_-]{1,30}$/.test(value),
      what: value => /^[a-z_]{1,30}$/.test(value),
      dependency: value => /^[a-z_]{1,30}$/.test(value),
      le: value => value === '+Inf' || Number.isFinite(Number(value)),
    }
    for (const samples of [await scrape(), await scrapeWorker()]) {
      const own = samples.filter(sample => sample.name.startsWith('sluice_'))
      expect(own.length).toBeGreaterThan(20)
      for (const { name, labels } of own) {
        for (const [label, value] of Object.entries(labels)) {
          expect(closed[label]?.(value), `${name} ${label}="${value}"`).toBe(true)
          expect(value, name).not.toMatch(/[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}/)
        }
      }
    }
  })

  it('count what was accepted and what it came to', async () => {
    const sum = (samples: Awaited<ReturnType<typeof scrape>>, name: string) =>
      samples.filter(sample => sample.name === name).reduce((total, sample) => total + sample.value, 0)
    const [api, worker] = [await scrape(), await scrapeWorker()]
    await finished()
    const [apiAfter, workerAfter] = [await scrape(), await scrapeWorker()]
    expect(sum(apiAfter, 'sluice_tasks_accepted_total') - sum(api, 'sluice_tasks_accepted_total')).toBe(1)
    for (const name of ['sluice_tasks_ended_total', 'sluice_attempts_total', 'sluice_provider_call_seconds_count'])
      expect(sum(workerAfter, name) - sum(worker, name), name).toBe(1)
  })

  it('do not grow with what strangers ask for', async () => {
    const series = async () =>
      (await scrape())
        .filter(sample => sample.name.startsWith('sluice_'))
        .map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`)
        .toSorted()
    await call('GET', '/nowhere', { key: null })
    await series()
    const before = await series()
    const socket = openSocket(api.port, '127.0.0.1')
    const strangers = Array.from({ length: 10_000 }, (_, n) => `GET /nowhere/${n}?${n} HTTP/1.1\r\nhost: x\r\n`)
    socket.end(`${strangers.join('\r\n')}connection: close\r\n\r\n`)
    let refused = 0
    let rest = ''
    for await (const part of socket.setEncoding('latin1')) {
      const lines = (rest + part).split('HTTP/1.1 ')
      rest = lines.pop()!
      refused += lines.filter(line => line.startsWith('404')).length
    }
    expect(refused + Number(rest.startsWith('404'))).toBe(10_000)
    expect(await series()).toEqual(before)
  })
})

it('every operation was tried, in every way that it documents to end well', () => {
  const untried = contract.operations.flatMap(({ name, operation }) =>
    Object.keys(operation.responses)
      .filter(status => /^2\d\d$/.test(status) && !seen.get(name)?.has(Number(status)))
      .map(status => `${name} ${status}`),
  )
  expect(untried).toEqual([])
})

import { afterAll, beforeAll, expect, inject } from 'vitest'
import { ERRORS } from '#shared/errors.ts'
import { withCallsAlone } from './attempts.ts'
import { type Child, startChild } from './child.ts'
import { createTestDatabase, type TestDatabase, testPrefix } from './database.ts'
import { type Contract, createContract, type OpenApi } from './openapi.ts'
import { ask, connect } from './postgres.ts'
import { startUpstream, type Upstream } from './upstream.ts'

export const ADMIN = 'the-admin-key-of-this-test'

export type CallOptions = { key?: string | null; headers?: Record<string, string>; body?: unknown }
// biome-ignore lint/suspicious/noExplicitAny: the documents under test, held against their schemas before anything else.
export type Answer = { status: number; headers: Headers; body: any }

/**
 * The real API and a worker, as processes, for the tests of a file. Every answer that `call` gets is held against
 * /openapi.json. `more`: settings, beside or instead of its own; `onOutput` gets what they write.
 */
export function startMachine(
  more: (upstream: Upstream) => Record<string, string> | Promise<Record<string, string>> = () => ({}),
  onOutput?: (text: string) => void,
) {
  let database: TestDatabase
  let upstream: Upstream
  let api: Child
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
      WEBHOOK_ALLOW: '127.0.0.0/8',
      ...(await more(upstream)),
    }
    ;[api, worker] = (await Promise.all(
      ['apps/api/main.ts', 'workers/main.ts'].map(main => startChild(main, env, onOutput)),
    )) as [Child, Child]
    document = (await (await fetch(`http://127.0.0.1:${api.port}/openapi.json`)).json()) as OpenApi
    contract = createContract(document)
  })
  afterAll(async () => {
    await Promise.all([worker?.stop(), api?.stop()])
    await upstream?.close()
    await database?.drop()
  })

  /** One request as a client would make it; its answer must be what the documentation says. */
  async function call(method: string, path: string, { key = ADMIN, headers, body }: CallOptions = {}): Promise<Answer> {
    const response = await fetch(`http://127.0.0.1:${api.port}${path}`, {
      method,
      redirect: 'manual',
      headers: {
        ...(key !== null && { authorization: `Bearer ${key}` }),
        // fetch names a form's boundary itself.
        ...(body !== undefined && !(body instanceof FormData) && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && {
        body: typeof body === 'string' || body instanceof FormData ? body : JSON.stringify(body),
      }),
    })
    const text = await response.text()
    const type = response.headers.get('content-type')?.split(';')[0] ?? ''
    const answer: Answer = {
      status: response.status,
      headers: response.headers,
      body: /json$/.test(type) ? JSON.parse(text) : text,
    }
    const { name, wrong } = contract.check(method, new URL(path, 'http://x').pathname, { ...answer, type })
    expect(wrong).toBeNull()
    if (name) seen.set(name, (seen.get(name) ?? new Set()).add(answer.status))
    expect(answer.headers.get('x-request-id')).toMatch(/^[\w.:-]{1,128}$/)
    if (answer.status >= 400 && path.startsWith('/v1/')) expectForeignError(answer, type)
    else if (answer.status >= 400 && name !== 'GET /health/ready') expectProblem(answer, type)
    return { ...answer, body: withCallsAlone(answer.body) }
  }

  /** Without the cache, unless the test says otherwise: most ask the same. */
  const submit = (
    { options = {}, ...body }: { options?: object; [field: string]: unknown } = {},
    how: CallOptions = {},
  ) =>
    call('POST', '/api/v1/tasks/generate', {
      body: { input: { prompt: 'Say hello' }, options: { cache: 'off', ...options }, ...body },
      ...how,
    })

  return {
    call,
    submit,
    /** The whole task, when it has ended. */
    async finished(body: Record<string, unknown> = {}) {
      const answer = await submit(body, { headers: { prefer: 'wait=30' } })
      expect(answer.status).toBe(200)
      return answer.body
    },
    async makeKey(body: object = {}): Promise<{ id: string; secret: string; webhookSecret: string }> {
      const answer = await call('POST', '/api/v1/keys', { body: { name: 'an application', ...body } })
      expect(answer.status).toBe(201)
      return { id: answer.body.id, secret: answer.body.key, webhookSecret: answer.body.webhook_secret }
    },
    async sql<Row extends Record<string, unknown>>(text: string): Promise<Row[]> {
      const db = connect(database.url, 1)
      return ask<Row>(db, text).finally(() => db.close())
    },
    seen,
    get upstream() {
      return upstream
    },
    get api() {
      return api
    },
    get worker() {
      return worker
    },
    get document() {
      return document
    },
    get contract() {
      return contract
    },
  }
}

/** As OpenAI's API says it, or Anthropic's. */
function expectForeignError({ headers, body }: Answer, type: string) {
  expect(type).toBe('application/json')
  const error = { message: expect.stringMatching(/./), type: expect.stringMatching(/^[a-z_]+$/) }
  if (body.type === 'error') {
    const request_id = headers.get('x-request-id')
    expect(body).toEqual({ type: 'error', error, request_id })
    expect(headers.get('request-id')).toBe(request_id)
  } else {
    const text = expect.toBeOneOf([null, expect.any(String)])
    expect(body).toEqual({ error: { ...error, param: text, code: text } })
  }
}

function expectProblem({ status, headers, body }: Answer, type: string) {
  expect(type).toBe('application/problem+json')
  expect(body).toEqual({
    type: `urn:sluice:error:${body.code}`,
    title: expect.stringMatching(/./),
    status,
    code: expect.toBeOneOf(Object.keys(ERRORS)),
    detail: expect.stringMatching(/./),
    retryable: expect.any(Boolean),
    advice: expect.stringMatching(/./),
    request_id: headers.get('x-request-id'),
    context: expect.any(Object),
  })
}

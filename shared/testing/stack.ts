import { afterAll, beforeAll, expect, inject } from 'vitest'
import { ERRORS } from '#shared/errors.ts'
import { withoutUnsentAttempts } from './attempts.ts'
import { type Child, startChild } from './child.ts'
import { createTestDatabase, type TestDatabase, testPrefix } from './database.ts'
import { type Contract, createContract, type OpenApi } from './openapi.ts'
import { ask, connect } from './postgres.ts'
import { startUpstream, type Upstream } from './upstream.ts'

export const ADMIN = 'the-admin-key-of-this-test'

export type CallOptions = { key?: string | null; headers?: Record<string, string>; body?: unknown }
// biome-ignore lint/suspicious/noExplicitAny: JSON of any route, validated against its schema first.
export type Answer = { status: number; headers: Headers; body: any }

type Processes = {
  database: TestDatabase
  upstream: Upstream
  api: Child
  worker: Child
  document: OpenApi
  contract: Contract
}

type Settings = (upstream: Upstream) => Record<string, string> | Promise<Record<string, string>>

async function launch(settings: Settings, onOutput?: (text: string) => void): Promise<Processes> {
  const [database, upstream] = await Promise.all([createTestDatabase(), startUpstream()])
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
    ...(await settings(upstream)),
  }
  const [api, worker] = (await Promise.all(
    ['apps/api/main.ts', 'workers/main.ts'].map(main => startChild(main, env, onOutput)),
  )) as [Child, Child]
  const document = (await (await fetch(`http://127.0.0.1:${api.port}/openapi.json`)).json()) as OpenApi
  return { database, upstream, api, worker, document, contract: createContract(document) }
}

/**
 * Starts an API and a worker as processes, for the tests of a file.
 * @param settings override the default settings of the tests
 * @param onOutput receives the output of the processes
 */
export function startStack(settings: Settings = () => ({}), onOutput?: (text: string) => void) {
  let processes: Processes | undefined
  beforeAll(async () => {
    processes = await launch(settings, onOutput)
  })
  afterAll(async () => {
    await Promise.all([processes?.worker.stop(), processes?.api.stop()])
    await processes?.upstream.close()
    await processes?.database.drop()
  })
  return operate(() => processes!)
}

let shared: Promise<Processes> | undefined

/**
 * The stack that all test files of a vitest worker share; it stops with the worker. A test creates its own key, leaves no
 * budget, limit or experiment behind, and does not make a provider fail so often that its breaker opens.
 */
export function sharedStack() {
  let processes: Processes
  beforeAll(async () => {
    shared ??= launch(() => ({ BACKOFF_BASE_MS: '20', BACKOFF_MAX_MS: '50' }))
    processes = await shared
    processes.upstream.reset()
  })
  return operate(() => processes)
}

export type Stack = ReturnType<typeof operate>

/** Sends requests to a stack. `call` validates every answer against /openapi.json. */
function operate(processes: () => Processes) {
  /** Statuses that each operation has answered, by operation. */
  const seen = new Map<string, Set<number>>()

  /** Sends one request. The test fails if the answer violates the OpenAPI document. */
  async function call(method: string, path: string, { key = ADMIN, headers, body }: CallOptions = {}): Promise<Answer> {
    const response = await fetch(`http://127.0.0.1:${processes().api.port}${path}`, {
      method,
      redirect: 'manual',
      headers: {
        ...(key !== null && { authorization: `Bearer ${key}` }),
        // fetch sets the content type of a form, with its boundary.
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
    const { name, wrong } = processes().contract.check(method, new URL(path, 'http://x').pathname, { ...answer, type })
    expect(wrong).toBeNull()
    if (name) seen.set(name, (seen.get(name) ?? new Set()).add(answer.status))
    expect(answer.headers.get('x-request-id')).toMatch(/^[\w.:-]{1,128}$/)
    if (answer.status >= 400 && path.startsWith('/v1/')) expectForeignError(answer, type)
    else if (answer.status >= 400 && name !== 'GET /health/ready') expectProblem(answer, type)
    return { ...answer, body: withoutUnsentAttempts(answer.body) }
  }

  /** Submits a `generate` task, by default with `cache: off`, because most tests send the same prompt. */
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
    /** Submits a task, waits until it has ended and returns it. */
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
      const db = connect(processes().database.url, 1)
      return ask<Row>(db, text).finally(() => db.close())
    },
    seen,
    get upstream() {
      return processes().upstream
    },
    get api() {
      return processes().api
    },
    get worker() {
      return processes().worker
    },
    get document() {
      return processes().document
    },
    get contract() {
      return processes().contract
    },
  }
}

/** An error in the format of OpenAI or Anthropic. */
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

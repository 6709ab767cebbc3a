import { request } from 'node:http'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Answer, type CallOptions, textOf } from './client.ts'
import { type Cluster, countedOtherThan, markers, PATIENT, startCluster } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2 })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

const SUBMIT = '/api/v1/tasks/generate'
const submit = (body: unknown, o: CallOptions = {}) => cluster.api.call('POST', SUBMIT, { ...o, body })
const withPrompt = (prompt: string, more = {}) => submit({ input: { prompt }, ...more })

/** Everything that a request could leave behind. */
const stored = async () => [await cluster.count('tasks'), await cluster.count('idempotency_keys')]

async function expectNothingStored<T>(work: () => Promise<T>): Promise<T> {
  const before = await stored()
  const result = await work()
  expect(await stored()).toEqual(before)
  return result
}

const refused: [string, () => Promise<Answer>, number, string, string][] = [
  ['JSON that ends too early', () => submit('{"input":{"prompt":"a"'), 400, 'invalid_json', '/'],
  ['no body at all', () => submit(''), 422, 'invalid_request', '/'],
  ['an unknown kind', () => cluster.api.call('POST', '/api/v1/tasks/poem', { body: {} }), 404, 'unknown_kind', 'kind'],
  ['no input', () => submit({}), 422, 'invalid_request', '/input'],
  ['neither prompt nor messages', () => submit({ input: {} }), 422, 'invalid_request', '/input/prompt'],
  ['an empty prompt', () => withPrompt(''), 422, 'invalid_request', '/input/prompt'],
  ['a prompt that is a number', () => submit({ input: { prompt: 1 } }), 422, 'invalid_request', '/input/prompt'],
  ['an unknown field', () => withPrompt('a', { inputs: 1 }), 422, 'unknown_field', '/inputs'],
  ['an unknown option', () => withPrompt('a', { options: { colour: 1 } }), 422, 'unknown_field', '/options/colour'],
  [
    'an option of the wrong type',
    () => withPrompt('a', { options: { deadline_seconds: '10' } }),
    422,
    'invalid_request',
    '/options/deadline_seconds',
  ],
  [
    'a prompt over 1 MB in fewer characters',
    () => withPrompt('é'.repeat(500_001)),
    413,
    'field_too_large',
    '/input/prompt',
  ],
  ['a prompt over 1 MB', () => withPrompt('a'.repeat(1_000_001)), 413, 'field_too_large', '/input/prompt'],
  [
    'metadata over their limit',
    () => withPrompt('a', { metadata: { a: 'a'.repeat(20_000) } }),
    413,
    'field_too_large',
    '/metadata',
  ],
  ['U+0000 in a prompt', () => withPrompt('a\0b'), 422, 'invalid_text', '/input/prompt'],
  ['a lone surrogate in a prompt', () => withPrompt('a\ud800b'), 422, 'invalid_text', '/input/prompt'],
  ['the other half alone', () => withPrompt('\udc00'), 422, 'invalid_text', '/input/prompt'],
  ['U+0000 in metadata', () => withPrompt('a', { metadata: { a: ['\0'] } }), 422, 'invalid_text', '/metadata/a/0'],
  [
    'a lone surrogate in a key',
    () => withPrompt('a', { metadata: { '\ud800': 1 } }),
    422,
    'invalid_text',
    '/metadata/\uFFFD',
  ],
  [
    'an Idempotency-Key that is too long',
    () => submit({ input: { prompt: 'a' } }, { headers: { 'idempotency-key': 'a'.repeat(256) } }),
    400,
    'invalid_header',
    '/idempotency-key',
  ],
]

test.each(refused)('%s is refused, the field is named and nothing is stored', async (_, ask, status, code, field) => {
  const answer = await expectNothingStored(ask)
  expect(answer).toMatchObject({ status, body: { status, code, context: { field } } })
  expect(answer.headers.get('content-type')).toContain('application/problem+json')
  expect(answer.body.request_id).toBe(answer.headers.get('x-request-id'))
})

test('a body that is too large is refused before it is sent', async () => {
  const answer = await expectNothingStored(async () => {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number | undefined; text: string }>()
    const { url, api } = { url: SUBMIT, api: cluster.api }
    const headers = {
      ...(await bearer()),
      'content-type': 'application/json',
      'content-length': String(9 * 1024 * 1024),
    }
    const asking = request({ host: '127.0.0.1', port: api.port, method: 'POST', path: url, headers }, response => {
      let text = ''
      response.on('data', part => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode, text }))
    })
    asking.on('error', reject)
    asking.flushHeaders()
    const result = await promise
    asking.destroy()
    return result
  })
  expect(answer.status).toBe(413)
  expect(JSON.parse(answer.text)).toMatchObject({ code: 'body_too_large', context: { field: '/' } })
})

const bearer = async () => ({ authorization: `Bearer ${await cluster.api.makeKey({ name: 'raw' })}` })

test('bad input does not fail good input that comes at the same time', async () => {
  const { api, upstream } = cluster
  const names = markers('good', 50)
  const bad = names.map(name => withPrompt(`[[${name}]]\0`))
  const ids = await api.submitAll(names)
  for (const answer of await Promise.all(bad)) expect(answer.status).toBe(422)
  await cluster.ended(ids)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  for (const task of await api.tasks(ids)) expect(task.status).toBe('succeeded')
})

test('U+0000 and lone surrogates in an answer are replaced, and fail no other task', async () => {
  const { api, upstream } = cluster
  const schema = { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] }
  upstream.rule(/dirty-text/, { text: 'a\0b\ud800c\udc00', chunks: ['a\0', 'b\ud800', 'c\udc00'] })
  upstream.rule(/dirty-json/, { text: JSON.stringify({ a: '\0', b: ['\ud800'], '\udc00': 1 }) })
  // The message of an error is stored as well.
  upstream.rule(/dirty-error/, { status: 400, message: 'no\0 way\ud800' })
  const held = upstream.hold()
  const [texts, streamed, errors, clean] = await Promise.all([
    api.submitAll(markers('dirty-text', 10)),
    api.submitAll(markers('dirty-text-streamed', 10), { options: { stream: true } }),
    api.submitAll(markers('dirty-error', 10)),
    api.submitAll(markers('clean', 20)),
  ])
  const objects = await Promise.all(
    markers('dirty-json', 10).map(async name => {
      const answer = await submit({ input: { prompt: `[[${name}]]`, schema } })
      expect(answer.status).toBe(202)
      return answer.body.task_id as string
    }),
  )
  // All at the same time, so that they share statements.
  await held.waiting(60)
  held.release()
  await cluster.ended([...texts, ...streamed, ...errors, ...objects, ...clean])
  for (const task of await api.tasks([...texts, ...streamed])) {
    expect(task).toMatchObject({ status: 'succeeded', result: { text: 'a\uFFFDb\uFFFDc\uFFFD' } })
  }
  for (const task of await api.tasks(objects)) {
    expect(task).toMatchObject({ status: 'succeeded', result: { a: '\uFFFD', b: ['\uFFFD'], '\uFFFD': 1 } })
  }
  for (const task of await api.tasks(errors)) expect(task.status).toBe('failed')
  for (const task of await api.tasks(clean)) expect(task.status).toBe('succeeded')
  const events = await (await api.events(streamed[0]!)).rest()
  expect(textOf(events)).toBe('a\uFFFDb\uFFFDc\uFFFD')
  expect(upstream.count()).toBe(60)
})

describe('keys', () => {
  test('every route refuses a missing or wrong key with 401', async () => {
    const task = `/api/v1/tasks/task_${'0'.repeat(32)}`
    const tries: [string, string][] = [
      ['POST', SUBMIT],
      ['GET', '/api/v1/tasks'],
      ['GET', task],
      ['GET', `${task}/events`],
      ['POST', `${task}/cancel`],
      ['GET', '/api/v1/keys'],
      ['GET', '/api/v1/workers'],
    ]
    await expectNothingStored(async () => {
      for (const [method, path] of tries) {
        for (const key of [null, 'wrong', 'sk-sluice-tests-of-faults-admiN']) {
          const body = method === 'POST' ? { input: { prompt: 'a' } } : undefined
          const answer = await cluster.api.call(method, path, { key, body })
          const code = key === null ? 'unauthenticated' : 'invalid_api_key'
          expect(answer, `${method} ${path} ${key}`).toMatchObject({ status: 401, body: { code } })
        }
      }
    })
  })

  test('a key without the scope is refused with 403, which names the scope', async () => {
    const { api } = cluster
    const [reader, writer] = await Promise.all([
      api.makeKey({ name: 'reader', scopes: ['read'] }),
      api.makeKey({ name: 'writer', scopes: ['submit'] }),
    ])
    const tries: [string, string, string, string][] = [
      ['POST', SUBMIT, reader, 'submit'],
      ['GET', '/api/v1/tasks', writer, 'read'],
      ['GET', '/api/v1/keys', writer, 'admin'],
      ['POST', '/api/v1/keys', reader, 'admin'],
      ['GET', '/api/v1/workers', reader, 'admin'],
    ]
    await expectNothingStored(async () => {
      for (const [method, path, key, scope] of tries) {
        const body = method === 'POST' ? { input: { prompt: 'a' } } : undefined
        const answer = await api.call(method, path, { key, body })
        expect(answer, `${method} ${path}`).toMatchObject({
          status: 403,
          body: { code: 'forbidden', context: { scope } },
        })
      }
    })
  })

  test('a key sees only its own tasks, and can cancel no others', async () => {
    const { api } = cluster
    const [mine, theirs] = await Promise.all([api.makeKey({ name: 'mine' }), api.makeKey({ name: 'theirs' })])
    const id = await api.submit('mine', { key: mine })
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/events'],
      ['POST', '/cancel'],
    ] as const) {
      const answer = await api.call(method, `/api/v1/tasks/${id}${path}`, { key: theirs })
      expect(answer).toMatchObject({ status: 404, body: { code: 'task_not_found' } })
    }
    expect((await api.call('GET', '/api/v1/tasks', { key: theirs })).body.data).toEqual([])
    expect((await api.call('GET', '/api/v1/tasks', { key: mine })).body.data).toMatchObject([{ task_id: id }])
  })

  test('requests over the limit of a key are refused with 429 and Retry-After, counted over all APIs', async () => {
    const { apis } = cluster
    const key = await cluster.api.makeKey({ name: 'limited', requests_per_minute: 5 })
    const before = await cluster.count('tasks')
    const answers: Answer[] = []
    for (let n = 0; n < 12; n++) answers.push(await apis[n % 2]!.post('limited', { key }))
    expect(answers.slice(0, 5).map(answer => answer.status)).toEqual([202, 202, 202, 202, 202])
    for (const answer of answers.slice(5)) {
      expect(answer).toMatchObject({ status: 429, body: { code: 'rate_limited', retryable: true } })
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    }
    expect(await cluster.count('tasks')).toBe(before + 5)
  })

  test('a revoked key is refused with 401 by the API that revoked it', async () => {
    const { api } = cluster
    const key = await api.makeKey({ name: 'revoked' })
    expect((await api.call('GET', '/api/v1/tasks', { key })).status).toBe(200)
    const { body } = await api.call('GET', '/api/v1/keys')
    const { id } = body.data.find((one: { name: string }) => one.name === 'revoked')
    expect((await api.call('DELETE', `/api/v1/keys/${id}`)).status).toBe(200)
    expect((await api.call('GET', '/api/v1/tasks', { key })).status).toBe(401)
  })
})

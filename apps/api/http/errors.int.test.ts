import { once } from 'node:events'
import { type IncomingMessage, request as openRequest } from 'node:http'
import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { ADMIN, type CallOptions, sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
const tasksStored = async () => (await stack.sql('SELECT count(*) AS n FROM tasks'))[0]

describe('errors', () => {
  const prompt = (input: unknown) => ({ body: { input } })
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  it.each<[string, string, string, CallOptions, number, string, Record<string, unknown>]>([
    ['no key', 'GET', '/api/v1/tasks', { key: null }, 401, 'unauthenticated', {}],
    ['a wrong key', 'GET', '/api/v1/tasks', { key: `${ADMIN}x` }, 401, 'invalid_api_key', {}],
    ['an unknown path', 'GET', '/api/v2/tasks', {}, 404, 'not_found', {}],
    [
      'a method that a path does not have',
      'PUT',
      '/api/v1/tasks/generate',
      { body: {} },
      405,
      'method_not_allowed',
      { allowed: ['GET', 'HEAD', 'POST'] },
    ],
    ['a URL that cannot be decoded', 'GET', '/api/v1/tasks/%zz', {}, 404, 'not_found', {}],
    ['an unknown kind', 'POST', '/api/v1/tasks/poem', { body: {} }, 404, 'unknown_kind', { kinds: [...jobs.keys()] }],
    ['an invalid task id', 'GET', '/api/v1/tasks/task_1', {}, 404, 'task_not_found', { task_id: 'task_1' }],
    ['U+0000 as an id', 'GET', '/api/v1/tasks/%00', {}, 404, 'task_not_found', {}],
    [
      'broken JSON',
      'POST',
      '/api/v1/tasks/generate',
      { body: '{"input":' },
      400,
      'invalid_json',
      { offset: 9, line: 1, column: 10 },
    ],
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
      'unknown_field',
      { field: '/input/tone' },
    ],
    [
      'an invalid schema',
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
      'unknown_field',
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
      'a content type other than JSON',
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
      400,
      'invalid_header',
      { in: 'headers' },
    ],
    [
      'an unknown filter',
      'GET',
      '/api/v1/tasks?tone=1',
      {},
      422,
      'unknown_field',
      { field: '/tone', in: 'querystring' },
    ],
    ['an unknown status', 'GET', '/api/v1/tasks?status=done', {}, 422, 'invalid_request', { field: '/status' }],
    ['a page of a thousand', 'GET', '/api/v1/tasks?limit=1000', {}, 422, 'invalid_request', { field: '/limit' }],
    ['an invalid cursor', 'GET', '/api/v1/tasks?after=1', {}, 422, 'invalid_request', { field: '/after' }],
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
    ['an invalid key id', 'DELETE', '/api/v1/keys/key_1', {}, 404, 'key_not_found', { id: 'key_1' }],
  ])('name the cause: %s', async (_, method, path, options, status, code, context) => {
    const before = await tasksStored()
    expect(await stack.call(method, path, options)).toMatchObject({ status, body: { code, context } })
    expect(await tasksStored()).toEqual(before)
  })

  it('refuse a body that is too large before it is sent', async () => {
    // A client that continues to write could get a closed connection before it reads the response.
    const request = openRequest({
      ...{ port: stack.api.port, host: '127.0.0.1', method: 'POST', path: '/api/v1/tasks/generate' },
      headers: {
        ...{ authorization: `Bearer ${ADMIN}`, 'content-type': 'application/json' },
        'content-length': 8 * 1024 * 1024 + 1,
      },
    })
    request.on('error', () => {})
    request.flushHeaders()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    const body = JSON.parse(await response.setEncoding('utf8').reduce((text, part) => text + part, ''))
    request.destroy()
    expect(body).toMatchObject({ status: 413, code: 'body_too_large', context: { limit_bytes: 8 * 1024 * 1024 } })
    expect(response.headers['x-request-id']).toBe(body.request_id)
  })

  it('carry the request id of the client if it is valid', async () => {
    const given = await stack.call('GET', '/api/v1/tasks/task_1', { headers: { 'x-request-id': 'trace:1.a-b' } })
    expect(given.body.request_id).toBe('trace:1.a-b')
    const bad = await stack.call('GET', '/api/v1/tasks/task_1', { headers: { 'x-request-id': 'a b'.repeat(100) } })
    expect(bad.body.request_id).toMatch(/^[0-9a-f-]{36}$/)
  })
})

import { describe, expect, it } from 'vitest'
import type { Operation } from '#shared/testing/openapi.ts'
import { ADMIN, type Answer, sharedStack } from '#shared/testing/stack.ts'

/** Invalid calls of every operation in the OpenAPI document: each error explains the problem and the remedy. */

const stack = sharedStack()

type Call = Parameters<typeof stack.call>[2]
type Refused = [wrong: string, call: Call, statuses: number[], says: RegExp, query?: string]

const ID = '0'.repeat(32)
const filled = (path: string) => path.replaceAll(/\{[^}]+\}/g, `none-${ID}`)
const hasKey = (operation: Operation) => Boolean(operation.security?.length)
const jsonBody = (operation: Operation) => operation.requestBody?.content['application/json']?.schema

/** Code, message and field of an error in the native format, in OpenAI's or in Anthropic's, which has a type instead of a code. */
function errorOf({ body }: Answer) {
  if (body.error) return { code: body.error.code ?? body.error.type, text: body.error.message, field: body.error.param }
  return { code: body.code, text: `${body.detail} ${body.advice}`, field: body.context.field ?? null }
}

function refusalsOf(method: string, operation: Operation): Refused[] {
  const refused: Refused[] = []
  if (hasKey(operation))
    refused.push(
      ['no key', { key: null }, [401], /No API key was sent\. Send "Authorization: Bearer <key>"/],
      ['a wrong key', { key: `${ADMIN}x` }, [401], /wrong or was revoked/],
      [
        'another scheme',
        { key: null, headers: { authorization: 'Basic eDp5' } },
        [401],
        /scheme "Basic" instead of "Bearer"/,
      ],
      [
        'a key without a scheme',
        { key: null, headers: { authorization: ADMIN } },
        [401],
        /not of the form "Bearer <key>"/,
      ],
    )
  const query = (operation.parameters ?? []).filter(one => one.in === 'query')
  const isForm = operation.requestBody?.content['multipart/form-data'] !== undefined
  const needed = query.filter(one => one.required).map(one => `${one.name}=a`)
  const search = (more: string) => `?${[...needed, more].join('&')}`
  if (query.length > 0 && !isForm)
    refused.push([
      'an unknown query parameter',
      {},
      [400, 422],
      /Unknown (query parameter|field) `colour`; known here: /,
      search('colour=red'),
    ])
  for (const { name, schema } of query) {
    const { type } = schema as { type?: string }
    if (type === 'integer' && !isForm)
      refused.push([
        `${name} that is a word`,
        {},
        [400, 422],
        new RegExp(`Query parameter \`${name}\` must be an integer`),
        search(`${name}=x`),
      ])
    // Collections, documents and precomputed answers are listed by name: any name is a valid cursor.
    if (name === 'after' && !('pattern' in schema))
      refused.push(['an unknown cursor', {}, [400, 404, 422], /after|There is no|not found/, search('after=nonsense')])
  }
  const body = jsonBody(operation)
  if (body && method !== 'GET') {
    const text = { body: 'x', headers: { 'content-type': 'text/plain' } }
    refused.push(
      [
        'text',
        text,
        [400, 415],
        /"text\/plain" is not supported by this route\. Send .*(application\/json|multipart\/form-data)/,
      ],
      ['broken JSON', { body: '{"a":' }, [400], /JSON/],
    )
    const { type, additionalProperties } = body as { type?: string; additionalProperties?: boolean }
    if (type === 'object' && additionalProperties === false)
      refused.push(['a list', { body: [] }, [400, 422], /The body must be an object, not an array/])
  }
  return refused
}

describe('a wrong call of any operation', () => {
  it('is answered with a code, the cause and the correct form', { timeout: 120_000 }, async () => {
    const faults: string[] = []
    let tried = 0
    for (const { name, method, path, operation } of stack.contract.operations) {
      for (const [wrong, call, statuses, says, query = ''] of refusalsOf(method, operation)) {
        tried++
        const answer = await stack.call(method, `${filled(path)}${query}`, call)
        const said = answer.status >= 400 ? errorOf(answer) : null
        const fine = said && statuses.includes(answer.status) && says.test(said.text) && /^[a-z_]+$/.test(said.code)
        if (!fine) faults.push(`${name} with ${wrong}: ${answer.status} ${JSON.stringify(said)}`)
      }
    }
    expect(faults).toEqual([])
    expect(tried).toBeGreaterThan(300)
  })

  it('lists the methods of the path in Allow', async () => {
    const methods = new Map<string, Set<string>>()
    for (const { method, path } of stack.contract.operations)
      methods.set(path, (methods.get(path) ?? new Set()).add(method))
    for (const [path, known] of methods) {
      const method = ['PATCH', 'PUT', 'DELETE'].find(one => !known.has(one))!
      const answer = await stack.call(method, filled(path))
      expect(answer.status, path).toBe(405)
      const allowed = answer.headers.get('allow')!.split(', ')
      for (const method of known) expect(allowed, path).toContain(method)
      expect(errorOf(answer).text, path).toContain(
        `${method} is not supported on this path. Supported: ${allowed.join(', ')}`,
      )
    }
  })

  it('names the missing scope', async () => {
    const { secret: key } = await stack.makeKey({ scopes: ['read'] })
    for (const { name, method, path, operation } of stack.contract.operations) {
      if (!hasKey(operation)) continue
      const answer = await stack.call(method, filled(path), { key })
      if (answer.status === 403)
        expect(errorOf(answer).text, name).toMatch(/needs the scope "(submit|admin)"; the key has "read"/)
      else expect(answer.status, name).not.toBe(401)
    }
  })

  it.each([
    ['/api/v1/tasks/task_1', /no task "task_1"/],
    ['/api/v1/batches/batch_1', /'batch_1'/],
    ['/v1/batches/batch_1', /'batch_1'/],
    ['/v1/files/file-1', /file-1/],
    ['/api/v1/keys/key_1/webhook-secret', /no live key "key_1"/],
    ['/api/v1/policies/none', /no policy "none"/],
    ['/api/v1/collections/none', /no collection "none"/],
    ['/api/v1/experiments/none', /no experiment "none"/],
    ['/api/v1/providers/none/health', /no provider "none"/],
  ])('GET %s names the missing resource', async (path, says) => {
    const answer = await stack.call('GET', path)
    expect(answer.status).toBe(404)
    expect(errorOf(answer)).toMatchObject({ text: expect.stringMatching(says), field: expect.any(String) })
  })

  it.each([
    ['/api/v1/tasks', `task_${ID}`],
    ['/api/v1/batches', `batch_${ID}`],
    ['/v1/batches', `batch_${ID}`],
    ['/v1/files', `file-${ID}`],
    ['/api/v1/reviews', `task_${ID}`],
    ['/api/v1/webhooks/deliveries', `evt_${ID}`],
  ])('%s refuses the unknown cursor %s', async (path, after) => {
    const answer = await stack.call('GET', `${path}?after=${after}`)
    expect([400, 422]).toContain(answer.status)
    expect(errorOf(answer).text).toMatch(/Query parameter `after` names no \w+.*of the previous page/)
  })

  it('refuses a cursor of another key', async () => {
    const [mine, yours] = [await stack.makeKey(), await stack.makeKey()]
    const { task_id } = (await stack.submit({}, { key: mine.secret })).body
    expect((await stack.call('GET', `/api/v1/tasks?after=${task_id}`, { key: mine.secret })).status).toBe(200)
    expect((await stack.call('GET', `/api/v1/tasks?after=${task_id}`, { key: yours.secret })).status).toBe(422)
  })
})

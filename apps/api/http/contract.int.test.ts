import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import type { Operation } from '#shared/testing/openapi.ts'
import { startStack } from '#shared/testing/stack.ts'

/** The OpenAPI document. Every `stack.call` of the tests checks that the response conforms to it. */

const stack = startStack(upstream => ({
  PROVIDERS: 'anthropic,openai',
  OPENAI_API_KEY: 'key',
  OPENAI_BASE_URL: `${upstream.url}/v1`,
}))
/** Public paths. */
const OPEN = /^\/(health|metrics|scale)\b/

describe('the OpenAPI document', () => {
  it('is OpenAPI 3.1 with every operation described', () => {
    expect(stack.document.openapi).toMatch(/^3\.1\.\d$/)
    expect(stack.document.info).toMatchObject({ title: 'Sluice', version: expect.stringMatching(/^\d/) })
    const schemes = Object.keys(stack.document.components?.securitySchemes ?? {})
    expect(schemes.length).toBeGreaterThan(0)
    for (const { name, path, operation } of stack.contract.operations) {
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
      expect(Boolean(operation.security?.length), `${name} needs a key`).toBe(!OPEN.test(path))
    }
    const ids = stack.contract.operations.flatMap(one => one.operation.operationId ?? [])
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('has only valid schemas, and requires nothing that has a default', () => {
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
    for (const { name, operation } of stack.contract.operations) {
      for (const parameter of operation.parameters ?? []) {
        expect(() => stack.contract.violation(parameter.schema, null), `${name} ${parameter.name}`).not.toThrow()
        if ((parameter.schema as { default?: unknown }).default !== undefined)
          expect(parameter.required, `${name} ${parameter.name}`).not.toBe(true)
      }
      for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
        expect(() => stack.contract.violation(schema!, null), name).not.toThrow()
        walk(schema, name)
      }
      for (const [status, response] of Object.entries(operation.responses)) {
        expect(response.description).toMatch(/./)
        for (const { schema } of Object.values(response.content ?? {}))
          expect(() => stack.contract.violation(schema!, null), `${name} ${status}`).not.toThrow()
      }
    }
  })

  it('has a route for every job kind', () => {
    for (const kind of jobs.keys()) expect(stack.document.paths).toHaveProperty([`/api/v1/tasks/${kind}`, 'post'])
  })

  it('has examples that work unchanged', async () => {
    await keepFile('019a9f0c5d7e7cc2a1b2c3d4e5f60718')
    await keepReview('019a9f0c5d7e7cc2a1b2c3d4e5f60718')
    await keepKey('019a9f0c5d7e7cc2a1b2c3d4e5f60718')
    await keepCompletion('019a9f0c5d7e7cc2a1b2c3d4e5f60720')
    judgeAllWell()
    await exposeUser('user-42')
    for (const { name, method, path, operation } of stack.contract.operations) {
      const media = operation.requestBody?.content['application/json']
      if (!media) continue
      const filled = path.replaceAll(/\{(\w+)\}/g, (_, parameter) => exampleOf(operation, parameter))
      const examples = [media.example, ...Object.values(media.examples ?? {}).map(one => one.value)].filter(Boolean)
      expect(examples.length, `${name} has an example`).toBeGreaterThan(0)
      for (const body of examples) {
        expect(stack.contract.violation(media.schema!, body)).toBeNull()
        expect((await stack.call(method, filled, { body })).status, name).toBeLessThan(300)
      }
    }
    await stack.call('DELETE', '/api/v1/providers/gpu')
  })
})

/** The input file in the example of a batch. */
async function keepFile(wanted: string) {
  const id = (await upload()).id.slice('file-'.length)
  await stack.sql(`UPDATE file_chunks SET file_id = '${wanted}' WHERE file_id = '${id}'`)
  await stack.sql(`UPDATE files SET id = '${wanted}' WHERE id = '${id}'`)
}

/** The stored chat completion for the example of its update. */
async function keepCompletion(wanted: string) {
  const body = { model: 'claude-haiku-5-5', messages: [{ role: 'user', content: 'Say hello' }], store: true }
  const { id } = (await stack.call('POST', '/v1/chat/completions', { body })).body
  await stack.sql(`UPDATE attempts SET task_id = '${wanted}' WHERE task_id = '${id.slice('chatcmpl-'.length)}'`)
  await stack.sql(`UPDATE tasks SET id = '${wanted}' WHERE id = '${id.slice('chatcmpl-'.length)}'`)
  return `/v1/chat/completions/chatcmpl-${wanted}`
}

/** The task for the example of a review decision. */
async function keepReview(wanted: string) {
  const id = (await leaveToReview()).slice('task_'.length)
  await stack.sql(`UPDATE reviews SET task_id = '${wanted}' WHERE task_id = '${id}'`)
  await stack.sql(`UPDATE tasks SET id = '${wanted}' WHERE id = '${id}'`)
}

/** The key in the examples of changes. */
async function keepKey(wanted: string) {
  const id = (await stack.makeKey()).id.slice('key_'.length)
  await stack.sql(`UPDATE api_keys SET id = '${wanted}' WHERE id = '${id}'`)
}

/** The user in the example of a conversion. */
async function exposeUser(user_id: string) {
  const variants = ['a', 'b'].map(name => ({ name, weight: 1 }))
  await stack.call('PUT', '/api/v1/experiments/tone', { body: { kind: 'generate', variants } })
  expect((await stack.submit({ options: { user_id } })).status).toBe(202)
}

async function leaveToReview(): Promise<string> {
  // A refusal is not a verdict.
  stack.upstream.rule(/Nobody can/, { text: '{', stop: 'refusal' })
  const body = { input: { text: 'Nobody can judge this.' }, options: { deadline_seconds: 1 } }
  const task = await stack.call('POST', '/api/v1/tasks/moderate', { body, headers: { prefer: 'wait=30' } })
  return task.body.task_id
}

function judgeAllWell() {
  const scores = Object.fromEntries(CATEGORIES.map(name => [name, 0]))
  const text = JSON.stringify({ verdicts: [{ scores, confidence: 1, reason: 'It is fine.' }] })
  stack.upstream.rule(/lovely/, { text })
}

async function upload(content = '{}') {
  const form = new FormData()
  form.set('file', new File([content], 'in.jsonl'))
  form.set('purpose', 'batch')
  return (await stack.call('POST', '/v1/files', { body: form })).body
}

function exampleOf({ parameters = [] }: Operation, name: string): string {
  const parameter = parameters.find(one => one.name === name) as { example?: string } | undefined
  return parameter?.example ?? `{${name}}`
}

async function tryBatches() {
  const gate = stack.upstream.hold({ when: /batched/ })
  const create = (query = '') =>
    stack.call('POST', `/api/v1/batches?kind=generate&options={"cache":"off","fallback":"none"}${query}`, {
      body: [{ prompt: 'batched' }],
    })
  expect((await create('&dry_run=true')).body).toMatchObject({ valid: true })
  const { id } = (await create()).body
  for (const path of ['/api/v1/batches', `/api/v1/batches/${id}`]) await stack.call('GET', path)
  await gate.waiting()
  await stack.call('POST', `/api/v1/batches/${id}/cancel`)
  stack.upstream.script({ when: /batched/, status: 400, message: 'no' })
  gate.release()
  await stack.call('GET', `/api/v1/batches/${id}/events`)
  const failing = (await create()).body.id
  await stack.call('GET', `/api/v1/batches/${failing}/events`)
  await stack.call('GET', `/api/v1/batches/${failing}/results`)
  await stack.call('POST', `/api/v1/batches/${failing}/retry`)
  const endpoint = '/v1/responses'
  const body = { model: 'claude-haiku-4-5', input: 'batched' }
  const input_file_id = (await upload(JSON.stringify({ custom_id: 'a', method: 'POST', url: endpoint, body }))).id
  const again = stack.upstream.hold({ when: /batched/ })
  const request = { input_file_id, endpoint, completion_window: '24h' }
  const foreign = (await stack.call('POST', '/v1/batches', { body: request })).body.id
  for (const path of ['/v1/batches', `/v1/batches/${foreign}`]) await stack.call('GET', path)
  await stack.call('POST', `/v1/batches/${foreign}/cancel`)
  again.release()
}

async function tryCollections() {
  const path = '/api/v1/collections/shop'
  await stack.call('PUT', path, { body: {} })
  await stack.call('POST', `${path}/documents`, { body: [{ id: 'a', text: 'One' }] })
  await stack.call('PUT', `${path}/documents/b`, { body: { text: 'Two' } })
  for (const read of ['/api/v1/collections', path, `${path}/documents`, `${path}/documents/a`, `${path}/search?q=one`])
    await stack.call('GET', read)
  for (const gone of [`${path}/documents/a`, path]) await stack.call('DELETE', gone)
}

async function tryExperiments(task_id: string) {
  await exposeUser('somebody')
  const path = '/api/v1/experiments/tone'
  await stack.call('POST', `${path}/conversions`, { body: { user_id: 'somebody' } })
  for (const read of ['/api/v1/experiments', path]) await stack.call('GET', read)
  await stack.call('DELETE', path)
  await stack.call('POST', `/api/v1/tasks/${task_id}/feedback`, { body: { score: 5 } })
  await stack.call('GET', `/api/v1/tasks/${task_id}/feedback`)
}

async function tryCompletions() {
  const path = await keepCompletion('019a9f0c5d7e7cc2a1b2c3d4e5f60721')
  for (const read of ['/v1/chat/completions', path, `${path}/messages`]) await stack.call('GET', read)
  await stack.call('POST', path, { body: { metadata: null } })
  await stack.call('DELETE', path)
}

async function tryResponses() {
  const body = { model: 'claude-haiku-5-5', input: 'Say hello', background: true }
  const { id } = (await stack.call('POST', '/v1/responses', { body })).body
  const path = `/v1/responses/${id}`
  for (const read of [path, `${path}/input_items`]) await stack.call('GET', read)
  await stack.call('POST', `${path}/cancel`)
  await stack.call('DELETE', path)
}

it('every operation was called with every success status that it documents', async () => {
  const { task_id, urls } = (await stack.submit()).body
  const review = await leaveToReview()
  judgeAllWell()
  await stack.call('POST', '/v1/moderations', { body: { input: 'A lovely photograph.' } })
  await stack.call('POST', '/v1/embeddings', { body: { input: 'A boat.', model: 'text-embedding-3-small' } })
  await stack.call('POST', `/api/v1/reviews/${review}`, { body: { decision: 'block' } })
  await stack.call('PUT', '/api/v1/policies/strict', { body: {} })
  for (const job of jobs.values()) {
    const { status } = await stack.call('POST', `/api/v1/tasks/${job.kind}`, {
      body: job.example,
      headers: { prefer: 'wait=30' },
    })
    expect(status, job.kind).toBe(200)
  }
  expect((await stack.finished()).status).toBe('succeeded')
  await stack.call('POST', urls.cancel)
  for (const path of [
    urls.self,
    `${urls.self}/input`,
    urls.events,
    '/api/v1/tasks',
    '/api/v1/keys',
    '/api/v1/models',
    '/v1/models',
    '/v1/models/claude-haiku-5-5',
    '/api/v1/budgets',
    '/api/v1/analytics/costs',
    '/cost',
    '/circuit-breaker',
    '/api/v1/providers',
    '/api/v1/providers/anthropic/health',
    '/api/v1/workers',
    '/api/v1/policies',
    '/api/v1/policies/strict',
    '/api/v1/reviews',
    '/api/v1/keys/self/webhook-secret',
    '/health/live',
    '/health/ready',
    '/metrics',
    '/scale?queue=default,moderate',
  ])
    await stack.call('GET', path)
  await stack.call('GET', urls.events, { headers: { 'last-event-id': '999999999' } })
  await tryExperiments(task_id)
  await tryCollections()
  const gate = stack.upstream.hold({ when: /too late/ })
  const running = await stack.submit({ input: { prompt: 'too late' } })
  await gate.waiting()
  await stack.call('POST', running.body.urls.cancel)
  gate.release()
  expect(task_id).toMatch(/^task_/)
  const ownKey = `/api/v1/keys/${(await stack.makeKey()).id}`
  await stack.call('GET', ownKey)
  await stack.call('PATCH', ownKey, { body: { weight: 2 } })
  await stack.call('POST', `${ownKey}/rotate`)
  await stack.call('DELETE', ownKey)
  await stack.call('DELETE', '/api/v1/policies/strict')
  for (const job of jobs.values().filter(job => job.resultWithoutVerdict === null)) {
    const path = `/api/v1/precomputed/${job.kind}`
    await stack.call('PUT', path, { body: { result: job.exampleResult } })
    await stack.call('GET', path)
    await stack.call('DELETE', path)
  }
  const budget = { scope: 'global', window: 'request', limit_usd: 9 }
  await stack.call(
    'DELETE',
    `/api/v1/budgets/${(await stack.call('PUT', '/api/v1/budgets', { body: budget })).body.id}`,
  )
  const file = await upload()
  for (const path of ['/v1/files', `/v1/files/${file.id}`, `/v1/files/${file.id}/content`])
    await stack.call('GET', path)
  await stack.call('DELETE', `/v1/files/${file.id}`)
  await tryBatches()
  await tryCompletions()
  await tryResponses()
  const limits = '/api/v1/providers/anthropic/limits'
  await stack.call('PUT', limits, { body: { rpm: 100_000 } })
  await stack.call('DELETE', limits)
  // The example of PUT.
  await stack.call('PUT', '/api/v1/providers/gpu', { body: { preset: 'vllm', models: { 'qwen3-*': {} } } })
  await stack.call('GET', '/api/v1/providers/gpu')
  await stack.call('DELETE', '/api/v1/providers/gpu')
  await stack.call('POST', `/api/v1/keys/${(await stack.makeKey()).id}/webhook-secret`)
  await stack.finished({ options: { webhook_url: 'http://127.0.0.1:9/hook' } })
  const deliveries = '/api/v1/webhooks/deliveries'
  const [delivery] = (await stack.call('GET', deliveries)).body.data
  await stack.call('POST', `${deliveries}/${delivery.id}/redeliver`)
  const untried = stack.contract.operations.flatMap(({ name, operation }) =>
    Object.keys(operation.responses)
      .filter(status => /^2\d\d$/.test(status) && !stack.seen.get(name)?.has(Number(status)))
      .map(status => `${name} ${status}`),
  )
  expect(untried).toEqual([])
})

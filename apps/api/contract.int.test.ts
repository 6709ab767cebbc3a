import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import { startMachine } from '#shared/testing/machine.ts'
import type { Operation } from '#shared/testing/openapi.ts'

/** The OpenAPI document itself. That the answers are what it says is checked by every `machine.call` of these tests. */

const machine = startMachine(upstream => ({
  PROVIDERS: 'anthropic,openai',
  OPENAI_API_KEY: 'key',
  OPENAI_BASE_URL: `${upstream.url}/v1`,
}))
/** What needs no key. */
const OPEN = /^\/(health|metrics|scale)\b/

describe('the OpenAPI document', () => {
  it('is OpenAPI 3.1 with every operation described', () => {
    expect(machine.document.openapi).toMatch(/^3\.1\.\d$/)
    expect(machine.document.info).toMatchObject({ title: 'Sluice', version: expect.stringMatching(/^\d/) })
    const schemes = Object.keys(machine.document.components?.securitySchemes ?? {})
    expect(schemes.length).toBeGreaterThan(0)
    for (const { name, path, operation } of machine.contract.operations) {
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
    const ids = machine.contract.operations.flatMap(one => one.operation.operationId ?? [])
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
    for (const { name, operation } of machine.contract.operations) {
      for (const parameter of operation.parameters ?? []) {
        expect(() => machine.contract.violation(parameter.schema, null), `${name} ${parameter.name}`).not.toThrow()
        if ((parameter.schema as { default?: unknown }).default !== undefined)
          expect(parameter.required, `${name} ${parameter.name}`).not.toBe(true)
      }
      for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
        expect(() => machine.contract.violation(schema!, null), name).not.toThrow()
        walk(schema, name)
      }
      for (const [status, response] of Object.entries(operation.responses)) {
        expect(response.description).toMatch(/./)
        for (const { schema } of Object.values(response.content ?? {}))
          expect(() => machine.contract.violation(schema!, null), `${name} ${status}`).not.toThrow()
      }
    }
  })

  it('has a route for every job kind', () => {
    for (const kind of jobs.keys()) expect(machine.document.paths).toHaveProperty([`/api/v1/tasks/${kind}`, 'post'])
  })

  it('has examples that work as they are', async () => {
    await keepFile('019a9f0c5d7e7cc2a1b2c3d4e5f60718')
    await keepReview('019a9f0c5d7e7cc2a1b2c3d4e5f60718')
    judgeAllWell()
    await exposeUser('user-42')
    for (const { name, method, path, operation } of machine.contract.operations) {
      const media = operation.requestBody?.content['application/json']
      if (!media) continue
      const filled = path.replaceAll(/\{(\w+)\}/g, (_, parameter) => exampleOf(operation, parameter))
      const examples = [media.example, ...Object.values(media.examples ?? {}).map(one => one.value)].filter(Boolean)
      expect(examples.length, `${name} has an example`).toBeGreaterThan(0)
      for (const body of examples) {
        expect(machine.contract.violation(media.schema!, body)).toBeNull()
        expect((await machine.call(method, filled, { body })).status, name).toBeLessThan(300)
      }
    }
  })
})

/** The input that the example of a batch names. */
async function keepFile(wanted: string) {
  const id = (await upload()).id.slice('file-'.length)
  await machine.sql(`UPDATE file_chunks SET file_id = '${wanted}' WHERE file_id = '${id}'`)
  await machine.sql(`UPDATE files SET id = '${wanted}' WHERE id = '${id}'`)
}

/** The task that the example of a decision names. */
async function keepReview(wanted: string) {
  const id = (await leaveToReview()).slice('task_'.length)
  await machine.sql(`UPDATE reviews SET task_id = '${wanted}' WHERE task_id = '${id}'`)
  await machine.sql(`UPDATE tasks SET id = '${wanted}' WHERE id = '${id}'`)
}

/** The user that the example of a conversion names. */
async function exposeUser(user_id: string) {
  const variants = ['a', 'b'].map(name => ({ name, weight: 1 }))
  await machine.call('PUT', '/api/v1/experiments/tone', { body: { kind: 'generate', variants } })
  expect((await machine.submit({ options: { user_id } })).status).toBe(202)
}

async function leaveToReview(): Promise<string> {
  // A refusal is no verdict.
  machine.upstream.rule(/Nobody can/, { text: '{', stop: 'refusal' })
  const body = { input: { text: 'Nobody can judge this.' }, options: { deadline_seconds: 1 } }
  const task = await machine.call('POST', '/api/v1/tasks/moderate', { body, headers: { prefer: 'wait=30' } })
  return task.body.task_id
}

function judgeAllWell() {
  const scores = Object.fromEntries(CATEGORIES.map(name => [name, 0]))
  const text = JSON.stringify({ verdicts: [{ scores, confidence: 1, reason: 'It is fine.' }] })
  machine.upstream.rule(/lovely/, { text })
}

async function upload(content = '{}') {
  const form = new FormData()
  form.set('file', new File([content], 'in.jsonl'))
  form.set('purpose', 'batch')
  return (await machine.call('POST', '/v1/files', { body: form })).body
}

function exampleOf({ parameters = [] }: Operation, name: string): string {
  const parameter = parameters.find(one => one.name === name) as { example?: string } | undefined
  return parameter?.example ?? `{${name}}`
}

async function tryBatches() {
  const gate = machine.upstream.hold({ when: /batched/ })
  const create = (query = '') =>
    machine.call('POST', `/api/v1/batches?kind=generate&options={"cache":"off","fallback":"none"}${query}`, {
      body: [{ prompt: 'batched' }],
    })
  expect((await create('&dry_run=true')).body).toMatchObject({ valid: true })
  const { id } = (await create()).body
  for (const path of ['/api/v1/batches', `/api/v1/batches/${id}`]) await machine.call('GET', path)
  await gate.waiting()
  await machine.call('POST', `/api/v1/batches/${id}/cancel`)
  machine.upstream.script({ when: /batched/, status: 400, message: 'no' })
  gate.release()
  await machine.call('GET', `/api/v1/batches/${id}/events`)
  const failing = (await create()).body.id
  await machine.call('GET', `/api/v1/batches/${failing}/events`)
  await machine.call('GET', `/api/v1/batches/${failing}/results`)
  await machine.call('POST', `/api/v1/batches/${failing}/retry`)
  const endpoint = '/v1/responses'
  const body = { model: 'claude-haiku-4-5', input: 'batched' }
  const input_file_id = (await upload(JSON.stringify({ custom_id: 'a', method: 'POST', url: endpoint, body }))).id
  const again = machine.upstream.hold({ when: /batched/ })
  const request = { input_file_id, endpoint, completion_window: '24h' }
  const foreign = (await machine.call('POST', '/v1/batches', { body: request })).body.id
  for (const path of ['/v1/batches', `/v1/batches/${foreign}`]) await machine.call('GET', path)
  await machine.call('POST', `/v1/batches/${foreign}/cancel`)
  again.release()
}

async function tryCollections() {
  const path = '/api/v1/collections/shop'
  await machine.call('PUT', path, { body: {} })
  await machine.call('POST', `${path}/documents`, { body: [{ id: 'a', text: 'One' }] })
  await machine.call('PUT', `${path}/documents/b`, { body: { text: 'Two' } })
  for (const read of ['/api/v1/collections', path, `${path}/documents`, `${path}/documents/a`, `${path}/search?q=one`])
    await machine.call('GET', read)
  for (const gone of [`${path}/documents/a`, path]) await machine.call('DELETE', gone)
}

async function tryExperiments(task_id: string) {
  await exposeUser('somebody')
  const path = '/api/v1/experiments/tone'
  await machine.call('POST', `${path}/conversions`, { body: { user_id: 'somebody' } })
  for (const read of ['/api/v1/experiments', path]) await machine.call('GET', read)
  await machine.call('DELETE', path)
  await machine.call('POST', `/api/v1/tasks/${task_id}/feedback`, { body: { score: 5 } })
  await machine.call('GET', `/api/v1/tasks/${task_id}/feedback`)
}

it('every operation was tried, in every way that it documents to end well', async () => {
  const { task_id, urls } = (await machine.submit()).body
  const review = await leaveToReview()
  judgeAllWell()
  await machine.call('POST', '/v1/moderations', { body: { input: 'A lovely photograph.' } })
  await machine.call('POST', '/v1/embeddings', { body: { input: 'A boat.', model: 'text-embedding-3-small' } })
  await machine.call('POST', `/api/v1/reviews/${review}`, { body: { decision: 'block' } })
  await machine.call('PUT', '/api/v1/policies/strict', { body: {} })
  for (const job of jobs.values()) {
    const { status } = await machine.call('POST', `/api/v1/tasks/${job.kind}`, {
      body: job.example,
      headers: { prefer: 'wait=30' },
    })
    expect(status, job.kind).toBe(200)
  }
  expect((await machine.finished()).status).toBe('succeeded')
  await machine.call('POST', urls.cancel)
  for (const path of [
    urls.self,
    `${urls.self}/input`,
    urls.events,
    '/api/v1/tasks',
    '/api/v1/keys',
    '/api/v1/models',
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
    await machine.call('GET', path)
  await machine.call('GET', urls.events, { headers: { 'last-event-id': '999999999' } })
  await tryExperiments(task_id)
  await tryCollections()
  const gate = machine.upstream.hold({ when: /too late/ })
  const running = await machine.submit({ input: { prompt: 'too late' } })
  await gate.waiting()
  await machine.call('POST', running.body.urls.cancel)
  gate.release()
  expect(task_id).toMatch(/^task_/)
  await machine.call('DELETE', `/api/v1/keys/${(await machine.makeKey()).id}`)
  await machine.call('DELETE', '/api/v1/policies/strict')
  for (const job of jobs.values().filter(job => job.noVerdict === null)) {
    const path = `/api/v1/precomputed/${job.kind}`
    await machine.call('PUT', path, { body: { result: job.exampleResult } })
    await machine.call('GET', path)
    await machine.call('DELETE', path)
  }
  const budget = { scope: 'global', window: 'request', limit_usd: 9 }
  await machine.call(
    'DELETE',
    `/api/v1/budgets/${(await machine.call('PUT', '/api/v1/budgets', { body: budget })).body.id}`,
  )
  const file = await upload()
  for (const path of ['/v1/files', `/v1/files/${file.id}`, `/v1/files/${file.id}/content`])
    await machine.call('GET', path)
  await machine.call('DELETE', `/v1/files/${file.id}`)
  await tryBatches()
  const limits = '/api/v1/providers/anthropic/limits'
  await machine.call('PUT', limits, { body: { rpm: 100_000 } })
  await machine.call('DELETE', limits)
  await machine.call('POST', `/api/v1/keys/${(await machine.makeKey()).id}/webhook-secret`)
  await machine.finished({ options: { webhook_url: 'http://127.0.0.1:9/hook' } })
  const deliveries = '/api/v1/webhooks/deliveries'
  const [delivery] = (await machine.call('GET', deliveries)).body.data
  await machine.call('POST', `${deliveries}/${delivery.id}/redeliver`)
  const untried = machine.contract.operations.flatMap(({ name, operation }) =>
    Object.keys(operation.responses)
      .filter(status => /^2\d\d$/.test(status) && !machine.seen.get(name)?.has(Number(status)))
      .map(status => `${name} ${status}`),
  )
  expect(untried).toEqual([])
})

import { describe, expect, it } from 'vitest'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

describe('POST /api/v1/tasks/generate', () => {
  it('answers 202 with the URLs of the task before it has run', async () => {
    const gate = stack.upstream.hold()
    const answer = await stack.submit({ metadata: { order: 7 }, options: { stream: false } })
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
    const task = (await stack.call('GET', `${self}?wait=30`)).body
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

  it('answers 200 with the whole task when the client waits', async () => {
    const task = await stack.finished()
    expect(task).toMatchObject({ status: 'succeeded', result: { text: 'Hello from upstream.' } })
    expect((await stack.call('GET', `/api/v1/tasks/${task.task_id}`)).body).toEqual(task)
  })

  it('answers 202 when the wait ends first, and the task continues', async () => {
    const gate = stack.upstream.hold({ when: /patience/ })
    const answer = await stack.submit(
      { input: { prompt: 'patience' } },
      { headers: { prefer: 'respond-async, wait=1' } },
    )
    expect(answer.status).toBe(202)
    gate.release()
    expect((await stack.call('GET', `${answer.body.urls.self}?wait=30`)).body.status).toBe('succeeded')
  })

  it('returns a valid object for a schema', async () => {
    stack.upstream.script({ when: 'as JSON', text: '{"n":1}' })
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    expect((await stack.finished({ input: { prompt: 'as JSON', schema } })).result).toEqual({ n: 1 })
  })

  it('reports why a task failed', async () => {
    stack.upstream.script({ when: 'refuse', status: 400, message: 'prompt is too long' })
    const task = await stack.finished({ input: { prompt: 'refuse' } })
    expect(task).toMatchObject({ status: 'failed', result: null, source: null, error: { code: 'provider_rejected' } })
    expect(task.attempts[0]).toMatchObject({ outcome: 'invalid_request', error: { code: 'invalid_request' } })
    expect(task.attempts[0].error.message).toContain('prompt is too long')
  })

  it('creates one task per Idempotency-Key', async () => {
    const headers = { 'idempotency-key': 'order-7' }
    const first = await stack.submit({ metadata: { a: 1, b: 2 } }, { headers })
    const same = await stack.submit({ metadata: { b: 2, a: 1 } }, { headers })
    expect([first.status, same.status]).toEqual([202, 202])
    expect(same.body.task_id).toBe(first.body.task_id)
    const waited = await stack.submit({ metadata: { a: 1, b: 2 } }, { headers: { ...headers, prefer: 'wait=30' } })
    expect(waited).toMatchObject({ status: 200, body: { task_id: first.body.task_id, status: 'succeeded' } })
    const other = await stack.submit({ metadata: { a: 2 } }, { headers })
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_mismatch' } })
    const { secret } = await stack.makeKey()
    const stranger = await stack.submit({}, { headers, key: secret })
    expect(stranger.body.task_id).not.toBe(first.body.task_id)
  })

  it('returns the task of an Idempotency-Key even if the request would now be refused', async () => {
    const body = { input: { question: 'Which?', collection: 'passing' } }
    const headers = { 'idempotency-key': 'ask-1' }
    const path = '/api/v1/collections/passing'
    expect((await stack.call('PUT', path, { body: { language: 'english' } })).status).toBe(200)
    const documents = [{ id: 'one', text: 'This is what there is to know.' }]
    expect((await stack.call('POST', `${path}/documents`, { body: documents })).status).toBe(200)
    const first = await stack.call('POST', '/api/v1/tasks/ask', { body, headers })
    expect(first.status).toBe(202)
    expect((await stack.call('DELETE', path)).status).toBe(200)
    const again = await stack.call('POST', '/api/v1/tasks/ask', { body, headers })
    expect([again.status, again.body.task_id]).toEqual([202, first.body.task_id])
    const fresh = { 'idempotency-key': 'ask-2' }
    expect(await stack.call('POST', '/api/v1/tasks/ask', { body, headers: fresh })).toMatchObject({ status: 422 })
    const other = { input: { question: 'What?', collection: 'passing' } }
    expect(await stack.call('POST', '/api/v1/tasks/ask', { body: other, headers })).toMatchObject({ status: 422 })
  })
})

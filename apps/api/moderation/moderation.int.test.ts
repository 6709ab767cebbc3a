import OpenAI from 'openai'
import { describe, expect, it, vi } from 'vitest'
import { toWire } from '#shared/ids.ts'
import { CATEGORIES, OPENAI_CATEGORIES } from '#shared/moderation/categories.ts'
import { startStack } from '#shared/testing/stack.ts'
import type { Script } from '#shared/testing/upstream.ts'

const stack = startStack(() => ({ CALL_TIMEOUT_SECONDS: '10', BACKOFF_BASE_MS: '20', BACKOFF_MAX_MS: '50' }))

const verdict = (scores: Record<string, number> = {}, more: object = {}) => ({
  scores: Object.fromEntries(CATEGORIES.map(name => [name, scores[name] ?? 0])),
  confidence: 0.95,
  reason: 'Read it.',
  ...more,
})
const answer = (...verdicts: object[]) => JSON.stringify({ verdicts })

/** Every text is unique, so that no answer comes from the cache. */
let texts = 0
const fresh = (text = 'What a lovely photograph') => `${text}, ${++texts}`

async function moderate(input: object, options: object = {}) {
  const body = { input, options: { deadline_seconds: 60, ...options } }
  const { status, body: task } = await stack.call('POST', '/api/v1/tasks/moderate', {
    body,
    headers: { prefer: 'wait=30' },
  })
  expect(status).toBe(200)
  return task
}

const NO_VERDICT = { safe: false, decision: 'review', violations: [], confidence: 0 }

describe('a text', () => {
  it('is judged by a model with interactive priority and a deadline of 5 s', async () => {
    const text = fresh()
    stack.upstream.script({ text: answer(verdict()) })
    const task = await moderate({ text }, { deadline_seconds: undefined })
    expect(task).toMatchObject({
      kind: 'moderate',
      status: 'succeeded',
      source: 'ai',
      prompt_version: '3',
      result: { safe: true, decision: 'allow', violations: [] },
    })
    const [row] = await stack.sql<{ queue: string; priority: string; seconds: number }>(
      `SELECT queue, priority, extract(epoch FROM deadline_at - created_at)::int AS seconds FROM tasks WHERE input->>'text' = '${text}'`,
    )
    expect(row).toEqual({ queue: 'moderate', priority: 'interactive', seconds: 5 })
    const [attempt] = await stack.sql(`SELECT prompt_version FROM attempts a JOIN tasks t ON t.id = a.task_id
      WHERE t.input->>'text' = '${text}'`)
    expect(attempt).toEqual({ prompt_version: '3' })
  })

  it('is judged once per policy, then cached', async () => {
    const text = fresh()
    stack.upstream.script({ text: answer(verdict({ hate: 0.9 })) })
    expect((await moderate({ text })).result.decision).toBe('block')
    expect(await moderate({ text })).toMatchObject({ source: 'cache', attempts: [], result: { decision: 'block' } })
  })

  it('is blocked by certain rules without a call', async () => {
    const before = stack.upstream.count()
    const task = await moderate({ text: fresh('My SSN is 219-09-9999') })
    expect(task).toMatchObject({ status: 'succeeded', source: 'rules', result: { decision: 'block' }, attempts: [] })
    expect(stack.upstream.count()).toBe(before)
  })

  it('is sent again with the reason when the answer is invalid', async () => {
    stack.upstream.script({ text: 'It is safe.' }, { text: answer(verdict()) })
    const task = await moderate({ text: fresh() })
    expect(task).toMatchObject({ status: 'succeeded', result: { decision: 'allow' } })
    expect(task.attempts.map((one: { outcome: string }) => one.outcome)).toEqual(['rejected', 'succeeded'])
    expect(stack.upstream.calls.at(-1)!.prompt).toContain('the answer is not JSON')
  })

  it.each([
    ['no text', {}],
    ['an empty one', { text: '' }],
    ['a blank one', { text: ' \n' }],
    ['100,000 characters', { text: 'a'.repeat(100_000) }],
    ['an unknown policy', { text: 'a', policy: 'unknown' }],
    ['a policy of its own', { text: 'a', policy: { name: 'mine', version: 1, rules: {} } }],
    ['an unknown field', { text: 'a', decision: 'allow' }],
  ])('is refused: %s', async (_, input) => {
    const { status, body } = await stack.call('POST', '/api/v1/tasks/moderate', { body: { input } })
    expect([413, 422]).toContain(status)
    expect(body.context.field).toMatch(/^\/input/)
  })
})

describe('a policy', () => {
  const put = (name: string, body: object) => stack.call('PUT', `/api/v1/policies/${name}`, { body })

  it('sets thresholds; a change creates a new version', async () => {
    const { body: first } = await put('forum', { thresholds: { spam: { review: 0.2, block: 0.3 } } })
    expect(first).toMatchObject({
      name: 'forum',
      version: 1,
      thresholds: { spam: { block: 0.3 }, hate: { block: 0.8 } },
    })
    const text = fresh()
    stack.upstream.rule(text, { text: answer(verdict({ spam: 0.25 })) })
    expect((await moderate({ text, policy: 'forum' })).result.decision).toBe('review')
    expect((await put('forum', { thresholds: { spam: { review: 0.1, block: 0.2 } } })).body.version).toBe(2)
    expect((await put('forum', { thresholds: { spam: { review: 0.1, block: 0.2 } } })).body.version).toBe(2)
    expect(await moderate({ text, policy: 'forum' })).toMatchObject({ source: 'ai', result: { decision: 'block' } })
    expect(await moderate({ text })).toMatchObject({ source: 'ai', result: { decision: 'allow' } })
  })

  it('is listed, read and deleted', async () => {
    await put('blog', {})
    const { body } = await stack.call('GET', '/api/v1/policies')
    expect(body.data.map((one: { name: string }) => one.name)).toContain('blog')
    expect((await stack.call('GET', '/api/v1/policies/blog')).body.min_confidence).toBe(0.5)
    expect((await stack.call('DELETE', '/api/v1/policies/blog')).body.name).toBe('blog')
    expect((await stack.call('GET', '/api/v1/policies/blog')).body.code).toBe('policy_not_found')
    expect((await stack.call('DELETE', '/api/v1/policies/blog')).status).toBe(404)
  })

  it.each([
    ['an unknown category', 'odd', { thresholds: { rudeness: { review: 0, block: 1 } } }],
    ['a threshold beyond 1', 'odd', { thresholds: { spam: { review: 0, block: 7 } } }],
    ['a review above the block', 'odd', { thresholds: { spam: { review: 0.9, block: 0.5 } } }],
    ['the name of the default', 'default', {}],
    ['capitals in its name', 'Odd', {}],
  ])('with %s is refused', async (_, name, body) => expect((await put(name, body)).status).toBe(422))

  it('needs the admin scope', async () => {
    const { secret } = await stack.makeKey({ scopes: ['submit', 'read'] })
    for (const path of ['/api/v1/policies', '/api/v1/reviews'])
      expect((await stack.call('GET', path, { key: secret })).status).toBe(403)
  })
})

describe('a review', () => {
  it('is created for uncertain and missing verdicts, and can be decided more than once', async () => {
    const { secret } = await stack.makeKey()
    const text = fresh()
    stack.upstream.rule(text, { text: answer(verdict({ hate: 0.6 })) })
    const body = { input: { text }, metadata: { comment: 9 } }
    const unsure = await stack.call('POST', '/api/v1/tasks/moderate', {
      body,
      key: secret,
      headers: { prefer: 'wait=30' },
    })
    expect(unsure.body.result.decision).toBe('review')
    const id = unsure.body.task_id
    const unjudged = fresh()
    stack.upstream.rule(unjudged, { text: 'Fine!' })
    const failed = await moderate({ text: unjudged })
    expect(failed.status).toBe('failed')

    const pending: string[] = []
    for (let after = ''; ; ) {
      const { body: page } = await stack.call('GET', `/api/v1/reviews?limit=7${after}`)
      pending.push(...page.data.map((one: { task_id: string }) => one.task_id))
      if (!page.has_more) break
      after = `&after=${page.next}`
    }
    expect(pending).toContain(id)
    expect(new Set(pending).size).toBe(pending.length)
    expect(pending).toContain(failed.task_id)

    const seen = async () => (await stack.call('GET', `/api/v1/tasks/${id}`, { key: secret })).body
    expect(await seen()).toMatchObject({ result: { decision: 'review' }, review: null })
    const decided = await stack.call('POST', `/api/v1/reviews/${id}`, { body: { decision: 'allow', note: 'Satire' } })
    expect(decided.body).toMatchObject({ task_id: id, decision: 'allow', metadata: { comment: 9 }, input: { text } })
    const allowed = { decision: 'allow', decided_at: decided.body.history[0].decided_at }
    expect(await seen()).toEqual({ ...unsure.body, review: allowed })
    const again = await stack.call('POST', `/api/v1/reviews/${id}`, { body: { decision: 'block' } })
    expect(again.body).toMatchObject({
      decision: 'block',
      history: [
        { decision: 'allow', note: 'Satire' },
        { decision: 'block', note: null },
      ],
    })
    expect(again.body.history[0].decided_by).toMatch(/^key_/)
    expect((await seen()).review).toEqual({ decision: 'block', decided_at: again.body.history[1].decided_at })
    const { body: done } = await stack.call('GET', '/api/v1/reviews?status=decided')
    expect(done.data[0].task_id).toBe(id)
    // A text without a verdict is moderated again.
    const once = await stack.call('POST', '/api/v1/tasks/moderate', {
      body,
      key: secret,
      headers: { prefer: 'wait=30' },
    })
    expect(once.body.source).toBe('ai')
  })

  it('is not found for a task with a verdict or an unknown task', async () => {
    const task = await moderate({ text: fresh('My SSN is 219-09-9999') })
    for (const id of [task.task_id, 'task_0', 'task_019a9f0c5d7e7cc2a1b2c3d4e5f60718']) {
      const { body } = await stack.call('POST', `/api/v1/reviews/${id}`, { body: { decision: 'allow' } })
      expect(body.code).toBe('review_not_found')
    }
    const { status } = await stack.call('POST', `/api/v1/reviews/${task.task_id}`, { body: { decision: 'perhaps' } })
    expect(status).toBe(422)
  })

  it('closes when a retried batch line gets a verdict', async () => {
    const text = fresh()
    stack.upstream.rule(text, { text: 'Fine!' })
    const { body: batch } = await stack.call('POST', '/api/v1/batches?kind=moderate', { body: [{ input: { text } }] })
    const ended = (counts: object) =>
      vi.waitFor(
        async () => {
          const { body } = await stack.call('GET', `/api/v1/batches/${batch.id}`)
          expect(body).toMatchObject({ status: 'completed', counts })
        },
        { timeout: 20_000, interval: 50 },
      )
    await ended({ failed: 1 })
    stack.upstream.rule(text, { text: answer(verdict({ hate: 0.9 })) })
    expect((await stack.call('POST', batch.urls.retry)).status).toBe(200)
    await ended({ succeeded: 1 })
    const [line] = await stack.sql<{ id: string }>(`SELECT id FROM tasks WHERE input->>'text' = '${text}'`)
    const decided = await stack.call('POST', `/api/v1/reviews/${toWire('task', line!.id)}`, {
      body: { decision: 'allow' },
    })
    expect(decided).toMatchObject({ status: 409, body: { code: 'review_not_open' } })
  })
})

describe('the OpenAI client', () => {
  const client = () =>
    new OpenAI({
      baseURL: `http://127.0.0.1:${stack.api.port}/v1`,
      apiKey: 'the-admin-key-of-this-test',
      maxRetries: 0,
    })

  it('gets one result per text', async () => {
    const input = [fresh(), fresh('I hate them')]
    stack.upstream.script({ text: answer(verdict(), verdict({ hate: 0.9 })) })
    const { id, results } = await client().moderations.create({ input, model: 'omni-moderation-latest' })
    expect(id).toMatch(/^modr_[0-9a-f]{32}$/)
    expect(results.map(one => one.flagged)).toEqual([false, true])
    expect(Object.keys(results[1]!.categories)).toEqual([...OPENAI_CATEGORIES])
    expect(results[1]).toMatchObject({ categories: { hate: true, sexual: false }, category_scores: { hate: 0.9 } })
  })

  it('gets one result for a text of several parts', async () => {
    const [one, two] = [fresh('You are wor'), 'thless']
    stack.upstream.script({ when: /You are wor.*thless/s, text: answer(verdict({ harassment: 0.9 })) })
    const input = [one, two].map(text => ({ type: 'text' as const, text: text! }))
    const { results } = await client().moderations.create({ input })
    expect(results).toMatchObject([{ flagged: true, categories: { harassment: true } }])
  })

  it('gets 400 for an image', async () => {
    const image = { type: 'image_url' as const, image_url: { url: 'https://example.com/a.png' } }
    const error = await client()
      .moderations.create({ input: [{ type: 'text', text: fresh() }, image] })
      .catch(error => error)
    expect(error).toMatchObject({ status: 400, param: 'input[1]', message: expect.stringMatching(/is an image/) })
  })

  it('gets 503 without a verdict, never flagged: false', async () => {
    const input = fresh()
    stack.upstream.rule(input, { text: 'Fine!' })
    const error = await client()
      .moderations.create({ input })
      .catch(error => error)
    expect(error).toBeInstanceOf(OpenAI.InternalServerError)
    expect(error).toMatchObject({ status: 503, code: 'no_verdict' })
  })

  it.each([
    ['an empty text', ''],
    ['no texts', []],
    ['too many texts', Array(21).fill('a')],
    ['a text that is too long', 'a'.repeat(60_000)],
  ])('gets 400 for %s', async (_, input) => {
    const error = await client()
      .moderations.create({ input })
      .catch(error => error)
    expect(error).toMatchObject({ status: 400, type: 'invalid_request_error' })
  })

  it('can moderate many texts in a batch', async () => {
    const lines = [fresh(), fresh('I hate them')].map((input, n) =>
      JSON.stringify({ custom_id: `${n}`, method: 'POST', url: '/v1/moderations', body: { input } }),
    )
    stack.upstream.rule('I hate them', { text: answer(verdict({ hate: 0.9 })) })
    stack.upstream.rule('lovely', { text: answer(verdict()) })
    const file = await client().files.create({ file: new File([lines.join('\n')], 'in.jsonl'), purpose: 'batch' })
    const { id } = await client().batches.create({
      input_file_id: file.id,
      endpoint: '/v1/moderations',
      completion_window: '24h',
    })
    const done = await vi.waitFor(
      async () => {
        const batch = await client().batches.retrieve(id)
        expect(batch.status).toBe('completed')
        return batch
      },
      { timeout: 25_000, interval: 100 },
    )
    const output = await (await client().files.content(done.output_file_id!)).text()
    const flagged = output
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
      .map(({ custom_id, response }) => [custom_id, response.body.results[0].flagged])
    expect(Object.fromEntries(flagged)).toEqual({ 0: false, 1: true })
  })
})

describe('a task without a verdict', () => {
  it('is left to review when a budget is spent', async () => {
    const { body: budget } = await stack.call('PUT', '/api/v1/budgets', {
      body: { scope: 'kind:moderate', window: 'total', limit_usd: 0 },
    })
    expect(await moderate({ text: fresh() })).toMatchObject({ status: 'failed', result: NO_VERDICT })
    await stack.call('DELETE', `/api/v1/budgets/${budget.id}`)
  })

  it('is left to review when it was cancelled', async () => {
    const text = fresh()
    stack.upstream.rule(text, { fault: 'hang' })
    const { body } = await stack.call('POST', '/api/v1/tasks/moderate', { body: { input: { text } } })
    const { body: task } = await stack.call('POST', `${body.urls.self}/cancel`)
    expect(task).toMatchObject({ status: 'cancelled', result: NO_VERDICT })
  })

  // Last, because these open the breaker; concurrent, so that each call starts before it opens.
  it.concurrent.each<[string, Script]>([
    ['a model that answers prose', { text: 'I think that is fine.' }],
    ['a model that says safe and nothing else', { text: '{"safe": true}' }],
    ['a model that refuses', { text: answer(verdict()), stop: 'refusal' }],
    ['a model that is cut off', { text: answer(verdict()).slice(0, 200), stop: 'max_tokens' }],
    ['a model that cannot be reached', { fault: 'cut' }],
    ['a model that is overloaded', { status: 529 }],
    ['a model that rejects the key', { status: 401 }],
    ['a model that hangs', { fault: 'hang' }],
  ])('is left to review after %s', async (_, script) => {
    const text = fresh()
    stack.upstream.rule(text, script)
    const task = await moderate({ text }, { fallback: 'rules', deadline_seconds: 4 })
    expect(task.result).toMatchObject(NO_VERDICT)
    expect(['failed', 'expired']).toContain(task.status)
    expect(task.source).toBeNull()
  })

  it('has no precomputed answer', async () => {
    const path = '/api/v1/precomputed/moderate'
    const { status } = await stack.call('PUT', path, { body: { result: { decision: 'allow' } } })
    expect(status).toBe(404)
  })
})

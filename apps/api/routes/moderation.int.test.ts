import OpenAI from 'openai'
import { describe, expect, it, vi } from 'vitest'
import { toWire } from '#shared/ids.ts'
import { CATEGORIES, OPENAI_CATEGORIES } from '#shared/moderation/categories.ts'
import { startMachine } from '#shared/testing/machine.ts'
import type { Script } from '#shared/testing/upstream.ts'

const machine = startMachine(() => ({ CALL_TIMEOUT_SECONDS: '10', BACKOFF_BASE_MS: '20', BACKOFF_MAX_MS: '50' }))

const verdict = (scores: Record<string, number> = {}, more: object = {}) => ({
  scores: Object.fromEntries(CATEGORIES.map(name => [name, scores[name] ?? 0])),
  confidence: 0.95,
  reason: 'Read it.',
  ...more,
})
const answer = (...verdicts: object[]) => JSON.stringify({ verdicts })

/** Every text is one that nobody asked about before. */
let texts = 0
const fresh = (text = 'What a lovely photograph') => `${text}, ${++texts}`

async function moderate(input: object, options: object = {}) {
  const body = { input, options: { deadline_seconds: 60, ...options } }
  const { status, body: task } = await machine.call('POST', '/api/v1/tasks/moderate', {
    body,
    headers: { prefer: 'wait=30' },
  })
  expect(status).toBe(200)
  return task
}

const NO_VERDICT = { safe: false, decision: 'review', violations: [], confidence: 0 }

describe('a text', () => {
  it('is judged by a model, within five seconds, before others', async () => {
    const text = fresh()
    machine.upstream.script({ text: answer(verdict()) })
    const task = await moderate({ text }, { deadline_seconds: undefined })
    expect(task).toMatchObject({
      kind: 'moderate',
      status: 'succeeded',
      source: 'ai',
      prompt_version: '1',
      result: { safe: true, decision: 'allow', violations: [] },
    })
    const [row] = await machine.sql<{ queue: string; priority: string; seconds: number }>(
      `SELECT queue, priority, extract(epoch FROM deadline_at - created_at)::int AS seconds FROM tasks WHERE input->>'text' = '${text}'`,
    )
    expect(row).toEqual({ queue: 'moderate', priority: 'interactive', seconds: 5 })
    const [attempt] = await machine.sql(`SELECT prompt_version FROM attempts a JOIN tasks t ON t.id = a.task_id
      WHERE t.input->>'text' = '${text}'`)
    expect(attempt).toEqual({ prompt_version: '1' })
  })

  it('is judged once by the same policy, and remembered', async () => {
    const text = fresh()
    machine.upstream.script({ text: answer(verdict({ hate: 0.9 })) })
    expect((await moderate({ text })).result.decision).toBe('block')
    expect(await moderate({ text })).toMatchObject({ source: 'cache', attempts: [], result: { decision: 'block' } })
  })

  it('is blocked by rules that are sure, without a call', async () => {
    const before = machine.upstream.count()
    const task = await moderate({ text: fresh('My SSN is 219-09-9999') })
    expect(task).toMatchObject({ status: 'succeeded', source: 'rules', result: { decision: 'block' }, attempts: [] })
    expect(machine.upstream.count()).toBe(before)
  })

  it('is asked about again when the answer was of no use, with the reason', async () => {
    machine.upstream.script({ text: 'It is safe.' }, { text: answer(verdict()) })
    const task = await moderate({ text: fresh() })
    expect(task).toMatchObject({ status: 'succeeded', result: { decision: 'allow' } })
    expect(task.attempts.map((one: { outcome: string }) => one.outcome)).toEqual(['rejected', 'succeeded'])
    expect(machine.upstream.calls.at(-1)!.prompt).toContain('the answer is not JSON')
  })

  it.each([
    ['no text', {}],
    ['an empty one', { text: '' }],
    ['a blank one', { text: ' \n' }],
    ['100,000 characters', { text: 'a'.repeat(100_000) }],
    ['a policy that is not there', { text: 'a', policy: 'nobody' }],
    ['a policy of its own', { text: 'a', policy: { name: 'mine', version: 1, rules: {} } }],
    ['something unknown', { text: 'a', decision: 'allow' }],
  ])('is turned down: %s', async (_, input) => {
    const { status, body } = await machine.call('POST', '/api/v1/tasks/moderate', { body: { input } })
    expect([413, 422]).toContain(status)
    expect(body.context.field).toMatch(/^\/input/)
  })
})

describe('a policy', () => {
  const put = (name: string, body: object) => machine.call('PUT', `/api/v1/policies/${name}`, { body })

  it('says from where on something is blocked, and its change is another version', async () => {
    const { body: first } = await put('forum', { thresholds: { spam: { review: 0.2, block: 0.3 } } })
    expect(first).toMatchObject({
      name: 'forum',
      version: 1,
      thresholds: { spam: { block: 0.3 }, hate: { block: 0.8 } },
    })
    const text = fresh()
    machine.upstream.rule(text, { text: answer(verdict({ spam: 0.25 })) })
    expect((await moderate({ text, policy: 'forum' })).result.decision).toBe('review')
    expect((await put('forum', { thresholds: { spam: { review: 0.1, block: 0.2 } } })).body.version).toBe(2)
    expect((await put('forum', { thresholds: { spam: { review: 0.1, block: 0.2 } } })).body.version).toBe(2)
    expect(await moderate({ text, policy: 'forum' })).toMatchObject({ source: 'ai', result: { decision: 'block' } })
    expect(await moderate({ text })).toMatchObject({ source: 'ai', result: { decision: 'allow' } })
  })

  it('is listed, read and deleted', async () => {
    await put('blog', {})
    const { body } = await machine.call('GET', '/api/v1/policies')
    expect(body.data.map((one: { name: string }) => one.name)).toContain('blog')
    expect((await machine.call('GET', '/api/v1/policies/blog')).body.min_confidence).toBe(0.5)
    expect((await machine.call('DELETE', '/api/v1/policies/blog')).body.name).toBe('blog')
    expect((await machine.call('GET', '/api/v1/policies/blog')).body.code).toBe('policy_not_found')
    expect((await machine.call('DELETE', '/api/v1/policies/blog')).status).toBe(404)
  })

  it.each([
    ['an unknown category', 'odd', { thresholds: { rudeness: { review: 0, block: 1 } } }],
    ['a threshold beyond 1', 'odd', { thresholds: { spam: { review: 0, block: 7 } } }],
    ['a review above the block', 'odd', { thresholds: { spam: { review: 0.9, block: 0.5 } } }],
    ['the name of the default', 'default', {}],
    ['capitals in its name', 'Odd', {}],
  ])('with %s is turned down', async (_, name, body) => expect((await put(name, body)).status).toBe(422))

  it('is the operator’s', async () => {
    const { secret } = await machine.makeKey({ scopes: ['submit', 'read'] })
    for (const path of ['/api/v1/policies', '/api/v1/reviews'])
      expect((await machine.call('GET', path, { key: secret })).status).toBe(403)
  })
})

describe('a review', () => {
  it('is of what a model was not sure of, and of what nobody judged; a person decides, and may decide again', async () => {
    const { secret } = await machine.makeKey()
    const text = fresh()
    machine.upstream.rule(text, { text: answer(verdict({ hate: 0.6 })) })
    const body = { input: { text }, metadata: { comment: 9 } }
    const unsure = await machine.call('POST', '/api/v1/tasks/moderate', {
      body,
      key: secret,
      headers: { prefer: 'wait=30' },
    })
    expect(unsure.body.result.decision).toBe('review')
    const id = unsure.body.task_id
    const unjudged = fresh()
    machine.upstream.rule(unjudged, { text: 'Fine!' })
    const nobody = await moderate({ text: unjudged })
    expect(nobody.status).toBe('failed')

    const pending: string[] = []
    for (let after = ''; ; ) {
      const { body: page } = await machine.call('GET', `/api/v1/reviews?limit=7${after}`)
      pending.push(...page.data.map((one: { task_id: string }) => one.task_id))
      if (!page.has_more) break
      after = `&after=${page.next}`
    }
    expect(pending).toContain(id)
    expect(new Set(pending).size).toBe(pending.length)
    expect(pending).toContain(nobody.task_id)

    const seen = async () => (await machine.call('GET', `/api/v1/tasks/${id}`, { key: secret })).body
    expect(await seen()).toMatchObject({ result: { decision: 'review' }, review: null })
    const decided = await machine.call('POST', `/api/v1/reviews/${id}`, { body: { decision: 'allow', note: 'Satire' } })
    expect(decided.body).toMatchObject({ task_id: id, decision: 'allow', metadata: { comment: 9 }, input: { text } })
    const allowed = { decision: 'allow', decided_at: decided.body.history[0].decided_at }
    expect(await seen()).toEqual({ ...unsure.body, review: allowed })
    const again = await machine.call('POST', `/api/v1/reviews/${id}`, { body: { decision: 'block' } })
    expect(again.body).toMatchObject({
      decision: 'block',
      history: [
        { decision: 'allow', note: 'Satire' },
        { decision: 'block', note: null },
      ],
    })
    expect(again.body.history[0].decided_by).toMatch(/^key_/)
    expect((await seen()).review).toEqual({ decision: 'block', decided_at: again.body.history[1].decided_at })
    const { body: done } = await machine.call('GET', '/api/v1/reviews?status=decided')
    expect(done.data[0].task_id).toBe(id)
    // What was left open is asked anew.
    const once = await machine.call('POST', '/api/v1/tasks/moderate', {
      body,
      key: secret,
      headers: { prefer: 'wait=30' },
    })
    expect(once.body.source).toBe('ai')
  })

  it('is not of what has a verdict, nor of what is not there', async () => {
    const task = await moderate({ text: fresh('My SSN is 219-09-9999') })
    for (const id of [task.task_id, 'task_0', 'task_019a9f0c5d7e7cc2a1b2c3d4e5f60718']) {
      const { body } = await machine.call('POST', `/api/v1/reviews/${id}`, { body: { decision: 'allow' } })
      expect(body.code).toBe('review_not_found')
    }
    const { status } = await machine.call('POST', `/api/v1/reviews/${task.task_id}`, { body: { decision: 'perhaps' } })
    expect(status).toBe(422)
  })

  it('is not of a line that was tried anew with its batch and has a verdict now', async () => {
    const text = fresh()
    machine.upstream.rule(text, { text: 'Fine!' })
    const { body: batch } = await machine.call('POST', '/api/v1/batches?kind=moderate', { body: [{ input: { text } }] })
    const ended = (counts: object) =>
      vi.waitFor(
        async () => {
          const { body } = await machine.call('GET', `/api/v1/batches/${batch.id}`)
          expect(body).toMatchObject({ status: 'completed', counts })
        },
        { timeout: 20_000, interval: 50 },
      )
    await ended({ failed: 1 })
    machine.upstream.rule(text, { text: answer(verdict({ hate: 0.9 })) })
    expect((await machine.call('POST', batch.urls.retry)).status).toBe(200)
    await ended({ succeeded: 1 })
    const [line] = await machine.sql<{ id: string }>(`SELECT id FROM tasks WHERE input->>'text' = '${text}'`)
    const decided = await machine.call('POST', `/api/v1/reviews/${toWire('task', line!.id)}`, {
      body: { decision: 'allow' },
    })
    expect(decided).toMatchObject({ status: 409, body: { code: 'review_not_open' } })
  })
})

describe('OpenAI’s client', () => {
  const client = () =>
    new OpenAI({
      baseURL: `http://127.0.0.1:${machine.api.port}/v1`,
      apiKey: 'the-admin-key-of-this-test',
      maxRetries: 0,
    })

  it('gets a result for each text', async () => {
    const input = [fresh(), fresh('I hate them')]
    machine.upstream.script({ text: answer(verdict(), verdict({ hate: 0.9 })) })
    const { id, results } = await client().moderations.create({ input, model: 'omni-moderation-latest' })
    expect(id).toMatch(/^modr_[0-9a-f]{32}$/)
    expect(results.map(one => one.flagged)).toEqual([false, true])
    expect(Object.keys(results[1]!.categories)).toEqual([...OPENAI_CATEGORIES])
    expect(results[1]).toMatchObject({ categories: { hate: true, sexual: false }, category_scores: { hate: 0.9 } })
  })

  it('gets 503 where there is no verdict, never that nothing is flagged', async () => {
    const input = fresh()
    machine.upstream.rule(input, { text: 'Fine!' })
    const error = await client()
      .moderations.create({ input })
      .catch(error => error)
    expect(error).toBeInstanceOf(OpenAI.InternalServerError)
    expect(error).toMatchObject({ status: 503, code: 'no_verdict' })
  })

  it.each([
    ['an empty text', ''],
    ['no texts', []],
    ['too many', Array(21).fill('a')],
    ['one that is too long', 'a'.repeat(60_000)],
  ])('is told of %s', async (_, input) => {
    const error = await client()
      .moderations.create({ input })
      .catch(error => error)
    expect(error).toMatchObject({ status: 400, type: 'invalid_request_error' })
  })

  it('may ask for many in a batch', async () => {
    const lines = [fresh(), fresh('I hate them')].map((input, n) =>
      JSON.stringify({ custom_id: `${n}`, method: 'POST', url: '/v1/moderations', body: { input } }),
    )
    machine.upstream.rule('I hate them', { text: answer(verdict({ hate: 0.9 })) })
    machine.upstream.rule('lovely', { text: answer(verdict()) })
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

// Last: these open the breaker.
describe('without a verdict', () => {
  it('as it was cancelled: the decision is review', async () => {
    const text = fresh()
    machine.upstream.rule(text, { fault: 'hang' })
    const { body } = await machine.call('POST', '/api/v1/tasks/moderate', { body: { input: { text } } })
    const { body: task } = await machine.call('POST', `${body.urls.self}/cancel`)
    expect(task).toMatchObject({ status: 'cancelled', result: NO_VERDICT })
  })

  it.each<[string, Script]>([
    ['a model that answers prose', { text: 'I think that is fine.' }],
    ['one that says safe and nothing else', { text: '{"safe": true}' }],
    ['one that refuses', { text: answer(verdict()), stop: 'refusal' }],
    ['one that is cut off', { text: answer(verdict()).slice(0, 200), stop: 'max_tokens' }],
    ['one that cannot be reached', { fault: 'cut' }],
    ['one that is overloaded', { status: 529 }],
    ['one that the key is wrong for', { status: 401 }],
    ['one that hangs', { fault: 'hang' }],
  ])('%s: the decision is review', async (_, script) => {
    const text = fresh()
    machine.upstream.rule(text, script)
    const task = await moderate({ text }, { fallback: 'rules', deadline_seconds: 4 })
    expect(task.result).toMatchObject(NO_VERDICT)
    expect(['failed', 'expired']).toContain(task.status)
    expect(task.source).toBeNull()
  })

  it('for want of money: the decision is review', async () => {
    const { body: budget } = await machine.call('PUT', '/api/v1/budgets', {
      body: { scope: 'kind:moderate', window: 'total', limit_usd: 0 },
    })
    expect(await moderate({ text: fresh() })).toMatchObject({ status: 'failed', result: NO_VERDICT })
    await machine.call('DELETE', `/api/v1/budgets/${budget.id}`)
  })

  it('nothing that an operator wrote down may stand in for one', async () => {
    const path = '/api/v1/precomputed/moderate'
    const { status } = await machine.call('PUT', path, { body: { result: { decision: 'allow' } } })
    expect(status).toBe(404)
  })
})

import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { createCache } from '#shared/cache/cache.ts'
import { createLogger } from '#shared/process/logger.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { answerFor, violationOf } from '#shared/testing/kinds.ts'
import { createNative } from '#shared/testing/native-batches.ts'
import { testRedis } from '#shared/testing/redis.ts'
import { startStack } from '#shared/testing/stack.ts'
import type { Script } from '#shared/testing/upstream.ts'
import { jobs } from './index.ts'
import { buildRequest } from './prompt.ts'

/**
 * Requirements of every kind, tested through the real API and a real worker, by the declarations in its file. A
 * registered kind is tested here without further code.
 */

const prefix = testPrefix()
const stack = startStack(() => ({ REDIS_PREFIX: prefix, BACKOFF_BASE_MS: '5', BACKOFF_MAX_MS: '20' }))
const { send, ended, resultsOf } = createNative(stack, () => 'the-admin-key-of-this-test')

beforeEach(() => stack.upstream.reset())

const REFUSAL: Script = { text: 'I cannot help with that.', stop: 'refusal' }
const BLANK: Script = { text: ' \n\t' }

/** Unusable answers of models: `always`, and only for requests with a schema. */
const badAnswers = (good: string): Record<'always' | 'withSchema', [string, Script][]> => ({
  always: [['white space', BLANK]],
  withSchema: [
    ['prose', { text: 'Of course! I would be happy to help you with that.' }],
    ['the complete answer, and a second one that is cut off', { text: `${good}\n\nOr rather: {"unexpected": ` }],
    ['JSON of another shape', { text: '{"unexpected": true}' }],
    ['an empty list', { text: '[]' }],
    ['null', { text: 'null' }],
    ['text as JSON', { text: '"yes"' }],
    ['JSON that is nested very deeply', { text: `${'['.repeat(2000)}${']'.repeat(2000)}` }],
  ],
})

const chats = [...jobs.values()].filter(job => job.operation === 'chat')

it('embedding kinds have their own suite: apps/api/openai/embeddings.int.test.ts', () => {
  expect([...jobs.keys()].filter(kind => !chats.some(job => job.kind === kind))).toEqual(['embed'])
})

describe.each(chats.map(job => [job.kind, job] as const))('%s', (kind, job) => {
  const { input } = job.example
  const path = `/api/v1/tasks/${kind}`
  const precomputed = `/api/v1/precomputed/${kind}`
  const isAnswered = job.resultWithoutVerdict === null
  /** The result of a task without an answer. */
  const nothing = job.resultWithoutVerdict
  const byRules = isAnswered && job.fallback === 'rules' ? job.rules(input) : null
  const withSchema = buildRequest(job, input, {}).schema !== undefined
  let good: string
  beforeAll(async () => {
    good = await answerFor(job)
  })

  const post = (options: object = {}, body: object = job.example) =>
    stack.call('POST', path, {
      body: { ...body, options: { ...(job.example.options as object), ...options } },
      headers: { prefer: 'wait=20' },
    })
  async function run(options: object = {}) {
    const { status, body } = await post({ cache: 'off', ...options })
    expect(status).toBe(200)
    return body
  }
  const failed = (code: string) => ({ status: 'failed', source: null, quality: null, result: nothing, error: { code } })
  const outcomes = (task: { attempts: { outcome: string }[] }) => task.attempts.map(one => one.outcome)

  it('runs the example of the documentation with the documented result', async () => {
    const { operation } = stack.contract.find('POST', path)!
    const media = operation.requestBody!.content['application/json']!
    const shown = media.example ?? Object.values(media.examples ?? {})[0]?.value
    expect(shown).toEqual(job.example)
    stack.upstream.default({ text: good })
    const before = stack.upstream.count()
    const { status, body: task } = await stack.call('POST', path, {
      body: shown,
      headers: { prefer: 'wait=20' },
    })
    expect(status).toBe(200)
    expect(task).toMatchObject({
      kind,
      status: 'succeeded',
      source: 'ai',
      quality: 'high',
      provider: 'anthropic',
      prompt_version: job.promptVersion,
      error: null,
      attempts: [{ outcome: 'succeeded' }],
    })
    expect(task.result).toEqual(job.exampleResult)
    expect(violationOf(job.result, task.result)).toBeNull()
    expect(task.cost_usd).toBeGreaterThan(0)
    expect(stack.upstream.count()).toBe(before + 1)
  })

  it.skipIf(job.cache === null || !job.isCacheable(job.exampleResult))(
    'is cached: the same request makes no second call',
    async () => {
      stack.upstream.default({ text: good })
      await post({ cache: 'refresh' })
      const before = stack.upstream.count()
      const { body: task } = await post()
      expect(task).toMatchObject({ status: 'succeeded', source: 'cache', quality: 'high', cost_usd: 0, attempts: [] })
      expect(task.result).toEqual(job.exampleResult)
      expect(stack.upstream.count()).toBe(before)
    },
  )

  it('requests a correction of an unusable answer, with the reason', async () => {
    stack.upstream.script({ text: ' \n\t' })
    stack.upstream.default({ text: good })
    const task = await run()
    expect(task).toMatchObject({ status: 'succeeded', source: 'ai', result: job.exampleResult })
    expect(outcomes(task)).toEqual(['rejected', 'succeeded'])
    expect(stack.upstream.calls.at(-1)!.prompt).toContain('That cannot be used:')
  })

  it.runIf(withSchema).each([
    ['a fence', (text: string) => `\`\`\`json\n${text}\n\`\`\`\n`],
    ['a fence in prose', (text: string) => `Here you are:\n~~~\n${text}\n~~~\nAnything else?`],
    ['prose', (text: string) => `Here you are: ${text}\nAnything else?`],
    ['reasoning before it', (text: string) => `<think>First {"draft": 1}, then…</think>\n\n${text}`],
  ])('accepts an answer with %s from one call', async (_, wrap) => {
    stack.upstream.default({ text: wrap(good) })
    const task = await run({ fallback: 'none' })
    expect(task).toMatchObject({ status: 'succeeded', source: 'ai', result: job.exampleResult })
    expect(outcomes(task)).toEqual(['succeeded'])
  })

  const bad = badAnswers('')
  const named = [...bad.always, ...(withSchema ? bad.withSchema : [])].map(([name]) => name)
  it.each(named)('fails if a model answers with %s', async name => {
    const { always, withSchema } = badAnswers(good)
    stack.upstream.default(Object.fromEntries([...always, ...withSchema])[name]!)
    const task = await run({ fallback: 'none' })
    expect(task).toMatchObject(failed('invalid_output'))
    expect(new Set(outcomes(task))).toEqual(new Set(['rejected']))
  })

  it.each([
    ['a refusal', (): Script => REFUSAL],
    ['a refusal with a valid answer', (): Script => ({ text: good, stop: 'refusal' })],
  ])('pays once for %s', async (_, script) => {
    stack.upstream.default(script())
    const task = await run({ fallback: 'none' })
    expect(task.finish_reason).toBe('refusal')
    expect(outcomes(task)).toHaveLength(1)
    if (withSchema) expect(task).toMatchObject(failed('model_refused'))
    else expect(task).toMatchObject({ status: 'succeeded', result: { text: script().text } })
  })

  it.runIf(withSchema)('pays once for an answer that is cut off at the client’s limit', async () => {
    stack.upstream.default({ text: good.slice(0, good.length / 2), stop: 'max_tokens' })
    const task = await run({ fallback: 'none', max_tokens: 50 })
    expect(task).toMatchObject({ ...failed('output_truncated'), finish_reason: 'length' })
    expect(outcomes(task)).toEqual(['rejected'])
  })

  it.runIf(withSchema)('requests more tokens once if the client set no limit', async () => {
    stack.upstream.default({ text: good.slice(0, good.length / 2), stop: 'max_tokens' })
    const task = await run({ fallback: 'none' })
    expect(task).toMatchObject({ ...failed('output_truncated'), finish_reason: 'length' })
    const limits = stack.upstream.calls.map(one => one.body.max_tokens)
    expect(limits).toEqual([job.maxTokens, expect.any(Number)])
    expect(limits[1]).toBeGreaterThan(job.maxTokens)
  })

  it('fails if a provider returns nothing', async () => {
    stack.upstream.script({ text: '' })
    stack.upstream.default(BLANK)
    const task = await run({ fallback: 'none' })
    expect(task).toMatchObject(failed('invalid_output'))
    expect(outcomes(task).slice(0, 2)).toEqual(['bad_response', 'rejected'])
  })

  it.runIf(isAnswered)('falls back as far as its level allows, step by step', async () => {
    stack.upstream.default({ text: good })
    const { body: answered } = await post({ cache: 'refresh' })
    stack.upstream.default(BLANK)
    const { status } = await stack.call('PUT', precomputed, { body: { input, result: job.exampleResult } })
    expect(status).toBe(200)
    onTestFinished(async () => void (await stack.call('DELETE', precomputed)))

    const remembers = job.cache !== null && job.cache.staleSeconds > 0
    if (remembers) await age(answered.task_id)
    const made = { status: 'succeeded', result: job.exampleResult, error: null }
    if (job.fallback === 'none') expect((await post()).body).toMatchObject(failed('invalid_output'))
    else if (remembers)
      expect((await post()).body).toMatchObject({ ...made, source: 'cache', quality: 'medium', provider: 'anthropic' })

    const byOperator = { ...made, source: 'precomputed', quality: 'medium', provider: null }
    const level = job.fallback === 'none' ? { fallback: 'cache' } : {}
    expect(await run(level)).toMatchObject(byOperator)
    await stack.call('DELETE', precomputed)
    await stack.call('PUT', precomputed, { body: { result: job.exampleResult } })
    expect(await run(level)).toMatchObject(byOperator)
    await stack.call('DELETE', precomputed)

    const task = await run()
    if (byRules === null) expect(task).toMatchObject(failed('invalid_output'))
    else {
      expect(task).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low', provider: null })
      expect(task.result).toEqual(byRules)
      expect(violationOf(job.result, task.result)).toBeNull()
    }
    expect(await run({ fallback: 'none' })).toMatchObject(failed('invalid_output'))
    expect(await run({ fallback: 'cache' })).toMatchObject(failed('invalid_output'))
  })

  it.skipIf(isAnswered)('has no fallback for a verdict', async () => {
    stack.upstream.default({ text: good })
    const { body: answered } = await post({ cache: 'refresh' })
    if (job.cache !== null) await age(answered.task_id)
    stack.upstream.default(BLANK)
    expect((await post({ fallback: 'rules' })).body).toMatchObject(failed('invalid_output'))
    const { status } = await stack.call('PUT', precomputed, { body: { input, result: job.exampleResult } })
    expect(status).toBe(404)
    expect(violationOf(job.result, nothing)).toBeNull()
  })

  it('without budget makes no call, and falls back as it would without a model', async () => {
    const budget = { scope: `kind:${kind}`, window: 'total', limit_usd: 0 }
    const { body } = await stack.call('PUT', '/api/v1/budgets', { body: budget })
    onTestFinished(async () => void (await stack.call('DELETE', `/api/v1/budgets/${body.id}`)))
    const task = await run()
    expect(task.attempts).toEqual([])
    if (byRules === null) expect(task).toMatchObject(failed('budget_exceeded'))
    else expect(task).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low', cost_usd: 0 })
    expect(stack.upstream.count()).toBe(0)
  })

  it('when cancelled has the result that it declares for a missing one', async () => {
    const gate = stack.upstream.hold()
    const body = { ...job.example, options: { ...(job.example.options as object), cache: 'off' } }
    const { body: accepted } = await stack.call('POST', path, { body })
    await gate.waiting()
    const { body: task } = await stack.call('POST', accepted.urls.cancel)
    gate.release()
    expect(task).toMatchObject({ status: 'cancelled', result: nothing, source: null })
  })

  it('runs in a batch', async () => {
    stack.upstream.default({ text: good })
    const settings = { kind, options: JSON.stringify({ cache: 'off', ...(job.example.options as object) }) }
    const { status, body } = await send(settings, [{ custom_id: 'one', input }])
    expect(status).toBe(202)
    expect(await ended(body)).toMatchObject({ status: 'completed', counts: { total: 1, succeeded: 1 } })
    expect(await resultsOf(body)).toMatchObject([
      { custom_id: 'one', status: 'succeeded', result: job.exampleResult, error: null },
    ])
  })

  it.each([
    ['no input', 'invalid_request', {}],
    ['an empty input', 'invalid_request', { input: {} }],
    ['an unknown field', 'unknown_field', { input: { ...(input as object), unheard_of: 1 } }],
    ['text instead of an object', 'invalid_request', { input: 'Hello' }],
    ['an unknown option', 'unknown_field', { input, options: { unheard_of: 1 } }],
    ['an unknown prompt version', 'invalid_request', { input, options: { prompt_version: 'never' } }],
  ])('refuses %s without a call', async (_, code, body) => {
    const answer = await stack.call('POST', path, { body })
    expect(answer).toMatchObject({ status: 422, body: { code } })
    expect(answer.body.context.field).toMatch(/^\/(input|options)/)
    expect(stack.upstream.count()).toBe(0)
  })

  it('is counted by metrics under its name', async () => {
    const metricsOf = (process: { port: number }) => async () =>
      (await fetch(`http://127.0.0.1:${process.port}/metrics`)).text()
    const counted = (name: string) => new RegExp(`^${name}\\{[^}]*kind="${kind}"[^}]*\\} [1-9]`, 'm')
    // The metrics may be a second old.
    await expect.poll(metricsOf(stack.api)).toMatch(counted('sluice_tasks_accepted_total'))
    await expect.poll(metricsOf(stack.worker)).toMatch(counted('sluice_tasks_ended_total'))
  })
})

/** Makes the cached answer of a task stale. */
async function age(task: string) {
  const [row] = await stack.sql<{ key: string }>(
    `SELECT encode(cache_key, 'hex') AS key FROM tasks WHERE replace(id::text, '-', '') = '${task.replace('task_', '')}'`,
  )
  const key = Buffer.from(row!.key, 'hex')
  const logger = createLogger({ level: 'silent', name: 'test' })
  const cache = createCache({ redis: await testRedis(), prefix, logger, timeoutMs: 60_000 })
  const found = await cache.get(key)
  expect(found?.kind).toBe('fresh')
  expect(await cache.put(key, found!.entry, { ttlSeconds: 0, staleSeconds: 60 })).toBe(true)
}

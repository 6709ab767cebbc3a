import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { createCache } from '#shared/cache.ts'
import { createLogger } from '#shared/logger.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { answerFor, wrongBy } from '#shared/testing/kinds.ts'
import { startMachine } from '#shared/testing/machine.ts'
import { createNative } from '#shared/testing/native-batches.ts'
import { testRedis } from '#shared/testing/redis.ts'
import type { Script } from '#shared/testing/upstream.ts'
import { jobs } from './index.ts'
import { promptOf } from './prompt.ts'

/**
 * What every kind must keep to, through the real API and a real worker. A kind is held to what it says of itself in its
 * file; one that is registered is tested here without a line of its own.
 */

const prefix = testPrefix()
const machine = startMachine(() => ({ REDIS_PREFIX: prefix, BACKOFF_BASE_MS: '5', BACKOFF_MAX_MS: '20' }))
const { send, ended, resultsOf } = createNative(machine, () => 'the-admin-key-of-this-test')

beforeEach(() => machine.upstream.reset())

const REFUSAL: Script = { text: 'I cannot help with that.', stop: 'refusal' }

/** What models answer that is no answer, to whom a schema was given, and to whom none was. */
const badAnswers = (good: string): Record<'always' | 'withSchema', [string, Script][]> => ({
  always: [
    ['a refusal', REFUSAL],
    ['a refusal of what would do', { text: good, stop: 'refusal' }],
    ['white space', { text: ' \n\t' }],
  ],
  withSchema: [
    ['prose', { text: 'Of course! I would be happy to help you with that.' }],
    ['an answer that is cut off', { text: good.slice(0, good.length / 2), stop: 'max_tokens' }],
    ['the whole of it, and prose around', { text: `Here you are:\n${good}\nAnything else?` }],
    ['JSON of another shape', { text: '{"unexpected": true}' }],
    ['an empty list', { text: '[]' }],
    ['null', { text: 'null' }],
    ['text as JSON', { text: '"yes"' }],
    ['JSON that is nested very deeply', { text: `${'['.repeat(2000)}${']'.repeat(2000)}` }],
  ],
})

const chats = [...jobs.values()].filter(job => job.operation === 'chat')

it('kinds that are answered in vectors have a suite of their own: apps/api/routes/embeddings.int.test.ts', () => {
  expect([...jobs.keys()].filter(kind => !chats.some(job => job.kind === kind))).toEqual(['embed'])
})

describe.each(chats.map(job => [job.kind, job] as const))('%s', (kind, job) => {
  const { input } = job.example
  const path = `/api/v1/tasks/${kind}`
  const precomputed = `/api/v1/precomputed/${kind}`
  const isAnswered = job.noVerdict === null
  /** What a task without an answer has for a result. */
  const nothing = job.noVerdict
  const byRules = isAnswered && job.fallback === 'rules' ? job.rules(input) : null
  const withSchema = promptOf(job, input, {}).schema !== undefined
  let good: string
  beforeAll(async () => {
    good = await answerFor(job)
  })

  const post = (options: object = {}, body: object = job.example) =>
    machine.call('POST', path, {
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

  it('has an example that runs as the documentation has it, and comes out as it says', async () => {
    const { operation } = machine.contract.find('POST', path)!
    const media = operation.requestBody!.content['application/json']!
    const shown = media.example ?? Object.values(media.examples ?? {})[0]?.value
    expect(shown).toEqual(job.example)
    machine.upstream.default({ text: good })
    const before = machine.upstream.count()
    const { status, body: task } = await machine.call('POST', path, {
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
    expect(wrongBy(job.result, task.result)).toBeNull()
    expect(task.cost_usd).toBeGreaterThan(0)
    expect(machine.upstream.count()).toBe(before + 1)
  })

  it.skipIf(job.cache === null || !job.keeps(job.exampleResult))('is remembered: asked again, nobody is', async () => {
    machine.upstream.default({ text: good })
    await post({ cache: 'refresh' })
    const before = machine.upstream.count()
    const { body: task } = await post()
    expect(task).toMatchObject({ status: 'succeeded', source: 'cache', quality: 'high', cost_usd: 0, attempts: [] })
    expect(task.result).toEqual(job.exampleResult)
    expect(machine.upstream.count()).toBe(before)
  })

  it('is asked again for an answer that is of no use, and told why', async () => {
    machine.upstream.script({ text: ' \n\t' })
    machine.upstream.default({ text: good })
    const task = await run()
    expect(task).toMatchObject({ status: 'succeeded', source: 'ai', result: job.exampleResult })
    expect(outcomes(task)).toEqual(['rejected', 'succeeded'])
    expect(machine.upstream.calls.at(-1)!.prompt).toContain('That cannot be used:')
  })

  const bad = badAnswers('')
  const named = [...bad.always, ...(withSchema ? bad.withSchema : [])].map(([name]) => name)
  it.each(named)('has no answer if a model gives %s', async name => {
    const { always, withSchema } = badAnswers(good)
    machine.upstream.default(Object.fromEntries([...always, ...withSchema])[name]!)
    const task = await run({ fallback: 'none' })
    expect(task).toMatchObject(failed('invalid_output'))
    expect(new Set(outcomes(task))).toEqual(new Set(['rejected']))
  })

  it('has no answer if a provider gives nothing at all', async () => {
    machine.upstream.script({ text: '' })
    machine.upstream.default(REFUSAL)
    const task = await run({ fallback: 'none' })
    expect(task).toMatchObject(failed('invalid_output'))
    expect(outcomes(task).slice(0, 2)).toEqual(['bad_response', 'rejected'])
  })

  it.runIf(isAnswered)('makes do without a model as far as it says, step by step', async () => {
    machine.upstream.default({ text: good })
    const { body: answered } = await post({ cache: 'refresh' })
    machine.upstream.default(REFUSAL)
    const { status } = await machine.call('PUT', precomputed, { body: { input, result: job.exampleResult } })
    expect(status).toBe(200)
    onTestFinished(async () => void (await machine.call('DELETE', precomputed)))

    const remembers = job.cache !== null && job.cache.staleSeconds > 0
    if (remembers) await age(answered.task_id)
    const made = { status: 'succeeded', result: job.exampleResult, error: null }
    if (job.fallback === 'none') expect((await post()).body).toMatchObject(failed('invalid_output'))
    else if (remembers)
      expect((await post()).body).toMatchObject({ ...made, source: 'cache', quality: 'medium', provider: 'anthropic' })

    const byOperator = { ...made, source: 'precomputed', quality: 'medium', provider: null }
    const level = job.fallback === 'none' ? { fallback: 'cache' } : {}
    expect(await run(level)).toMatchObject(byOperator)
    await machine.call('DELETE', precomputed)
    await machine.call('PUT', precomputed, { body: { result: job.exampleResult } })
    expect(await run(level)).toMatchObject(byOperator)
    await machine.call('DELETE', precomputed)

    const task = await run()
    if (byRules === null) expect(task).toMatchObject(failed('invalid_output'))
    else {
      expect(task).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low', provider: null })
      expect(task.result).toEqual(byRules)
      expect(wrongBy(job.result, task.result)).toBeNull()
    }
    expect(await run({ fallback: 'none' })).toMatchObject(failed('invalid_output'))
    expect(await run({ fallback: 'cache' })).toMatchObject(failed('invalid_output'))
  })

  it.skipIf(isAnswered)('has nothing that could stand in for a verdict', async () => {
    machine.upstream.default({ text: good })
    const { body: answered } = await post({ cache: 'refresh' })
    if (job.cache !== null) await age(answered.task_id)
    machine.upstream.default(REFUSAL)
    expect((await post({ fallback: 'rules' })).body).toMatchObject(failed('invalid_output'))
    const { status } = await machine.call('PUT', precomputed, { body: { input, result: job.exampleResult } })
    expect(status).toBe(404)
    expect(wrongBy(job.result, nothing)).toBeNull()
  })

  it('without money asks nobody, and makes do as it would without a model', async () => {
    const budget = { scope: `kind:${kind}`, window: 'total', limit_usd: 0 }
    const { body } = await machine.call('PUT', '/api/v1/budgets', { body: budget })
    onTestFinished(async () => void (await machine.call('DELETE', `/api/v1/budgets/${body.id}`)))
    const task = await run()
    expect(task.attempts).toEqual([])
    if (byRules === null) expect(task).toMatchObject(failed('budget_exceeded'))
    else expect(task).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low', cost_usd: 0 })
    expect(machine.upstream.count()).toBe(0)
  })

  it('that is cancelled has the result that it declares for want of one', async () => {
    const gate = machine.upstream.hold()
    const body = { ...job.example, options: { ...(job.example.options as object), cache: 'off' } }
    const { body: accepted } = await machine.call('POST', path, { body })
    await gate.waiting()
    const { body: task } = await machine.call('POST', accepted.urls.cancel)
    gate.release()
    expect(task).toMatchObject({ status: 'cancelled', result: nothing, source: null })
  })

  it('runs in a batch', async () => {
    machine.upstream.default({ text: good })
    const settings = { kind, options: JSON.stringify({ cache: 'off', ...(job.example.options as object) }) }
    const { status, body } = await send(settings, [{ custom_id: 'one', input }])
    expect(status).toBe(202)
    expect(await ended(body)).toMatchObject({ status: 'completed', counts: { total: 1, succeeded: 1 } })
    expect(await resultsOf(body)).toMatchObject([
      { custom_id: 'one', status: 'succeeded', result: job.exampleResult, error: null },
    ])
  })

  it.each([
    ['no input', {}],
    ['an empty one', { input: {} }],
    ['something that it does not know', { input: { ...(input as object), unheard_of: 1 } }],
    ['text for an object', { input: 'Hello' }],
    ['an option that it does not know', { input, options: { unheard_of: 1 } }],
    ['a version of its prompt that is not there', { input, options: { prompt_version: 'never' } }],
  ])('turns down %s, and asks nobody', async (_, body) => {
    const answer = await machine.call('POST', path, { body })
    expect(answer).toMatchObject({ status: 422, body: { code: 'invalid_request' } })
    expect(answer.body.context.field).toMatch(/^\/(input|options)/)
    expect(machine.upstream.count()).toBe(0)
  })

  it('is counted under its name', async () => {
    const texts = await Promise.all(
      [machine.api, machine.worker].map(async ({ port }) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
    )
    expect(texts[0]).toMatch(new RegExp(`^sluice_tasks_accepted_total\\{[^}]*kind="${kind}"[^}]*\\} [1-9]`, 'm'))
    expect(texts[1]).toMatch(new RegExp(`^sluice_tasks_ended_total\\{[^}]*kind="${kind}"[^}]*\\} [1-9]`, 'm'))
  })
})

/** Makes what is remembered of a task stale. */
async function age(task: string) {
  const [row] = await machine.sql<{ key: string }>(
    `SELECT encode(cache_key, 'hex') AS key FROM tasks WHERE replace(id::text, '-', '') = '${task.replace('task_', '')}'`,
  )
  const key = Buffer.from(row!.key, 'hex')
  const logger = createLogger({ level: 'silent', name: 'test' })
  const cache = createCache({ redis: await testRedis(), prefix, logger, timeoutMs: 60_000 })
  const found = await cache.get(key)
  expect(found?.kind).toBe('fresh')
  expect(await cache.put(key, found!.entry, { ttlSeconds: 0, staleSeconds: 60 })).toBe(true)
}

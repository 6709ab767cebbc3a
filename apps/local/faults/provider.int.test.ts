import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import type { Script } from '#shared/testing/upstream.ts'
import { type Cluster, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

/** Odd, so that with two providers it is reached in the middle of a round. */
const MAX_ATTEMPTS = 3

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ openai: true, env: { MAX_ATTEMPTS: String(MAX_ATTEMPTS), CALL_TIMEOUT_SECONDS: '8' } })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

/** What may pass by itself: the name is the marker of its task, then what the attempt says. */
const PASSING: [string, Script, string][] = [
  ['429', { status: 429 }, 'rate_limited'],
  ['500', { status: 500 }, 'server_error'],
  ['503', { status: 503 }, 'overloaded'],
  ['529', { status: 529 }, 'overloaded'],
  ['504', { status: 504 }, 'timeout'],
  ['hang', { fault: 'hang' }, 'timeout'],
  ['hang-midway', { fault: 'hang_midway' }, 'timeout'],
  ['dribble', { fault: 'dribble' }, 'timeout'],
  ['cut', { fault: 'cut' }, 'connection'],
  ['cut-midway', { fault: 'cut_midway' }, 'connection'],
  ['garbage', { fault: 'garbage' }, 'bad_response'],
  ['html', { fault: 'html' }, 'bad_response'],
  ['wrong-shape', { fault: 'wrong_shape' }, 'bad_response'],
  ['empty', { fault: 'empty' }, 'bad_response'],
]
/** Each as a whole answer and as a stream. */
const CASES = PASSING.flatMap(([name, script, outcome]) =>
  [false, true].map(stream => ({ name: `${name}${stream ? '-streamed' : ''}`, script, outcome, stream })),
)
const marker = (name: string) => `\\[\\[${name}\\]\\]`

/** Every task here asks for a model that no other task does: what becomes of one says nothing to the others. */
const anybody = (name: string) => ({ model: modelOf(name), fallback: 'none' })
const claude = (name: string) => ({ ...anybody(name), provider: 'anthropic' })

test('what may pass is tried again', async () => {
  const { api, upstream } = cluster
  for (const { name, script } of CASES) upstream.script({ ...script, when: marker(name) })
  const ids = await Promise.all(
    CASES.map(({ name, stream }) => api.submit(`[[${name}]]`, { options: { ...claude(`again-${name}`), stream } })),
  )
  await cluster.ended(ids)
  for (const [index, { name, outcome }] of CASES.entries()) {
    const task = await api.task(ids[index]!)
    expect(task, name).toMatchObject({ status: 'succeeded', source: 'ai', provider: 'anthropic', error: null })
    expect(task.attempts, name).toMatchObject([
      { outcome, error: { code: outcome, message: expect.stringMatching(/./) } },
      { outcome: 'succeeded' },
    ])
  }
  expect(upstream.markers()).toEqual(Object.fromEntries(CASES.map(({ name }) => [name, 2])))
})

test('or another provider is asked', async () => {
  const { api, upstream, openai } = cluster
  for (const { name, script } of CASES) upstream.rule(marker(name), script)
  const ids = await Promise.all(
    CASES.map(({ name, stream }) => api.submit(`[[${name}]]`, { options: { ...anybody(`other-${name}`), stream } })),
  )
  await cluster.ended(ids)
  for (const [index, { name, outcome }] of CASES.entries()) {
    const task = await api.task(ids[index]!)
    expect(task, name).toMatchObject({ status: 'succeeded', source: 'ai', provider: 'openai' })
    expect(task.attempts, name).toMatchObject([
      { provider: 'anthropic', outcome },
      { provider: 'openai', outcome: 'succeeded' },
    ])
  }
  const once = Object.fromEntries(CASES.map(({ name }) => [name, 1]))
  expect(upstream.markers()).toEqual(once)
  expect(openai.markers()).toEqual(once)
})

test('calls are capped for the whole task, over all providers, and the task says why it failed', async () => {
  const { api, upstream, openai } = cluster
  upstream.default({ status: 500, message: 'claude is ill' })
  openai.default({ status: 500, message: 'gpt is ill' })
  const [failed, placeholder] = await Promise.all([
    api.submit('[[none]]', { options: anybody('none') }),
    api.submit('[[rules]]', { options: { ...anybody('rules'), fallback: 'rules' } }),
  ])
  await cluster.ended([failed, placeholder])
  const expected = [
    { provider: 'anthropic', outcome: 'server_error' },
    { provider: 'openai', outcome: 'server_error' },
    // Both have failed: who is asked next is a matter of their scores.
    ...Array(MAX_ATTEMPTS - 2).fill({
      provider: expect.stringMatching(/^(anthropic|openai)$/),
      outcome: 'server_error',
    }),
  ]
  const task = await api.task(failed)
  expect(task).toMatchObject({
    status: 'failed',
    result: null,
    error: { code: 'provider_failed', message: expect.stringMatching(/is ill/) },
    attempts: expected,
    cost_usd: 0,
  })
  const ill = task.attempts.at(-1).provider === 'anthropic' ? 'claude is ill' : 'gpt is ill'
  expect(task.error.message).toContain(ill)
  expect(await api.task(placeholder)).toMatchObject({
    status: 'succeeded',
    source: 'rules',
    quality: 'low',
    provider: null,
    attempts: expected,
  })
  for (const name of ['none', 'rules']) {
    const calls = [upstream, openai].map(one => one.markers()[name] ?? 0)
    expect(calls[0]! + calls[1]!).toBe(MAX_ATTEMPTS)
  }
})

test('a bad request is not tried again, here or elsewhere', async () => {
  const { api, upstream, openai } = cluster
  upstream.default({ status: 400, message: 'max_tokens: too many' })
  const id = await api.submit('[[400]]', { options: anybody('400') })
  await cluster.ended([id])
  expect(await api.task(id)).toMatchObject({
    status: 'failed',
    error: { code: 'provider_rejected', message: expect.stringContaining('too many') },
    attempts: [{ outcome: 'invalid_request' }],
  })
  expect([upstream.count(), openai.count()]).toEqual([1, 0])
})

test.each([
  ['a wrong key', { status: 401 }, 'auth'],
  ['an unknown model', { status: 404 }, 'unknown_model'],
  ['an empty account', { status: 402 }, 'no_balance'],
] as const)('%s is not tried again at that provider', async (_, script, outcome) => {
  const { api, upstream, openai } = cluster
  upstream.default(script)
  const [alone, other] = await Promise.all([
    api.submit('[[alone]]', { options: claude(`alone-${outcome}`) }),
    api.submit('[[other]]', { options: anybody(`other-${outcome}`) }),
  ])
  await cluster.ended([alone, other])
  expect(await api.task(alone)).toMatchObject({
    status: 'failed',
    error: { code: 'provider_failed' },
    attempts: [{ outcome }],
  })
  expect(await api.task(other)).toMatchObject({
    status: 'succeeded',
    attempts: [
      { provider: 'anthropic', outcome },
      { provider: 'openai', outcome: 'succeeded' },
    ],
  })
  expect(upstream.markers()).toEqual({ alone: 1, other: 1 })
  expect(openai.markers()).toEqual({ other: 1 })
})

test('a provider that refused for good is not asked again when the others make the task wait', async () => {
  const { api, upstream, openai } = cluster
  upstream.default({ status: 401 })
  openai.script({ status: 500 })
  const id = await api.submit('[[dead-end]]', { options: anybody('dead-end') })
  await cluster.ended([id])
  expect(await api.task(id)).toMatchObject({
    status: 'succeeded',
    provider: 'openai',
    attempts: [{ outcome: 'auth' }, { outcome: 'server_error' }, { outcome: 'succeeded' }],
  })
  expect([upstream.count(), openai.count()]).toEqual([1, 2])
})

test('Retry-After is obeyed, by the other tasks too', async () => {
  const { api, upstream } = cluster
  const options = claude('pause')
  upstream.script({ status: 429, headers: { 'retry-after': '10' } })
  const first = await api.submit('[[refused]]', { options })
  await within('it is refused', upstream.arrived(1))
  await until('all workers can know of the pause', async () => {
    const { body } = await api.call('GET', '/api/v1/providers/anthropic/health')
    return body.models.find((one: { model: string }) => one.model === options.model)?.pause_ms > 0
  })
  const second = await api.submit('[[bystander]]', { options })
  await cluster.ended([first, second])
  const [refused, ...later] = upstream.calls
  expect(later.map(call => call.prompt).sort()).toEqual(['[[bystander]]', '[[refused]]'])
  for (const call of later) expect(call.startedAt - refused!.startedAt).toBeGreaterThanOrEqual(10_000)
  expect((await api.task(first)).attempts).toMatchObject([{ outcome: 'rate_limited' }, { outcome: 'succeeded' }])
  expect((await api.task(second)).attempts).toMatchObject([{ outcome: 'succeeded' }])
})

test('a Retry-After beyond the deadline ends the task now, with the reason', async () => {
  const { api, upstream } = cluster
  upstream.default({ status: 429, message: 'come back tomorrow', headers: { 'retry-after': '86400' } })
  const id = await api.submit('[[tomorrow]]', { options: claude('tomorrow') })
  await cluster.ended([id])
  expect(await api.task(id)).toMatchObject({
    status: 'failed',
    error: { code: 'provider_failed', message: expect.stringContaining('come back tomorrow') },
    attempts: [{ outcome: 'rate_limited' }],
  })
  expect(upstream.count()).toBe(1)
})

test('an answer of the wrong shape counts as a try, is paid for and is asked for again', async () => {
  const { api, upstream } = cluster
  const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
  upstream.script({ text: '{"n":"one"}' }, { text: 'no JSON' }, { text: '{"n":1}' })
  const body = { input: { prompt: '[[shape]]', schema }, options: claude('shape') }
  const { body: accepted } = await api.call('POST', '/api/v1/tasks/generate', { body })
  await cluster.ended([accepted.task_id])
  const task = await api.task(accepted.task_id)
  expect(task).toMatchObject({
    status: 'succeeded',
    result: { n: 1 },
    attempts: [{ outcome: 'rejected' }, { outcome: 'rejected' }, { outcome: 'succeeded' }],
  })
  expect(task.cost_usd).toBeGreaterThan(0)
  expect(upstream.count()).toBe(3)
})

test('providers that hang do not outlast the deadline', async () => {
  const { api, upstream, openai } = cluster
  upstream.default({ fault: 'hang' })
  openai.default({ fault: 'hang' })
  const id = await api.submit('[[hangs]]', { options: { ...anybody('hangs'), deadline_seconds: 15 } })
  await cluster.ended([id])
  const task = await api.task(id)
  // The last call's limit is the deadline as well: either may be what ends it.
  expect(['expired deadline_exceeded', 'failed provider_failed']).toContain(`${task.status} ${task.error.code}`)
  expect(task.attempts[0]).toMatchObject({ outcome: 'timeout' })
  await within('no call goes on', Promise.all([upstream, openai].map(one => one.aborted(one.count()))))
})

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Script } from '#shared/testing/upstream.ts'
import { type Cluster, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  // MAX_ATTEMPTS is odd, so that with two providers it is reached in the middle of a round.
  const env = { MAX_ATTEMPTS: '3', CALL_TIMEOUT_SECONDS: '5', WORKER_CONCURRENCY: '80' }
  cluster = await startCluster({ openai: true, env })
})
afterAll(() => cluster?.close())

/** Transient failures: the name is the marker of the task, the last item the outcome of the attempt. */
const TRANSIENT: [string, Script, string][] = [
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
const CASES = TRANSIENT.flatMap(([name, script, outcome]) =>
  [false, true].map(stream => ({ name: `${name}${stream ? '-streamed' : ''}`, script, outcome, stream })),
)
const marker = (name: string) => `\\[\\[${name}\\]\\]`

/** Every task asks for a model of its own, because the outcome of a call changes how its model is treated. */
const anyProvider = (name: string) => ({ model: modelOf(name), fallback: 'none' })
const onlyAnthropic = (name: string) => ({ ...anyProvider(name), provider: 'anthropic' })

/** Calls to both upstreams whose prompt has the marker. */
const callsOf = (name: string) => {
  const { upstream, openai } = cluster
  return [upstream, openai].map(one => one.markers()[name] ?? 0)
}

// All at once: each task has a marker and a model of its own, and most of the time passes waiting.
describe.concurrent('a call that fails', () => {
  test('is repeated after a transient failure', async () => {
    const { api, upstream } = cluster
    const cases = CASES.map(one => ({ ...one, name: `again-${one.name}` }))
    for (const { name, script } of cases) upstream.script({ ...script, when: marker(name) })
    const ids = await Promise.all(
      cases.map(({ name, stream }) => api.submit(`[[${name}]]`, { options: { ...onlyAnthropic(name), stream } })),
    )
    await cluster.ended(ids)
    for (const [index, { name, outcome }] of cases.entries()) {
      const task = await api.task(ids[index]!)
      expect(task, name).toMatchObject({ status: 'succeeded', source: 'ai', provider: 'anthropic', error: null })
      expect(task.attempts, name).toMatchObject([
        { outcome, error: { code: outcome, message: expect.stringMatching(/./) } },
        { outcome: 'succeeded' },
      ])
      expect(callsOf(name), name).toEqual([2, 0])
    }
  })

  test('goes to another provider after a transient failure, if one is allowed', async () => {
    const { api, upstream } = cluster
    const cases = CASES.map(one => ({ ...one, name: `other-${one.name}` }))
    for (const { name, script } of cases) upstream.rule(marker(name), script)
    const ids = await Promise.all(
      cases.map(({ name, stream }) => api.submit(`[[${name}]]`, { options: { ...anyProvider(name), stream } })),
    )
    await cluster.ended(ids)
    for (const [index, { name, outcome }] of cases.entries()) {
      const task = await api.task(ids[index]!)
      expect(task, name).toMatchObject({ status: 'succeeded', source: 'ai', provider: 'openai' })
      expect(task.attempts, name).toMatchObject([
        { provider: 'anthropic', outcome },
        { provider: 'openai', outcome: 'succeeded' },
      ])
      expect(callsOf(name), name).toEqual([1, 1])
    }
  })

  test('is repeated up to MAX_ATTEMPTS over all providers, and the task says why it failed', async () => {
    const { api, upstream, openai } = cluster
    upstream.rule(/capped/, { status: 500, message: 'claude is ill' })
    openai.rule(/capped/, { status: 500, message: 'gpt is ill' })
    const [failed, ruled] = await Promise.all([
      api.submit('[[capped]]', { options: anyProvider('capped') }),
      api.submit('[[capped-rules]]', { options: { ...anyProvider('capped-rules'), fallback: 'rules' } }),
    ])
    await cluster.ended([failed, ruled])
    const expected = [
      { provider: 'anthropic', outcome: 'server_error' },
      { provider: 'openai', outcome: 'server_error' },
      // Both have failed: their scores decide which is next.
      { provider: expect.stringMatching(/^(anthropic|openai)$/), outcome: 'server_error' },
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
    // `generate` has no rules that could replace a model.
    expect(await api.task(ruled)).toMatchObject({ status: 'failed', source: null, result: null, attempts: expected })
    for (const name of ['capped', 'capped-rules']) expect(callsOf(name)[0]! + callsOf(name)[1]!).toBe(3)
  })

  test('is not repeated anywhere after a bad request', async () => {
    const { api, upstream } = cluster
    upstream.rule(/bad-request/, { status: 400, message: 'messages: too many' })
    const id = await api.submit('[[bad-request]]', { options: anyProvider('bad-request') })
    await cluster.ended([id])
    expect(await api.task(id)).toMatchObject({
      status: 'failed',
      error: { code: 'provider_rejected', message: expect.stringContaining('too many') },
      attempts: [{ outcome: 'invalid_request' }],
    })
    expect(callsOf('bad-request')).toEqual([1, 0])
  })

  test.for([
    ['a wrong key', { status: 401 }, 'auth'],
    ['an unknown model', { status: 404 }, 'unknown_model'],
    ['an empty account', { status: 402 }, 'no_balance'],
  ] as const)('is not repeated at the same provider after %s', async ([_, script, outcome]) => {
    const { api, upstream } = cluster
    upstream.rule(marker(`(alone|other)-${outcome}`), script)
    const [alone, other] = await Promise.all([
      api.submit(`[[alone-${outcome}]]`, { options: onlyAnthropic(`alone-${outcome}`) }),
      api.submit(`[[other-${outcome}]]`, { options: anyProvider(`other-${outcome}`) }),
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
    expect(callsOf(`alone-${outcome}`)).toEqual([1, 0])
    expect(callsOf(`other-${outcome}`)).toEqual([1, 1])
  })

  test('is not repeated at a provider that refused for good, also when the others make the task wait', async () => {
    const { api, upstream, openai } = cluster
    upstream.rule(/dead-end/, { status: 401 })
    openai.script({ status: 500, when: /dead-end/ })
    const id = await api.submit('[[dead-end]]', { options: anyProvider('dead-end') })
    await cluster.ended([id])
    expect(await api.task(id)).toMatchObject({
      status: 'succeeded',
      provider: 'openai',
      attempts: [{ outcome: 'auth' }, { outcome: 'server_error' }, { outcome: 'succeeded' }],
    })
    expect(callsOf('dead-end')).toEqual([1, 2])
  })

  test('is repeated after Retry-After, which delays other tasks as well', async () => {
    const { api, upstream } = cluster
    const options = onlyAnthropic('pause')
    upstream.script({ status: 429, headers: { 'retry-after': '5' }, when: /refused/ })
    const first = await api.submit('[[refused]]', { options })
    await within('it is refused', upstream.arrived(1, /refused/))
    await until('all workers can know of the pause', async () => {
      const { body } = await api.call('GET', '/api/v1/providers/anthropic/health')
      return body.models.find((one: { model: string }) => one.model === options.model)?.pause_ms > 0
    })
    const second = await api.submit('[[bystander]]', { options })
    await cluster.ended([first, second])
    const [refused, ...later] = upstream.calls.filter(call => /refused|bystander/.test(call.prompt))
    expect(later.map(call => call.prompt).sort()).toEqual(['[[bystander]]', '[[refused]]'])
    for (const call of later) expect(call.startedAt - refused!.startedAt).toBeGreaterThanOrEqual(5000)
    expect((await api.task(first)).attempts).toMatchObject([{ outcome: 'rate_limited' }, { outcome: 'succeeded' }])
    expect((await api.task(second)).attempts).toMatchObject([{ outcome: 'succeeded' }])
  })

  test('with a Retry-After beyond the deadline ends its task at once, with the reason', async () => {
    const { api, upstream } = cluster
    const tomorrow = { status: 429, message: 'come back tomorrow', headers: { 'retry-after': '86400' } }
    upstream.rule(/tomorrow/, tomorrow)
    const id = await api.submit('[[tomorrow]]', { options: onlyAnthropic('tomorrow') })
    await cluster.ended([id])
    expect(await api.task(id)).toMatchObject({
      status: 'failed',
      error: { code: 'provider_failed', message: expect.stringContaining('come back tomorrow') },
      attempts: [{ outcome: 'rate_limited' }],
    })
    expect(callsOf('tomorrow')).toEqual([1, 0])
  })

  test('with an answer of the wrong shape counts as an attempt, is paid for and is repeated', async () => {
    const { api, upstream } = cluster
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    for (const text of ['{"n":"one"}', 'no JSON', '{"n":1}']) upstream.script({ text, when: marker('shape') })
    const body = { input: { prompt: '[[shape]]', schema }, options: onlyAnthropic('shape') }
    const { body: accepted } = await api.call('POST', '/api/v1/tasks/generate', { body })
    await cluster.ended([accepted.task_id])
    const task = await api.task(accepted.task_id)
    expect(task).toMatchObject({
      status: 'succeeded',
      result: { n: 1 },
      attempts: [{ outcome: 'rejected' }, { outcome: 'rejected' }, { outcome: 'succeeded' }],
    })
    expect(task.cost_usd).toBeGreaterThan(0)
    expect(upstream.count(/\[\[shape]]/)).toBe(3)
  })

  test('by hanging at every provider ends with the deadline of its task', async () => {
    const { api, upstream, openai } = cluster
    for (const one of [upstream, openai]) one.rule(/hangs-everywhere/, { fault: 'hang' })
    const options = { ...anyProvider('hangs-everywhere'), deadline_seconds: 9 }
    const id = await api.submit('[[hangs-everywhere]]', { options })
    await cluster.ended([id])
    const task = await api.task(id)
    // The limit of the last call is the deadline as well: either may end it.
    expect(['expired deadline_exceeded', 'failed provider_failed']).toContain(`${task.status} ${task.error.code}`)
    expect(task.attempts[0]).toMatchObject({ outcome: 'timeout' })
    const open = () =>
      [upstream, openai]
        .flatMap(one => one.calls)
        .filter(call => call.prompt.includes('hangs-everywhere') && !call.aborted)
    await until('all calls are aborted', () => open().length === 0)
  })
})

// Sequential, because these tests take whole providers down.

test('while every provider is down, a task with little time left fails once the breakers are open', async () => {
  await cluster.begin()
  const { api, upstream, openai } = cluster
  upstream.default({ status: 500, message: 'claude is ill' })
  openai.default({ status: 500, message: 'gpt is ill' })
  const options = { ...anyProvider('down'), deadline_seconds: 40 }
  const breakers = async () => {
    const { body } = await api.call('GET', '/circuit-breaker')
    return body.data.filter((one: { model: string }) => one.model === options.model)
  }
  const openers = await Promise.all(Array.from({ length: 3 }, (_, n) => api.submit(`[[opener-${n}]]`, { options })))
  await cluster.ended(openers)
  const id = await api.submit('[[late]]', { options: { ...options, deadline_seconds: 20 } })
  await cluster.ended([id])
  // It did not wait for the breakers, which are still open.
  expect(await breakers()).toMatchObject([{ state: 'open' }, { state: 'open' }])
  expect(await api.task(id)).toMatchObject({
    status: 'failed',
    error: { code: 'provider_failed', message: expect.stringMatching(/keep failing/) },
    attempts: [],
  })
  const part = async () => (await api.call('GET', '/health/ready')).body.parts.providers
  await expect.poll(part).toBe('down: anthropic, openai')
})

test('the first tasks after an outage run one at a time once the provider answers pings, and close the breaker', async () => {
  await cluster.begin()
  const { api, upstream } = cluster
  upstream.default({ status: 500 })
  const options = onlyAnthropic('recovers')
  const opener = await api.submit('[[opener]]', { options: { ...options, deadline_seconds: 40 } })
  await cluster.ended([opener])
  const breaker = async () => {
    const { body } = await api.call('GET', '/api/v1/providers/anthropic/health')
    return body.models.find((one: { model: string }) => one.model === options.model)?.breaker
  }
  const waiting = await api.submitAll(['waits-0', 'waits-1', 'waits-2'], {
    options: { ...options, deadline_seconds: 600 },
  })
  await until('the provider is pinged', () => upstream.pings() > 0)
  upstream.default(null)
  const held = upstream.hold()
  upstream.answerPings(true)
  await within('one of them calls', held.waiting(1))
  expect(await breaker()).toBe('half_open')
  const impatient = await api.submit('[[impatient]]', { options: { ...options, deadline_seconds: 1 } })
  await cluster.ended([impatient])
  expect(await api.task(impatient)).toMatchObject({ result: null, attempts: [] })
  expect(upstream.count(/waits/)).toBe(1)
  held.release()
  await cluster.ended(waiting)
  for (const task of await api.tasks(waiting))
    expect(task).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  await until('the breaker closes', async () => (await breaker()) === 'closed')
})

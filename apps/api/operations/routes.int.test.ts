import { connect as openSocket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { STAGES } from '#shared/metrics/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { REASONS } from '#shared/process/parent-ipc.ts'
import { startStack } from '#shared/testing/stack.ts'

const stack = startStack()

describe('operations', () => {
  it('shows the live workers', async () => {
    const workers = async () => (await stack.call('GET', '/api/v1/workers')).body.data
    await expect.poll(workers).toEqual([
      expect.objectContaining({
        pid: stack.worker.process.pid,
        queues: ['default', 'moderate', 'batch'],
        concurrency: 20,
        metrics_port: stack.worker.port,
      }),
    ])
  })

  it('reports liveness and readiness without a key', async () => {
    expect((await stack.call('GET', '/health/live', { key: null })).body).toEqual({ status: 'ok' })
    await expect
      .poll(() => stack.call('GET', '/health/ready?strict=1', { key: null }))
      .toMatchObject({ status: 200, body: { status: 'ok', parts: { postgres: 'ok', redis: 'ok' } } })
  })

  it('serves the documentation with all its assets', async () => {
    for (const path of ['/docs', '/docs/']) {
      const page = await stack.call('GET', path, { key: null })
      expect(page.status).toBe(200)
      const assets = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(
        match => new URL(match[1]!, `http://x${path}`),
      )
      expect(assets.length).toBeGreaterThan(3)
      for (const { pathname } of assets) {
        const asset = await stack.call('GET', pathname, { key: null })
        expect([pathname, asset.status]).toEqual([pathname, 200])
        expect(asset.body.length).toBeGreaterThan(0)
      }
    }
  })

  it.each([
    ['/openapi.json', /^application\/json/, '{"openapi":"3.1.0"'],
    ['/docs/json', /^application\/json/, '{"openapi":"3.1.0"'],
    ['/docs/yaml', /yaml/, 'openapi: 3.1.0\n'],
  ])('serves the same document each time: %s', async (path, type, begins) => {
    const get = () => fetch(`http://127.0.0.1:${stack.api.port}${path}`)
    const [first, again] = [await get(), await get()]
    expect([first.status, again.status]).toEqual([200, 200])
    expect(first.headers.get('content-type')).toMatch(type)
    const text = await first.text()
    expect(text.startsWith(begins)).toBe(true)
    expect(await again.text()).toBe(text)
  })

  it.each(['%00', 'a%00.css', '..%5c..%5cpackage.json', 'none.css'])('answers 404 for /docs/static/%s', async name => {
    const { status, body } = await stack.call('GET', `/docs/static/${name}`, { key: null })
    expect([status, body.code]).toEqual([404, 'not_found'])
  })
})

describe('metrics', () => {
  /** Parses the text format strictly: every sample must belong to a family that is declared before it. */
  function parse(text: string) {
    const families = new Map<string, string>()
    const samples: { name: string; labels: Record<string, string>; value: number }[] = []
    for (const line of text.split('\n').filter(Boolean)) {
      const declared = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line)
      if (declared) {
        if (declared[1] === 'TYPE') families.set(declared[2]!, declared[3]!)
        continue
      }
      const [, name, labels = '', value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
      expect(name, line).toBeDefined()
      const family = families.has(name!) ? name! : name!.replace(/_(bucket|sum|count)$/, '')
      expect(families.has(family), line).toBe(true)
      expect(value, line).toMatch(/^([+-]?Inf|nan|[-+\d.e]+)$/i)
      const pairs = [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/g)]
      expect(pairs.map(pair => pair[0]).join(''), line).toBe(labels)
      samples.push({
        name: name!,
        labels: Object.fromEntries(pairs.map(pair => [pair[1], pair[2]])),
        value: Number(value),
      })
    }
    return samples
  }
  const scrape = async () => parse((await stack.call('GET', '/metrics', { key: null })).body)
  const scrapeWorker = async () => parse(await (await fetch(`http://127.0.0.1:${stack.worker.port}/metrics`)).text())

  it('of both processes can be parsed and have labels from closed sets', async () => {
    await stack.finished()
    const { id } = await stack.makeKey()
    for (const scope of ['global', `key:${id}`, 'kind:generate', 'provider:anthropic'])
      await stack.call('PUT', '/api/v1/budgets', { body: { scope, window: 'total', limit_usd: 100 } })
    const routes = new Set([
      'unknown',
      '/openapi.json',
      '/api/v1/tasks/:kind',
      ...stack.contract.operations.map(one => one.path.replaceAll(/\{(\w+)\}/g, ':$1')),
    ])
    const models = new Set([
      ...createPrices()
        .models()
        .map(one => one.model),
      'other',
    ])
    const closed: Record<string, (value: string) => boolean> = {
      part: value => ['api', 'worker'].includes(value),
      method: value => /^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(value),
      route: value => routes.has(value) || /^\/(docs|queues)\b/.test(value),
      status: value =>
        /^([1-5]\d\d|queued|running|succeeded|failed|cancelled|expired|validating|in_progress|finalizing|cancelling|completed)$/.test(
          value,
        ),
      kind: value => jobs.has(value),
      source: value => ['ai', 'cache', 'precomputed', 'rules', 'demo', 'none'].includes(value),
      provider: value => (PROVIDER_NAMES as string[]).includes(value),
      outcome: value => /^[a-z_]{1,30}$/.test(value),
      direction: value => ['input', 'output'].includes(value),
      queue: value => ['default', 'moderate', 'batch'].includes(value),
      reason: value => (REASONS as readonly string[]).includes(value),
      step: value => ['validate', 'run', 'finalize'].includes(value),
      scope_kind: value => ['global', 'key', 'kind', 'provider', 'batch'].includes(value),
      window: value => ['request', 'hour', 'day', 'month', 'total'].includes(value),
      state: value => /^[a-z_-]{1,30}$/.test(value),
      what: value => /^[a-z_]{1,30}$/.test(value),
      dependency: value => /^[a-z_]{1,30}$/.test(value),
      stage: value => (STAGES as readonly string[]).includes(value),
      model: value => models.has(value),
      limit: value => ['rpm', 'tpm', 'itpm', 'otpm', 'concurrency'].includes(value),
      redis: value => ['queue', 'cache'].includes(value),
      gen_ai_operation_name: value => ['chat', 'embeddings'].includes(value),
      gen_ai_provider_name: value => (PROVIDER_NAMES as string[]).includes(value),
      gen_ai_request_model: value => models.has(value),
      error_type: value => /^[a-z_]{0,30}$/.test(value),
      le: value => value === '+Inf' || Number.isFinite(Number(value)),
    }
    for (const samples of [await scrape(), await scrapeWorker()]) {
      const own = samples.filter(sample => /^(sluice|gen_ai)_/.test(sample.name))
      expect(own.length).toBeGreaterThan(20)
      for (const { name, labels } of own) {
        for (const [label, value] of Object.entries(labels)) {
          expect(closed[label]?.(value), `${name} ${label}="${value}"`).toBe(true)
          expect(value, name).not.toMatch(/[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}/)
        }
      }
    }
  })

  it('count accepted and ended tasks', async () => {
    // A kind that no other test submits: metrics may be a second old, so that a difference could include other tests.
    const input = { text: 'The queue is long. It moves.' }
    const headers = { prefer: 'wait=30' }
    const options = { cache: 'off' }
    expect((await stack.call('POST', '/api/v1/tasks/summarize', { headers, body: { input, options } })).status).toBe(
      200,
    )
    const counts = async () => ({
      accepted: sum(await scrape(), 'sluice_tasks_accepted_total'),
      ended: sum(await scrapeWorker(), 'sluice_tasks_ended_total'),
    })
    const sum = (samples: Awaited<ReturnType<typeof scrape>>, name: string) =>
      samples
        .filter(sample => sample.name === name && sample.labels.kind === 'summarize')
        .reduce((total, sample) => total + sample.value, 0)
    await expect.poll(counts).toEqual({ accepted: 1, ended: 1 })
    const called = async () =>
      (await scrapeWorker()).filter(
        one =>
          /^(sluice_attempts_total|gen_ai_client_operation_duration_seconds_count)$/.test(one.name) && one.value > 0,
      ).length
    await expect.poll(called).toBeGreaterThanOrEqual(2)
  })

  it('show remaining budgets and breaker states', async () => {
    await stack.finished()
    const body = { scope: 'kind:generate', window: 'request', limit_usd: 12.5 }
    const { id } = (await stack.call('PUT', '/api/v1/budgets', { body })).body
    const left = async () =>
      (await scrape()).filter(one => one.name === 'sluice_budget_remaining_usd' && one.labels.window === 'request')
    // A read that takes too long omits its gauges from one scrape.
    await expect
      .poll(async () => (await left()).map(one => [one.labels.scope_kind, one.value]))
      .toEqual([['kind', 12.5]])
    await stack.call('DELETE', `/api/v1/budgets/${id}`)
    await expect.poll(left).toEqual([])
    const breakers = async () => (await scrape()).filter(one => one.name === 'sluice_breaker_state')
    await expect
      .poll(async () => (await breakers()).map(one => [one.labels.provider, one.value]))
      .toEqual([['anthropic', 0]])
  })

  it('do not grow with unknown paths', async () => {
    const series = async () =>
      (await scrape())
        .filter(sample => sample.name.startsWith('sluice_http_'))
        .map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`)
        .toSorted()
    await stack.call('GET', '/nowhere', { key: null })
    await series()
    const before = await series()
    const socket = openSocket(stack.api.port, '127.0.0.1')
    const strangers = Array.from({ length: 10_000 }, (_, n) => `GET /nowhere/${n}?${n} HTTP/1.1\r\nhost: x\r\n`)
    socket.end(`${strangers.join('\r\n')}connection: close\r\n\r\n`)
    let refused = 0
    let rest = ''
    for await (const part of socket.setEncoding('latin1')) {
      const lines = (rest + part).split('HTTP/1.1 ')
      rest = lines.pop()!
      refused += lines.filter(line => line.startsWith('404')).length
    }
    expect(refused + Number(rest.startsWith('404'))).toBe(10_000)
    expect(await series()).toEqual(before)
  })
})

import { connect as openSocket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { STAGES } from '#shared/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { startMachine } from '#shared/testing/machine.ts'

const machine = startMachine()

describe('operation', () => {
  it('shows the live workers', async () => {
    const { body } = await machine.call('GET', '/api/v1/workers')
    expect(body.data).toEqual([
      expect.objectContaining({
        pid: machine.worker.process.pid,
        queues: ['default', 'moderate', 'batch'],
        concurrency: 20,
        metrics_port: machine.worker.port,
      }),
    ])
  })

  it('says that it lives and is ready, without a key', async () => {
    expect((await machine.call('GET', '/health/live', { key: null })).body).toEqual({ status: 'ok' })
    const ready = await machine.call('GET', '/health/ready?strict=1', { key: null })
    expect(ready).toMatchObject({ status: 200, body: { status: 'ok', parts: { postgres: 'ok', redis: 'ok' } } })
  })

  it('has documentation that loads, with everything that it refers to', async () => {
    for (const path of ['/docs', '/docs/']) {
      const page = await machine.call('GET', path, { key: null })
      expect(page.status).toBe(200)
      const assets = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(
        match => new URL(match[1]!, `http://x${path}`),
      )
      expect(assets.length).toBeGreaterThan(3)
      for (const { pathname } of assets) {
        const asset = await machine.call('GET', pathname, { key: null })
        expect([pathname, asset.status]).toEqual([pathname, 200])
        expect(asset.body.length).toBeGreaterThan(0)
      }
    }
  })

  it.each([
    ['/openapi.json', /^application\/json/, '{"openapi":"3.1.0"'],
    ['/docs/json', /^application\/json/, '{"openapi":"3.1.0"'],
    ['/docs/yaml', /yaml/, 'openapi: 3.1.0\n'],
  ])('has it for programs, each time the same: %s', async (path, type, begins) => {
    const get = () => fetch(`http://127.0.0.1:${machine.api.port}${path}`)
    const [first, again] = [await get(), await get()]
    expect([first.status, again.status]).toEqual([200, 200])
    expect(first.headers.get('content-type')).toMatch(type)
    const text = await first.text()
    expect(text.startsWith(begins)).toBe(true)
    expect(await again.text()).toBe(text)
  })

  it.each(['%00', 'a%00.css', '..%5c..%5cpackage.json', 'none.css'])('has no page /docs/static/%s', async name => {
    const { status, body } = await machine.call('GET', `/docs/static/${name}`, { key: null })
    expect([status, body.code]).toEqual([404, 'not_found'])
  })
})

describe('metrics', () => {
  /** The text format, strictly: every sample belongs to a family that was declared before it. */
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
  const scrape = async () => parse((await machine.call('GET', '/metrics', { key: null })).body)
  const scrapeWorker = async () => parse(await (await fetch(`http://127.0.0.1:${machine.worker.port}/metrics`)).text())

  it('of both processes can be parsed, and their labels come from closed sets', async () => {
    await machine.finished()
    const { id } = await machine.makeKey()
    for (const scope of ['global', `key:${id}`, 'kind:generate', 'provider:anthropic'])
      await machine.call('PUT', '/api/v1/budgets', { body: { scope, window: 'total', limit_usd: 100 } })
    const routes = new Set([
      'unknown',
      '/openapi.json',
      '/api/v1/tasks/:kind',
      ...machine.contract.operations.map(one => one.path.replaceAll(/\{(\w+)\}/g, ':$1')),
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
      source: value => ['ai', 'cache', 'precomputed', 'rules', 'none'].includes(value),
      provider: value => (PROVIDER_NAMES as string[]).includes(value),
      outcome: value => /^[a-z_]{1,30}$/.test(value),
      direction: value => ['input', 'output'].includes(value),
      queue: value => ['default', 'moderate', 'batch'].includes(value),
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

  it('count what was accepted and what it came to', async () => {
    const sum = (samples: Awaited<ReturnType<typeof scrape>>, name: string) =>
      samples
        // What was given up before it was sent, as a busy machine can make it, is an attempt, but no call.
        .filter(sample => sample.name === name && sample.labels.outcome !== 'aborted')
        .reduce((total, sample) => total + sample.value, 0)
    const [api, worker] = [await scrape(), await scrapeWorker()]
    await machine.finished()
    const [apiAfter, workerAfter] = [await scrape(), await scrapeWorker()]
    expect(sum(apiAfter, 'sluice_tasks_accepted_total') - sum(api, 'sluice_tasks_accepted_total')).toBe(1)
    for (const name of [
      'sluice_tasks_ended_total',
      'sluice_attempts_total',
      'gen_ai_client_operation_duration_seconds_count',
    ])
      expect(sum(workerAfter, name) - sum(worker, name), name).toBe(1)
  })

  it('show what is left to spend and how the breakers stand', async () => {
    await machine.finished()
    const body = { scope: 'kind:generate', window: 'request', limit_usd: 12.5 }
    const { id } = (await machine.call('PUT', '/api/v1/budgets', { body })).body
    const left = async () =>
      (await scrape()).filter(one => one.name === 'sluice_budget_remaining_usd' && one.labels.window === 'request')
    // A look that took too long leaves its gauges out of one scrape.
    await expect
      .poll(async () => (await left()).map(one => [one.labels.scope_kind, one.value]))
      .toEqual([['kind', 12.5]])
    await machine.call('DELETE', `/api/v1/budgets/${id}`)
    await expect.poll(left).toEqual([])
    const breakers = async () => (await scrape()).filter(one => one.name === 'sluice_breaker_state')
    await expect
      .poll(async () => (await breakers()).map(one => [one.labels.provider, one.value]))
      .toEqual([['anthropic', 0]])
  })

  it('do not grow with what strangers ask for', async () => {
    const series = async () =>
      (await scrape())
        .filter(sample => sample.name.startsWith('sluice_http_'))
        .map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`)
        .toSorted()
    await machine.call('GET', '/nowhere', { key: null })
    await series()
    const before = await series()
    const socket = openSocket(machine.api.port, '127.0.0.1')
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

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { findPrometheus } from '#apps/local/find-prometheus.mjs'
import { startStack } from '#shared/testing/stack.ts'
import type { Rendered } from './build.ts'

const ROOT = join(import.meta.dirname, '../../..')
const RULES = join(ROOT, 'prometheus/alerts.yml')
const DASHBOARDS = join(ROOT, 'prometheus/dashboards')
const MODEL = 'claude-haiku-5-5'
const run = promisify(execFile)

const bin = findPrometheus() ?? ''
/** Timeout of a wait for several scrapes. */
const SCRAPES = { timeout: 20_000, interval: 500 }
const promtool = (...args: string[]) => run(join(bin, 'promtool'), args, { cwd: join(ROOT, 'prometheus') })

it('Prometheus is installed', () => expect(bin).not.toBe(''))

describe('the alert rules', () => {
  it('are valid and pass their unit tests', async () => {
    const { stdout } = await promtool('test', 'rules', 'alerts.test.yml')
    expect(stdout).toContain('SUCCESS')
  })

  it('are each tested firing and not firing', () => {
    const names = [...readFileSync(RULES, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name]) => name!)
    const [healthy, ...ill] = readFileSync(join(ROOT, 'prometheus/alerts.test.yml'), 'utf8')
      .split(/\n {2}- name: /)
      .slice(1)
    expect(names.length).toBeGreaterThan(15)
    for (const name of names) {
      expect(healthy, name).toContain(`alertname: ${name},`)
      expect(ill.join('\n'), name).toMatch(new RegExp(`alertname: ${name}\\n +exp_alerts:\\n`))
    }
  })

  it('have a section each in the runbook', () => {
    const runbook = readFileSync(join(ROOT, 'docs/runbook.md'), 'utf8')
    for (const [, name] of readFileSync(RULES, 'utf8').matchAll(/- alert: (\w+)/g))
      expect(runbook).toContain(`### ${name}\n`)
  })

  it('and their configuration are accepted by Prometheus', async () => {
    const { stdout } = await promtool('check', 'config', 'prometheus.yml')
    expect(stdout).toContain('SUCCESS')
  })
})

describe('the metrics of real processes', () => {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-prometheus-'))
  const stack = startStack()
  const receiver = createServer((request, response) => {
    request.resume()
    response.writeHead(200).end()
  })
  let prometheus: ReturnType<typeof spawn>
  let url: string

  beforeAll(async () => {
    await once(receiver.listen(0, '127.0.0.1'), 'listening')
    const targets = (port: number) => [{ targets: [`127.0.0.1:${port}`] }]
    const job = (job_name: string, port: number) => ({ job_name, static_configs: targets(port) })
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: [RULES],
      scrape_configs: [job('sluice-api', stack.api.port), job('sluice-worker', stack.worker.port)],
    }
    // YAML is a superset of JSON.
    writeFileSync(join(dir, 'prometheus.yml'), JSON.stringify(config))
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    const args = [
      `--config.file=${join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]
    prometheus = spawn(join(bin, 'prometheus'), args, { stdio: 'ignore' })
    await vi.waitUntil(ready, { timeout: 30_000, interval: 100 })
    await makeHistory()
  }, 120_000)
  afterAll(async () => {
    receiver.close()
    if (prometheus?.exitCode === null) {
      prometheus.kill('SIGTERM')
      await once(prometheus, 'exit')
    }
    rmSync(dir, { recursive: true, force: true })
  })

  const ready = () =>
    fetch(`${url}/-/ready`).then(
      answer => answer.ok,
      () => false,
    )

  type Answer = {
    status: string
    error?: string
    data: { result: { metric: Record<string, string>; value: [number, string] }[] }
  }
  async function ask(query: string): Promise<Answer> {
    const answer = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query }) })
    return (await answer.json()) as Answer
  }

  /** Creates one of each event that the dashboards show. */
  async function live(n: number): Promise<void> {
    const { call, submit } = stack
    const wait = { headers: { prefer: 'wait=10' } }
    const task = (kind: string, input: object, options: object = {}) =>
      call('POST', `/api/v1/tasks/${kind}`, { body: { input, options }, ...wait })
    const { port } = receiver.address() as AddressInfo
    const contexts = [{ id: 'a', text: 'Nothing of use.' }]
    await Promise.all([
      submit({ options: { stream: true, output_filter: 'off', webhook_url: `http://127.0.0.1:${port}` } }, wait),
      task('generate', { prompt: `Remember ${n % 2}` }, { cache: 'use' }),
      task('generate', { prompt: 'refuse me' }, { cache: 'off', fallback: 'none' }),
      task('ask', { question: `Who? ${n}`, contexts }),
      call('POST', '/v1/files', { body: fileOf(n) }).then(({ body }) =>
        call('POST', '/v1/batches', {
          body: { input_file_id: body.id, endpoint: '/v1/chat/completions', completion_window: '24h' },
        }),
      ),
    ])
  }

  /** Repeats the events until several scrapes have counted them: `rate()` needs two samples. */
  async function makeHistory(): Promise<void> {
    stack.upstream.rule(/refuse me/, { status: 400, message: 'no' })
    stack.upstream.rule(/Who\?/, {
      text: JSON.stringify({ answer: "I don't have information about that.", answered: false, citations: [] }),
    })
    await stack.call('PUT', '/api/v1/budgets', { body: { scope: 'global', window: 'day', limit_usd: 1000 } })
    await stack.call('PUT', '/api/v1/providers/anthropic/limits', { body: { rpm: 100_000, concurrency: 1 } })
    const scraped = async () => Number((await ask('min(count_over_time(up[1m]))')).data.result[0]?.value[1] ?? 0)
    for (let n = 0; (await scraped()) < 8; n++) await live(n)
  }

  const panels = readdirSync(DASHBOARDS)
    .filter(file => file.endsWith('.json'))
    .flatMap(file => {
      const { panels = [] } = JSON.parse(readFileSync(join(DASHBOARDS, file), 'utf8')) as Rendered
      return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [file, title ?? '', expr] as const))
    })

  it.for(panels)('answers %s: %s', async ([, , expr]) => {
    const query = expr.replaceAll('$__rate_interval', '1m')
    // A scrape lacks the gauges whose query was too slow, and the events may be older than the range of the query by now.
    let again = 0
    await vi.waitFor(async () => {
      if (again++ > 0) await live(again)
      const { status, error, data } = await ask(query)
      expect(error).toBeUndefined()
      expect(status).toBe('success')
      const values = data.result.map(one => Number(one.value[1]))
      expect(values.some(Number.isFinite), `${query}: ${JSON.stringify(data.result)}`).toBe(true)
    }, SCRAPES)
  })

  it('have all series of the alert rules', async () => {
    const names = new Set(readFileSync(RULES, 'utf8').match(/\b(sluice|nodejs)_\w+(?=[{[ )])/g))
    expect(names.size).toBeGreaterThan(12)
    await vi.waitFor(async () => {
      const missing = []
      for (const name of names) if ((await ask(`count(${name})`)).data.result.length === 0) missing.push(name)
      // It has none as long as all is well.
      expect(missing).toEqual(['sluice_settled_above_reservation_total'])
    }, SCRAPES)
  })
})

function fileOf(n: number): FormData {
  const line = {
    custom_id: `line-${n}`,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: `anthropic/${MODEL}`, max_tokens: 50, messages: [{ role: 'user', content: `Line ${n}` }] },
  }
  const form = new FormData()
  form.set('purpose', 'batch')
  form.set('file', new Blob([JSON.stringify(line)]), 'in.jsonl')
  return form
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

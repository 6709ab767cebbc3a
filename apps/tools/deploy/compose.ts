import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseConfig } from '#shared/config.ts'
import { QUEUES } from '#shared/queue/names.ts'
import { settings } from '#shared/settings/settings.ts'

const ROOT = join(import.meta.dirname, '../../..')
const AFTER_DRAIN_SECONDS = 8 + 2
/** Settings of the Postgres image and of Node. */
const FOREIGN = ['POSTGRES_PASSWORD', 'NODE_OPTIONS']

export type Service = {
  image?: string
  build?: string
  command?: string | string[]
  environment?: Record<string, string | number>
  env_file?: { path: string; required?: boolean }[]
  volumes?: string[]
  ports?: string[]
  depends_on?: Record<string, { condition: string }>
  healthcheck?: { disable?: boolean; test?: string[] }
  mem_limit?: string
  stop_grace_period?: string
  restart?: string
  read_only?: boolean
  logging?: { options?: Record<string, string> }
}
export type Compose = { services: Record<string, Service>; volumes: Record<string, unknown> }

/** Replaces unset variables: `${NAME:-default}` by the default, `${NAME:?…}` and `${NAME}` by the name. */
const filled = (text: string) => text.replace(/\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}/g, (_, name, value) => value ?? name)

const UNITS: Record<string, number> = { m: 1, mb: 1, g: 1024 }
/** `1g`, `512m` and Redis's `256mb` in MB. */
function megabytes(text: string): number {
  const [, digits, unit] = /^(\d+)(mb|m|g)$/.exec(filled(text)) ?? []
  return Number(digits) * (UNITS[unit ?? ''] ?? Number.NaN)
}

const words = ({ command = [] }: Service) => (typeof command === 'string' ? command.split(' ') : command)
const after = (list: string[], flag: string) => list[list.indexOf(flag) + 1] ?? ''

/** Errors that compose does not report. */
export function composeProblems({ services, volumes }: Compose): string[] {
  const problems: string[] = []
  for (const [name, service] of Object.entries(services)) {
    const check = (ok: boolean, problem: string) => void (ok || problems.push(`${name}: ${problem}`))
    const ends = service.restart === 'no'
    check(/:v?\d+\.\d+/.test(service.image ?? ''), `has an image without a version: ${service.image}`)
    check(ends || service.restart === 'unless-stopped', 'is not started again')
    check(ends || (service.healthcheck?.disable !== true && !!(service.healthcheck || service.build)), 'is not checked')
    check(megabytes(service.mem_limit ?? '') > 0, 'may take all memory')
    check(service.logging?.options?.['max-size'] !== undefined, 'may fill the disk with its log')
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      const wanted = services[other]?.restart === 'no' ? 'service_completed_successfully' : 'service_healthy'
      check(services[other] !== undefined, `depends on ${other}, which is not there`)
      check(condition === wanted, `waits for ${condition} of ${other}`)
    }
    for (const volume of service.volumes ?? []) {
      const [from = ''] = volume.split(':')
      const exists = from.startsWith('.') ? existsSync(join(ROOT, from)) : from in volumes
      check(exists, `mounts ${from}, which is not there`)
      check(!from.startsWith('.') || volume.endsWith(':ro'), `may write to ${from}`)
    }
    for (const port of service.ports ?? [])
      check(filled(port).startsWith('127.0.0.1:'), `is open on all interfaces: ${port}`)
    for (const [key, value] of Object.entries(service.environment ?? {}))
      check(!/KEY|PASSWORD|SECRET/.test(key) || /^(\$\{\w+:\?.*\})?$/.test(String(value)), `holds a secret: ${key}`)
    if (service.build) problems.push(...ours(service).map(problem => `${name}: ${problem}`))
    if (words(service)[0] === 'redis-server')
      problems.push(...redisProblems(name, service).map(problem => `${name}: ${problem}`))
  }
  const consumed = Object.values(services).flatMap(service =>
    words(service).includes('--queues') ? after(words(service), '--queues').split(',') : [],
  )
  if (consumed.toSorted().join() !== QUEUES.toSorted().join()) problems.push(`the workers serve ${consumed}`)
  return problems
}

/** Errors of the services that run the image of Sluice. */
function ours(service: Service): string[] {
  const problems: string[] = []
  const check = (ok: boolean, problem: string) => void (ok || problems.push(problem))
  const values = Object.entries(service.environment ?? {}).map(([key, value]) => [key, filled(String(value))] as const)
  for (const [key] of values) check(key in settings || FOREIGN.includes(key), `sets an unknown setting: ${key}`)
  try {
    const secret = { ADMIN_KEY: 'x'.repeat(24) }
    const { DRAIN_SECONDS } = parseConfig({ ...Object.fromEntries(values), ...secret })
    const grace = Number(/^(\d+)s$/.exec(service.stop_grace_period ?? '')?.[1] ?? 10)
    const drains = service.restart !== 'no'
    check(!drains || grace >= DRAIN_SECONDS + AFTER_DRAIN_SECONDS, 'is killed before it has drained')
    // It would override the value in the operator's .env.
    check(
      service.env_file === undefined || values.some(([key]) => key === 'DRAIN_SECONDS'),
      'leaves DRAIN_SECONDS to .env',
    )
  } catch (error) {
    problems.push((error as Error).message)
  }
  const file = words(service)[1]
  check(file === undefined || existsSync(join(ROOT, file)), `does not run one of our programs: ${file}`)
  check(service.read_only === true, 'may write to its file system')
  return problems
}

/** The settings of apps/local/redis.ts; and the container needs memory beyond the data. */
function redisProblems(name: string, service: Service): string[] {
  const [flags, queue] = [words(service), name === 'redis']
  const wanted = queue
    ? { '--appendonly': 'yes', '--appendfsync': 'everysec', '--maxmemory-policy': 'noeviction' }
    : { '--appendonly': 'no', '--maxmemory-policy': 'allkeys-lru' }
  const wrong = Object.entries(wanted).filter(([flag, value]) => after(flags, flag) !== value)
  const factor = megabytes(service.mem_limit ?? '') / megabytes(after(flags, '--maxmemory'))
  return [
    ...wrong.map(([flag, value]) => `wants ${flag} ${value}`),
    // The data of the queue is copied when its file is rewritten.
    ...(factor >= (queue ? 2 : 1.5) ? [] : ['has no memory beyond its maxmemory']),
  ]
}

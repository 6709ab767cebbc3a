import autocannon from 'autocannon'
import { ADMIN_KEY, type Servers } from './servers.ts'

/** autocannon replaces `[<id>]` by a unique id, so that the cache answers no task. */
export const BODY = JSON.stringify({ input: { prompt: 'Three titles for a post on Redis [<id>]' } })
const CONNECTIONS = 64

export type AcceptFigures = { bare: number; bareP99: number; sluice: number; p50: number; p99: number }

/** 202s per second of a bare route and of Sluice, alternating, so that other load affects both. */
export async function benchAccept(
  servers: Servers,
  options: { rounds: number; seconds: number },
): Promise<AcceptFigures> {
  const bare = await servers.start('bench/bare.ts')
  const api = await servers.start('apps/api/main.ts')
  const key = await limitedKey(api.port)
  const runs = { bare: [] as autocannon.Result[], sluice: [] as autocannon.Result[] }
  const shoot = (port: number, path: string, seconds = options.seconds) =>
    autocannon({
      url: `http://127.0.0.1:${port}${path}`,
      method: 'POST',
      connections: CONNECTIONS,
      duration: seconds,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: BODY,
      idReplacement: true,
    })
  const path = '/api/v1/tasks/generate'
  await shoot(bare.port, '/', 3)
  await shoot(api.port, path, 3)
  for (let round = 0; round < options.rounds; round++) {
    runs.bare.push(await shoot(bare.port, '/'))
    runs.sluice.push(await shoot(api.port, path))
  }
  for (const run of [...runs.bare, ...runs.sluice]) {
    if (run.non2xx > 0 || run.errors > 0) throw new Error(`accept: ${run.non2xx} refused, ${run.errors} broken`)
  }
  await Promise.all([bare.stop(), api.stop()])
  const rate = (results: autocannon.Result[]) => median(results.map(one => one['2xx'] / one.duration))
  return {
    bare: rate(runs.bare),
    bareP99: median(runs.bare.map(one => one.latency.p99)),
    sluice: rate(runs.sluice),
    p50: median(runs.sluice.map(one => one.latency.p50)),
    p99: median(runs.sluice.map(one => one.latency.p99)),
  }
}

export const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

/** A key with a request limit that is enforced and never reached. */
export async function limitedKey(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/api/v1/keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'bench', scopes: ['submit', 'read'], requests_per_minute: 100_000_000 }),
  })
  if (response.status !== 201) throw new Error(`no key: ${response.status}`)
  return ((await response.json()) as { key: string }).key
}

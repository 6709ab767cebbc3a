import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import { BODY, limitedKey } from './accept.ts'
import { ADMIN_KEY, type Servers } from './servers.ts'

export type LimitFigures = {
  /** Calls per minute that the provider accepts. */
  limit: number
  /** Calls that the provider refused. */
  refused: number
  /** Calls in the best and the worst minute after the initial burst. */
  best: number
  worst: number
}

/** Tasks at twice the limit of a provider, run by two worker processes, for longer than the window of the provider. */
export async function benchLimit(servers: Servers, options: { limit: number; seconds: number }): Promise<LimitFigures> {
  const upstream = await servers.start('bench/upstream.ts', { LIMIT_RPM: String(options.limit) })
  const url = `http://127.0.0.1:${upstream.port}`
  const env = { ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: url, ANTHROPIC_RPM: String(options.limit) }
  const api = await servers.start('apps/api/main.ts', env)
  const workers = [await servers.start('workers/main.ts', env), await servers.start('workers/main.ts', env)]
  const key = await limitedKey(api.port)
  await autocannon({
    url: `http://127.0.0.1:${api.port}/api/v1/tasks/generate`,
    method: 'POST',
    connections: 8,
    duration: options.seconds,
    overallRate: Math.ceil((options.limit * 2) / 60),
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: BODY,
    idReplacement: true,
  })
  await sleep(500)
  const { arrivals, refused } = (await (await fetch(`${url}/traffic`)).json()) as {
    arrivals: number[]
    refused: number
  }
  await Promise.all([api.stop(), ...workers.map(one => one.stop()), upstream.stop()])
  // A burst within the limit passes at once, so the first second does not count.
  const begun = arrivals[0]! + 1000
  const minutes: number[] = []
  for (let from = begun; from + 60_000 <= arrivals.at(-1)!; from += 500)
    minutes.push(arrivals.filter(at => at >= from && at < from + 60_000).length)
  return { limit: options.limit, refused, best: Math.max(...minutes), worst: Math.min(...minutes) }
}

export const asAdmin = async (port: number, method: string, path: string, body?: unknown): Promise<unknown> => {
  const response = await fetch(`http://127.0.0.1:${port}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${ADMIN_KEY}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return await response.json()
}

import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { limitedKey } from './accept.ts'
import type { Servers } from './servers.ts'

export type LatencyFigures = {
  rate: number
  p50: number
  p99: number
  upstreamP50: number
  upstreamP99: number
  /** Three single-row INSERTs in sequence at the same rate: the time of the three commits of a task. */
  commitsP50: number
  commitsP99: number
}

let asked = 0
/** All tasks are different, so that the cache answers none. */
const body = () => JSON.stringify({ input: { prompt: `Three titles for a post on Redis ${++asked}` } })

/**
 * The latency that `Prefer: wait` adds, in milliseconds: an open loop (a slow answer delays no later request) of tasks
 * through Sluice, and of the same calls directly to the fake provider.
 */
export async function benchLatency(
  servers: Servers,
  options: { perSecond: number; seconds: number },
): Promise<LatencyFigures> {
  const env = { ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: servers.upstreamUrl }
  const api = await servers.start('apps/api/main.ts', env)
  const worker = await servers.start('workers/main.ts', env)
  const key = await limitedKey(api.port)
  const agent = new Agent({ keepAlive: true, maxSockets: 1000 })
  const post = (url: string, headers: Record<string, string>) =>
    new Promise<void>((resolve, reject) => {
      const call = request(
        url,
        { method: 'POST', agent, headers: { 'content-type': 'application/json', ...headers } },
        response => {
          response.resume()
          response.on('end', () =>
            response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)),
          )
        },
      )
      call.on('error', reject)
      call.end(body())
    })
  const viaSluice = () =>
    post(`http://127.0.0.1:${api.port}/api/v1/tasks/generate`, { authorization: `Bearer ${key}`, prefer: 'wait=30' })
  const straight = () => post(`${servers.upstreamUrl}/v1/messages`, {})

  const commits = await threeCommits(servers.databaseUrl, options.perSecond, options.seconds / 2)
  await openLoop(viaSluice, options.perSecond, 5)
  const direct = await openLoop(straight, options.perSecond, options.seconds / 2)
  const through = await openLoop(viaSluice, options.perSecond, options.seconds)
  agent.destroy()
  await Promise.all([api.stop(), worker.stop()])
  return {
    rate: options.perSecond,
    p50: quantile(through, 0.5),
    p99: quantile(through, 0.99),
    upstreamP50: quantile(direct, 0.5),
    upstreamP99: quantile(direct, 0.99),
    commitsP50: quantile(commits, 0.5),
    commitsP99: quantile(commits, 0.99),
  }
}

async function threeCommits(databaseUrl: string, perSecond: number, seconds: number): Promise<number[]> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
  pool.on('error', () => {})
  try {
    await pool.query('CREATE TABLE IF NOT EXISTS bench_commits (text text)')
    const commit = () => pool.query({ name: 'commit', text: "INSERT INTO bench_commits VALUES ('a row')" })
    const three = async () => {
      for (let n = 0; n < 3; n++) await commit()
    }
    await openLoop(three, perSecond, 2)
    return await openLoop(three, perSecond, seconds)
  } finally {
    await pool.end()
  }
}

export async function openLoop(work: () => Promise<void>, perSecond: number, seconds: number): Promise<number[]> {
  const took: number[] = []
  const under: Promise<void>[] = []
  const begun = performance.now()
  for (let sent = 0; sent < perSecond * seconds; ) {
    const due = Math.min(perSecond * seconds, Math.floor(((performance.now() - begun) / 1000) * perSecond) + 1)
    for (; sent < due; sent++) {
      const start = performance.now()
      under.push(work().then(() => void took.push(performance.now() - start)))
    }
    await sleep(1)
  }
  await Promise.all(under)
  return took
}

export const quantile = (values: number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * q)]!

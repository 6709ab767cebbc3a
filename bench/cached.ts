import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import autocannon from 'autocannon'
import { startRedis } from '#apps/local/redis.ts'
import { limitedKey, median } from './accept.ts'
import type { Servers } from './servers.ts'

export type CachedFigures = {
  /** 202s per second of distinct prompts. */
  accept: number
  /** Finished tasks (200) per second of one prompt whose answer is cached. */
  cached: number
  ratio: number
  /** Latency of a cached answer, in milliseconds. */
  p50: number
  p99: number
}

const CONNECTIONS = 64
const PROMPT = 'Three titles for a post on Redis'
/** autocannon replaces `[<id>]` by a unique id. Both bodies have one, so that they cost the load generator the same. */
const body = (prompt: string) => JSON.stringify({ input: { prompt }, metadata: { request: '[<id>]' } })

/** Cached answers and accepted tasks over HTTP, alternating, so that other load affects both. */
export async function benchCached(
  servers: Servers,
  options: { rounds: number; seconds: number },
): Promise<CachedFigures> {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-bench-cache-'))
  const redis = await startRedis({ dir, role: 'cache' })
  try {
    const env = { ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: servers.upstreamUrl, CACHE_REDIS_URL: redis.url }
    const api = await servers.start('apps/api/main.ts', env)
    const key = await limitedKey(api.port)
    const url = `http://127.0.0.1:${api.port}/api/v1/tasks/generate`
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` }
    const worker = await servers.start('workers/main.ts', env)
    await remember(url, headers)
    await worker.stop()

    const shoot = async (prompt: string, status: '200' | '202', seconds = options.seconds) => {
      const result = await autocannon({
        url,
        method: 'POST',
        connections: CONNECTIONS,
        duration: seconds,
        headers,
        body: body(prompt),
        idReplacement: true,
      })
      const answered = result.statusCodeStats?.[status]?.count ?? 0
      const others = result['2xx'] - answered + result.non2xx + result.errors
      if (others > 0) throw new Error(`cached: ${answered} times ${status}, and ${others} others`)
      return { rate: answered / result.duration, p50: result.latency.p50, p99: result.latency.p99 }
    }
    const distinct = (seconds?: number) => shoot(`${PROMPT} [<id>]`, '202', seconds)
    const same = (seconds?: number) => shoot(PROMPT, '200', seconds)
    await distinct(3)
    await same(3)
    const runs = { accept: [] as number[], cached: [] as Awaited<ReturnType<typeof same>>[] }
    for (let round = 0; round < options.rounds; round++) {
      runs.accept.push((await distinct()).rate)
      runs.cached.push(await same())
    }
    await api.stop()
    const accept = median(runs.accept)
    const cached = median(runs.cached.map(one => one.rate))
    return {
      accept,
      cached,
      ratio: cached / accept,
      p50: median(runs.cached.map(one => one.p50)),
      p99: median(runs.cached.map(one => one.p99)),
    }
  } finally {
    await redis.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Puts the answer of the prompt into the cache. */
async function remember(url: string, headers: Record<string, string>): Promise<void> {
  const ask = async () => {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { ...headers, prefer: 'wait=30' },
      body: body(PROMPT),
    })
    return (await answer.json()) as { status: string; source?: string }
  }
  const first = await ask()
  const second = await ask()
  if (first.source !== 'ai' || second.source !== 'cache')
    throw new Error(`cached: answered by ${first.source}, then by ${second.source}`)
}

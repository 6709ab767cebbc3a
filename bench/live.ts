import autocannon from 'autocannon'
import { limitedKey, median } from './accept.ts'
import { portkeyHeaders, startPortkey } from './portkey.ts'
import type { Servers } from './servers.ts'

export type LiveFigures = { connections: number; portkey: Rate; sluice: Rate }[]
/** `p50` and `p99` in milliseconds. */
export type Rate = { perSecond: number; p50: number; p99: number }

const CONNECTIONS = [1, 16, 64]
const BODY = JSON.stringify({
  model: 'gpt-5.4-mini',
  max_completion_tokens: 100,
  messages: [{ role: 'user', content: 'Three titles for a post on Redis [<id>]' }],
})

/**
 * Chat completions through Portkey's gateway and through Sluice, alternating, from an upstream that answers at once. The upstream,
 * the load generator, Postgres and Redis share the machine with both.
 */
export async function benchLive(servers: Servers, options: { rounds: number; seconds: number }): Promise<LiveFigures> {
  const upstream = await servers.start('bench/upstream.ts', { WIRE: 'openai' })
  const url = `http://127.0.0.1:${upstream.port}`
  const portkey = await startPortkey(servers)
  const api = await servers.start('apps/api/main.ts', { OPENAI_API_KEY: 'none', OPENAI_BASE_URL: `${url}/v1` })
  const key = await limitedKey(api.port)
  const shoot = async (port: number, connections: number, headers: Record<string, string>, seconds: number) => {
    const result = await autocannon({
      url: `http://127.0.0.1:${port}/v1/chat/completions`,
      method: 'POST',
      connections,
      duration: seconds,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, ...headers },
      body: BODY,
      idReplacement: true,
    })
    if (result.non2xx > 0 || result.errors > 0)
      throw new Error(`live: ${result.non2xx} refused, ${result.errors} broken`)
    return { perSecond: result['2xx'] / result.duration, p50: result.latency.p50, p99: result.latency.p99 }
  }
  const viaPortkey = (connections: number, seconds: number) =>
    shoot(portkey.port, connections, portkeyHeaders(url), seconds)
  const viaSluice = (connections: number, seconds: number) => shoot(api.port, connections, {}, seconds)
  await viaPortkey(64, 5)
  await viaSluice(64, 8)
  const figures: LiveFigures = []
  for (const connections of CONNECTIONS) {
    const rounds = { portkey: [] as Rate[], sluice: [] as Rate[] }
    for (let round = 0; round < options.rounds; round++) {
      rounds.portkey.push(await viaPortkey(connections, options.seconds))
      rounds.sluice.push(await viaSluice(connections, options.seconds))
    }
    figures.push({ connections, portkey: medianOf(rounds.portkey), sluice: medianOf(rounds.sluice) })
  }
  await Promise.all([upstream.stop(), portkey.stop(), api.stop()])
  return figures
}

const medianOf = (rates: Rate[]): Rate => ({
  perSecond: median(rates.map(one => one.perSecond)),
  p50: median(rates.map(one => one.p50)),
  p99: median(rates.map(one => one.p99)),
})

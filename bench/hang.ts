import { setTimeout as sleep } from 'node:timers/promises'
import { limitedKey } from './accept.ts'
import { openLoop, quantile } from './latency.ts'
import type { Servers } from './servers.ts'

export type HangFigures = { healthyP99: number; p99: number; timeouts: number; twice: number }

/**
 * Two equal providers, of which one stops answering: the latency of tasks from five seconds later on, compared with the
 * healthy provider, and the number of tasks with a timeout.
 */
export async function benchHang(
  servers: Servers,
  options: { perSecond: number; seconds: number },
): Promise<HangFigures> {
  const first = await servers.start('bench/upstream.ts')
  const second = await servers.start('bench/upstream.ts', { WIRE: 'openai' })
  const env = {
    ANTHROPIC_API_KEY: 'none',
    ANTHROPIC_BASE_URL: `http://127.0.0.1:${first.port}`,
    OPENAI_API_KEY: 'none',
    OPENAI_BASE_URL: `http://127.0.0.1:${second.port}/v1`,
    CALL_TIMEOUT_SECONDS: '20',
  }
  const api = await servers.start('apps/api/main.ts', env)
  const worker = await servers.start('workers/main.ts', env)
  const key = await limitedKey(api.port)
  const outcomes: string[][] = []
  let asked = 0
  const task =
    (more: object = {}) =>
    async () => {
      const response = await fetch(`http://127.0.0.1:${api.port}/api/v1/tasks/generate`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, prefer: 'wait=60' },
        body: JSON.stringify({ input: { prompt: `Three titles ${++asked}` }, options: { fallback: 'none', ...more } }),
      })
      const body = (await response.json()) as { status: string; attempts: { outcome: string }[] }
      if (response.status !== 200 || body.status !== 'succeeded')
        throw new Error(`hang: ${response.status} ${body.status}`)
      outcomes.push(body.attempts.map(one => one.outcome))
    }
  await openLoop(task(), options.perSecond, 5)
  const healthy = await openLoop(task({ provider: 'openai' }), options.perSecond, options.seconds)
  await fetch(`http://127.0.0.1:${first.port}/hang`, { method: 'POST' })
  const caught = openLoop(task(), options.perSecond, 5)
  await sleep(5000)
  const after = await openLoop(task(), options.perSecond, options.seconds)
  await caught
  await Promise.all([api.stop(), worker.stop(), first.stop(), second.stop()])
  const timeouts = outcomes.map(list => list.filter(one => one === 'timeout').length)
  return {
    healthyP99: quantile(healthy, 0.99),
    p99: quantile(after, 0.99),
    timeouts: timeouts.filter(n => n > 0).length,
    twice: timeouts.filter(n => n > 1).length,
  }
}

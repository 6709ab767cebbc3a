import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { startRedis } from '#apps/local/redis.ts'
import { createGate, type Gate } from '#shared/gate/gate.ts'
import type { CallOutcome } from '#shared/gate/types.ts'
import { closeRedis, connectRedis, type Redis } from '#shared/redis/connect.ts'

export type GateFigures = {
  /** Decisions per second, open loop. */
  rate: number
  /** Latency of an acquire that answered go, in milliseconds. */
  p50: number
  p99: number
  /** CPU microseconds of Redis for an acquire and its report. */
  redisMicros: number
  /** The part of them that Redis reports for the script. */
  scriptMicros: number
}

const TARGET = { provider: 'bench', model: 'model' }
const LIMITS = { version: 1, rpm: 1e6, tpm: 1e9, itpm: 1e9, otpm: 1e9, concurrency: 10_000 }
const SUCCESS: CallOutcome = {
  result: 'success',
  latencyMs: 50,
  inputTokens: 90,
  outputTokens: 400,
  retryAfterMs: null,
}
const CALL_MS = 50

/** The gate under an open loop (a slow answer delays no later request), with all limits set and none reached. */
export async function benchGate(options: { perSecond: number; seconds: number }): Promise<GateFigures> {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-bench-gate-'))
  const server = await startRedis({ dir, role: 'queue' })
  const redis = connectRedis({ url: server.url, role: 'fast', name: 'bench', logger: pino({ level: 'silent' }) })
  try {
    await new Promise(resolve => redis.once('ready', resolve))
    const gate = createGate({
      redis,
      prefix: 'bench',
      limitsOf: () => LIMITS,
      seed: async () => ({ firstEver: true, calls: [], open: [] }),
    })
    await drive(gate, options.perSecond, 2)
    await redis.config('RESETSTAT')
    const before = await cpuMicros(redis)
    const took = await drive(gate, options.perSecond, options.seconds)
    const after = await cpuMicros(redis)
    const pairs = took.length
    return {
      rate: options.perSecond,
      p50: quantile(took, 0.5),
      p99: quantile(took, 0.99),
      redisMicros: (after - before) / pairs,
      scriptMicros: (await scriptMicros(redis)) / pairs,
    }
  } finally {
    closeRedis(redis)
    await server.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

async function drive(gate: Gate, perSecond: number, seconds: number): Promise<number[]> {
  const took: number[] = []
  const under: Promise<void>[] = []
  const one = async (id: string) => {
    const start = performance.now()
    const decision = await gate.acquire({
      ...TARGET,
      id,
      inputTokens: 100,
      outputTokens: 1000,
      maxWaitMs: 1000,
      lane: 'normal',
      wake: id,
    })
    took.push(performance.now() - start)
    if (decision.kind !== 'go') throw new Error(`gate: ${JSON.stringify(decision)}`)
    await sleep(CALL_MS)
    await gate.report(decision.permit, SUCCESS)
  }
  const begun = performance.now()
  for (let sent = 0; sent < perSecond * seconds; ) {
    const due = Math.min(perSecond * seconds, Math.floor(((performance.now() - begun) / 1000) * perSecond) + 1)
    for (; sent < due; sent++) under.push(one(`task-${sent}`))
    await sleep(1)
  }
  await Promise.all(under)
  return took
}

/** User and system time of the Redis process. */
async function cpuMicros(redis: Redis): Promise<number> {
  const info = await redis.info('cpu')
  const seconds = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)![1])
  return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6
}

async function scriptMicros(redis: Redis): Promise<number> {
  const info = await redis.info('commandstats')
  return Number(/^cmdstat_evalsha:.*?usec=(\d+)/m.exec(info)?.[1] ?? 0)
}

const quantile = (values: number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * q)]!

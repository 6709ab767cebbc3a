import { setTimeout as delay } from 'node:timers/promises'
import { ask } from './clients.ts'
import { PROVIDERS } from './plan.ts'
import type { LoggedCall } from './upstream.ts'

export type Second = {
  second: number
  calls: Record<string, number>
  ended: Record<string, number>
  faults: string[]
  /** State of the gates; absent: unknown. */
  gates: Record<string, unknown>
}
export type GateSample = { at: number; provider: string; state: unknown }

/** The events of each second, to find the cause of a failure. */
export function timelineOf(
  from: number,
  calls: LoggedCall[],
  tasks: { status: string; source: string | null; finished_at: Date | null }[],
  faults: { what: string; at: number }[],
  samples: GateSample[],
): Second[] {
  const seconds: Second[] = []
  const at = (ms: number): Second => {
    const second = Math.max(0, Math.floor((ms - from) / 1000))
    while (seconds.length <= second)
      seconds.push({ second: seconds.length, calls: {}, ended: {}, faults: [], gates: {} })
    return seconds[second]!
  }
  const count = (counts: Record<string, number>, name: string) => {
    counts[name] = (counts[name] ?? 0) + 1
  }
  for (const call of calls) count(at(call.at).calls, `${call.provider} ${call.end ?? 'open'}`)
  for (const task of tasks) {
    if (task.finished_at) count(at(task.finished_at.getTime()).ended, task.source ?? task.status)
  }
  for (const { what, at: ms } of faults) at(ms).faults.push(what)
  for (const { at: ms, provider, state } of samples) at(ms).gates[provider] = state
  return seconds
}

/** Reads the state of the gates every second. */
export function watchGates(apis: string[], adminKey: string, signal: AbortSignal): GateSample[] {
  const samples: GateSample[] = []
  const sample = async (provider: string, n: number) => {
    const answer = await ask(`${apis[n % apis.length]}/api/v1/providers/${provider}/health`, adminKey, {})
    if (answer?.status !== 200) return
    const at = performance.timeOrigin + performance.now()
    for (const { breaker, pause_ms, permits_left, waiting } of answer.body.models) {
      samples.push({ at, provider, state: { breaker, pause_ms, permits_left, waiting } })
    }
  }
  const run = async () => {
    for (let n = 0; !signal.aborted; n++) {
      await Promise.all(PROVIDERS.map(provider => sample(provider, n)))
      await delay(1000, undefined, { signal }).catch(() => {})
    }
  }
  void run()
  return samples
}

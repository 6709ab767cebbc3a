import type { ServerResponse } from 'node:http'
import { type Call, type Observer, type Script, startUpstream } from '#shared/testing/upstream.ts'
import { toAnswer } from '#shared/testing/upstream-script.ts'
import type { ProviderName } from './plan.ts'
import { createRandom } from './random.ts'

/** One call as the upstream saw it. Times are milliseconds since 1970, with fractions. */
export type LoggedCall = {
  provider: ProviderName
  /** Marker of the task. */
  marker: string
  /** The calling process, identified by its key. */
  caller: string
  at: number
  /** null: still open. */
  endedAt: number | null
  /** `answered`: complete; `refused`: error status; `broken`: cut off by the upstream; `dropped`: the client disconnected. */
  end: 'answered' | 'refused' | 'broken' | 'dropped' | null
  status: number
  /** The reported usage; null: none was reported. */
  usage: { inputTokens: number; outputTokens: number } | null
  /** The real usage, reported or not. */
  tokens: number
}

export type Misbehaviour = 'rate_limited' | 'server_error' | 'overloaded' | 'cut' | 'cut_midway' | 'hang' | 'no_usage'
export type Burst = { what: Exclude<Misbehaviour, 'no_usage'>; until: number }

/** Rate limit refusals are rare, because each pauses the provider for the whole fleet. */
const USUALLY: Record<Misbehaviour | 'none', number> = {
  rate_limited: 0.004,
  server_error: 0.015,
  overloaded: 0.01,
  cut: 0.01,
  cut_midway: 0.01,
  hang: 0.01,
  no_usage: 0.03,
  none: 0.911,
}
/** Some hangs exceed the call timeout of the workers. All are shorter than a lease of the gate. */
const HANG_MS: [number, number] = [2000, 8000]
const LATENCY_MS: [number, number] = [40, 500]

const MARKER = /\[\[([^\]]{1,64})]]/
const wallNow = () => performance.timeOrigin + performance.now()

export type ChaosUpstream = Awaited<ReturnType<typeof startChaosUpstream>>

/** A provider that misbehaves at random and records every call. */
export async function startChaosUpstream(provider: ProviderName, seed: number) {
  const calls: LoggedCall[] = []
  const counts = new Map<string, number>()
  let burst: Burst | null = null
  /** Set at the end of a run, so that the remaining calls succeed. */
  let well = false

  /** Drawn by task and call number, so that the result does not depend on the order of arrival. */
  function scriptFor(marker: string): Script {
    const count = (counts.get(marker) ?? 0) + 1
    counts.set(marker, count)
    const random = createRandom(seed, provider, marker, count)
    const latency = random.between(...LATENCY_MS)
    const usual = random.weighted(USUALLY)
    const inBurst = burst && wallNow() < burst.until && random.chance(0.8)
    const what = well ? 'none' : inBurst ? burst!.what : usual
    const text = `The answer to ${marker}.`.padEnd(random.int(40, 240), ' And so on.')
    return { text, delayMs: latency, ...scriptOf(what, random.between(...HANG_MS)) }
  }

  function observe(call: Call, script: Script, response: ServerResponse): Observer {
    const real = toAnswer(call, { ...script, usage: {} }).usage!
    const logged: LoggedCall = {
      ...{ provider, marker: markerOf(call), at: wallNow(), caller: callerOf(call) },
      ...{ endedAt: null, end: null, status: script.status ?? 200 },
      usage: script.usage === null ? null : { inputTokens: real.inputTokens, outputTokens: real.outputTokens },
      tokens: real.inputTokens + real.outputTokens,
    }
    calls.push(logged)
    let cutByUs = false
    response.once('finish', () => end(logged, script.status ? 'refused' : 'answered'))
    response.once('close', () => end(logged, cutByUs ? 'broken' : 'dropped'))
    return {
      begin: () => {
        cutByUs = script.fault !== undefined
      },
      // Once the client has the last chunk, it may call again before `finish` is emitted.
      answered: () => end(logged, 'answered'),
    }
  }

  const upstream = await startUpstream({ reply: call => scriptFor(markerOf(call)), observe })
  return {
    provider,
    url: upstream.url,
    calls,
    burst: (next: Burst) => {
      burst = next
    },
    behave: () => {
      well = true
    },
    close: upstream.close,
  }
}

const markerOf = (call: Call): string => MARKER.exec(call.prompt)?.[1] ?? ''

function end(call: LoggedCall, how: NonNullable<LoggedCall['end']>) {
  if (call.end !== null) return
  call.end = how
  call.endedAt = wallNow()
}

function scriptOf(what: Misbehaviour | 'none', hangMs: number): Script {
  if (what === 'rate_limited') return { status: 429, headers: { 'retry-after': '1' }, message: 'Too many requests' }
  if (what === 'server_error') return { status: 500 }
  if (what === 'overloaded') return { status: 529 }
  if (what === 'hang') return { delayMs: hangMs }
  if (what === 'no_usage') return { usage: null }
  return what === 'none' ? {} : { fault: what }
}

/** Both SDKs send the key; each process has its own. */
function callerOf({ headers }: Call): string {
  const key = headers['x-api-key'] ?? headers.authorization ?? ''
  return String(key).replace(/^Bearer /, '')
}

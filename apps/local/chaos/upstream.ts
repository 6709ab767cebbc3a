import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Call, json, pause, perform, type Script, toAnswer } from '#shared/testing/upstream-script.ts'
import { promptOf, wireOf } from '#shared/testing/upstream-wire.ts'
import type { ProviderName } from './plan.ts'
import { createRandom } from './random.ts'

/** One call as the upstream saw it. Times are of the wall clock, in milliseconds with fractions. */
export type LoggedCall = {
  provider: ProviderName
  /** Of the task. */
  marker: string
  /** The process that called, as its key says. */
  caller: string
  at: number
  /** null: still open. */
  endedAt: number | null
  /** `answered`: whole; `refused`: with an error status; `broken`: cut off by us; `dropped`: the client went away. */
  end: 'answered' | 'refused' | 'broken' | 'dropped' | null
  status: number
  /** What was reported; null: nothing was. */
  usage: { inputTokens: number; outputTokens: number } | null
  /** What was really used, whether reported or not. */
  tokens: number
}

export type Misbehaviour = 'rate_limited' | 'server_error' | 'overloaded' | 'cut' | 'cut_midway' | 'hang' | 'no_usage'
export type Burst = { what: Exclude<Misbehaviour, 'no_usage'>; until: number }

/** Few refusals for the rate: each pauses its provider for all. */
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
/** Longer than the workers' time-out for some, but shorter than a lease of the gate. */
const HANG_MS: [number, number] = [2000, 8000]
const LATENCY_MS: [number, number] = [40, 500]

const MARKER = /\[\[([^\]]{1,64})]]/
const wallNow = () => performance.timeOrigin + performance.now()

export type ChaosUpstream = Awaited<ReturnType<typeof startChaosUpstream>>

/** A provider that answers in its wire format, misbehaves by chance and writes down every call. */
export async function startChaosUpstream(provider: ProviderName, seed: number) {
  const calls: LoggedCall[] = []
  const counts = new Map<string, number>()
  let burst: Burst | null = null
  /** Set at the end, when everything that is still under way should come to it. */
  let well = false

  /** By the task and how often it was called, so that the order in which calls arrive changes nothing. */
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

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = wallNow()
    const wire = request.method === 'POST' ? wireOf(new URL(request.url ?? '/', 'http://upstream').pathname) : null
    if (!wire) return json(response, 404, { error: 'no such path' })
    const body = JSON.parse(await readBody(request)) as Record<string, unknown>
    const prompt = promptOf(body)
    const marker = MARKER.exec(prompt)?.[1] ?? ''
    const script = scriptFor(marker)
    const call = {
      ...{ provider: wire.name, path: request.url ?? '', model: String(body.model), prompt },
      ...{ streaming: wire.streams(body), headers: {}, body, startedAt: at, connection: undefined, aborted: false },
    } satisfies Call
    const real = toAnswer(call, { ...script, usage: {} }).usage!
    const logged: LoggedCall = {
      ...{ provider, marker, at, caller: callerOf(request) },
      ...{ endedAt: null, end: null, status: script.status ?? 200 },
      usage: script.usage === null ? null : { inputTokens: real.inputTokens, outputTokens: real.outputTokens },
      tokens: real.inputTokens + real.outputTokens,
    }
    calls.push(logged)
    response.once('finish', () => end(logged, script.status ? 'refused' : 'answered'))
    response.once('close', () => end(logged, cutByUs ? 'broken' : 'dropped'))
    let cutByUs = false
    const gone = new Promise<void>(resolve => response.once('close', resolve))
    await pause(script.delayMs ?? 0, gone)
    if (response.destroyed) return
    cutByUs = script.fault !== undefined
    const answer = toAnswer(call, script)
    // With the last piece on its way the client may call again before we hear that it has gone out.
    const leave = () => end(logged, 'answered')
    await perform({ wire, call, script, answer, response, gone, midway: async () => {}, leave })
  }

  const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    // Whoever goes away while sending has not called.
    handle(request, response).catch(() => response.destroy())
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject).listen(0, '127.0.0.1', resolve)
  await promise
  return {
    provider,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    burst: (next: Burst) => {
      burst = next
    },
    behave: () => {
      well = true
    },
    async close() {
      const closed = new Promise(done => server.close(done))
      server.closeAllConnections()
      await closed
    },
  }
}

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
function callerOf({ headers }: IncomingMessage): string {
  const key = headers['x-api-key'] ?? headers.authorization ?? ''
  return String(key).replace(/^Bearer /, '')
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts).toString()
}

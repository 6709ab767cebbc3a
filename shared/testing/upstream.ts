import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLimits } from './upstream-limits.ts'
import { formatOf, refusedFormat } from './upstream-schema.ts'
import { type Call, costOf, json, pause, perform, type Script, toAnswer } from './upstream-script.ts'
import { wireOf } from './upstream-wires/index.ts'
import { sentText } from './upstream-wires/wire.ts'

export type { Limits, Traffic } from './upstream-limits.ts'
export type { Call, Fault, Script } from './upstream-script.ts'

export type UpstreamOptions = {
  /** The answer when no script or rule applies. */
  reply?: string | ((call: Call) => string | Script | Promise<string | Script>)
  chunks?: number
  delayMs?: number
  /** Follows a call from the choice of its script to the end of `response`. */
  observe?: (call: Call, script: Script, response: ServerResponse) => Observer
}

export type Observer = {
  /** The answer begins, after the delay of the script. */
  begin(): void
  /** Runs before the last bytes of the answer. */
  answered(): void
}

/** Headers of every answer. Headers of a script are added. */
export type GivenHeaders = Record<string, string> | ((call: Call) => Record<string, string>) | null

export type LogEntry = Pick<Call, 'provider' | 'model' | 'prompt'> & {
  /** Every `[[name]]` in its prompt. */
  markers: string[]
  /** Arrival, milliseconds since 1970. */
  at: number
  /** The call exceeded a limit of the upstream. */
  refused: boolean
}

export type Upstream = Awaited<ReturnType<typeof startUpstream>>

type Gate = { when: RegExp | null; midway: boolean; opened: Promise<void>; waiting: number }

/** `[[name]]` in a prompt: the upstream counts calls by name. */
const MARKER = /\[\[([^\]]{1,64})\]\]/g
const markersOf = (prompt: string) => Array.from(prompt.matchAll(MARKER), ([, name = '']) => name)

/** The behaviour without the server: `handle` answers one request. */
function createUpstream(options: UpstreamOptions = {}) {
  const calls: Call[] = []
  const log: LogEntry[] = []
  const markers = new Map<string, number>()
  const queue: Script[] = []
  const rules: Script[] = []
  const gates = new Set<Gate>()
  const limits = createLimits()
  const waiters = new Set<{ ready: () => boolean; resolve: () => void }>()
  let models = ['llama3.2']
  let capabilities: string[] | null = null
  let answersPings = false
  let pings = 0
  let ownModels: string[] = []
  let fallback: Script | null = null
  let givenHeaders: GivenHeaders = null
  let arrivals = 0
  let aborts = 0

  const changed = () => {
    for (const waiter of waiters) {
      if (!waiter.ready()) continue
      waiters.delete(waiter)
      waiter.resolve()
    }
  }
  const until = (ready: () => boolean) => {
    if (ready()) return Promise.resolve()
    const { promise, resolve } = Promise.withResolvers<void>()
    waiters.add({ ready, resolve })
    return promise
  }
  const arrive = (prompt: string) => {
    arrivals++
    for (const name of markersOf(prompt)) markers.set(name, (markers.get(name) ?? 0) + 1)
    changed()
  }
  const matching = (when?: RegExp) => (when ? calls.filter(call => when.test(call.prompt)).length : arrivals)

  function scriptFor(call: Call): Script | null {
    const fits = (script: Script) => script.when === undefined || new RegExp(script.when).test(call.prompt)
    return queue.find(fits) ?? rules.findLast(fits) ?? fallback
  }
  /** Removes a one-shot script. Only an accepted call uses it up. */
  const take = (script: Script) => {
    const index = queue.indexOf(script)
    if (index >= 0) queue.splice(index, 1)
  }
  async function replyTo(call: Call): Promise<Script> {
    const reply = typeof options.reply === 'function' ? await options.reply(call) : options.reply
    return typeof reply === 'string' ? { text: reply } : (reply ?? {})
  }

  async function pass(call: Call, midway: boolean) {
    for (const gate of gates) {
      if (gate.midway !== midway || (gate.when && !gate.when.test(call.prompt))) continue
      gate.waiting++
      changed()
      await gate.opened
    }
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'http://upstream').pathname
    if (request.method === 'GET' && path === '/api/tags') {
      return json(response, 200, { models: models.map(name => ({ name, model: name, details: { family: name } })) })
    }
    if (path === '/api/show' && capabilities) return json(response, 200, { capabilities })
    if (request.method === 'GET' && path.endsWith('/models')) {
      pings++
      if (!answersPings && ownModels.length === 0)
        return json(response, 500, { error: { message: 'The upstream is down' } })
      return json(response, 200, {
        object: 'list',
        data: ownModels.map(id => ({ id, object: 'model' })),
        has_more: false,
        first_id: null,
        last_id: null,
      })
    }
    const wire = request.method === 'POST' ? wireOf(path) : null
    if (!wire) return json(response, 404, { error: `No such path: ${path}` })
    const body = JSON.parse(String(await readBody(request))) as Record<string, unknown>
    const call: Call = {
      provider: wire.name,
      path,
      model: String(body.model),
      prompt: sentText(body),
      streaming: wire.streams(body),
      headers: request.headers,
      body,
      startedAt: performance.now(),
      connection: request.socket.remotePort,
      aborted: false,
    }
    calls.push(call)
    const entry: LogEntry = {
      provider: call.provider,
      model: call.model,
      prompt: call.prompt,
      markers: markersOf(call.prompt),
      at: Date.now(),
      refused: false,
    }
    log.push(entry)
    const refusal = refusedFormat(formatOf(body))
    if (refusal) return json(response, 400, wire.error(400, refusal, undefined))
    const visit = limits.arrive(call.startedAt)
    response.once('close', visit.leave)
    const headers = typeof givenHeaders === 'function' ? givenHeaders(call) : givenHeaders
    for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value)
    const refuse = (ms: number) => {
      entry.refused = true
      arrive(call.prompt)
      json(response, 429, wire.error(429, 'Rate limit reached', undefined), {
        'retry-after': String(Math.ceil(ms / 1000)),
      })
    }
    if (visit.retryAfterMs !== null) return refuse(visit.retryAfterMs)
    const gone = new Promise<void>(resolve => response.once('close', resolve))
    const script = scriptFor(call) ?? (await replyTo(call))
    const answer = toAnswer(call, script, options.chunks)
    const tooMuch = visit.spend(costOf(call, script, answer), performance.now())
    if (tooMuch !== null) return refuse(tooMuch)
    take(script)
    response.once('close', () => {
      if (response.writableEnded || script.fault?.startsWith('cut')) return
      call.aborted = true
      aborts++
      changed()
    })
    const observer = options.observe?.(call, script, response)
    arrive(call.prompt)
    await Promise.race([pass(call, false), gone])
    const delay = script.delayMs ?? options.delayMs
    if (delay) await pause(delay, gone)
    if (response.destroyed) return
    observer?.begin()
    const leave = () => {
      visit.leave()
      observer?.answered()
    }
    await perform({ wire, call, script, answer, response, gone, midway: () => pass(call, true), leave })
  }

  return {
    handle,
    calls,
    /** Number of calls so far; with `when`, of calls whose prompt matches. */
    count: matching,
    /** Calls by the `[[name]]` in their prompt. */
    markers: () => Object.fromEntries(markers),
    /** One-shot scripts. Each is used by the first call that it fits, before rules and the default. */
    script: (...scripts: Script[]) => void queue.push(...scripts),
    /** A script for all prompts that match; the latest rule wins. */
    rule: (when: RegExp | string, script: Script) => void rules.push({ ...script, when }),
    /** The script of all other calls; null: `reply` again. */
    default: (script: Script | null) => {
      fallback = script
    },
    /** Headers of every further answer, including errors; null: none. */
    headers: (given: GivenHeaders) => {
      givenHeaders = given
    },
    /**
     * Answers 429 with a Retry-After to calls beyond these limits, which all models share; null: no limits.
     * Tokens are the reported input and output tokens.
     */
    limit: limits.limit,
    /** Statistics of the traffic, with or without limits. */
    traffic: limits.traffic,
    /** Every call in order of arrival, to compare with the ledger. */
    log: (): readonly LogEntry[] => log,
    /** The models of `GET /models`, in the format of OpenAI and Anthropic. */
    ownModels: (names: string[]) => {
      ownModels = names
    },
    /** The models that Ollama's /api/tags lists. */
    models: (names: string[]) => {
      models = names
    },
    /** What Ollama's /api/show says that every model can do; null: the path does not exist. */
    capabilities: (named: string[] | null) => {
      capabilities = named
    },
    /** Whether `GET /models`, which is also the ping, is answered; by default it gets a 500. */
    answerPings: (on: boolean) => {
      answersPings = on
    },
    pings: () => pings,
    reset: () => {
      answersPings = false
      pings = 0
      queue.length = rules.length = calls.length = log.length = arrivals = aborts = 0
      markers.clear()
      fallback = givenHeaders = null
      limits.reset()
    },
    /**
     * Makes further calls wait until `release()`: before the headers or, with `midway`, after half of the answer.
     * `waiting(n)` resolves when n calls wait.
     */
    hold: ({ when = null, midway = false }: { when?: RegExp | null; midway?: boolean } = {}) => {
      const { promise: opened, resolve } = Promise.withResolvers<void>()
      const gate: Gate = { when, midway, opened, waiting: 0 }
      gates.add(gate)
      return {
        release: () => {
          gates.delete(gate)
          resolve()
        },
        waiting: (count = 1) => until(() => gate.waiting >= count),
      }
    },
    /** Resolves when `count` calls have arrived since the start or the last `reset()`. */
    arrived: (count: number, when?: RegExp) => until(() => matching(when) >= count),
    /** Resolves when the clients of `count` calls have disconnected. */
    aborted: (count: number) => until(() => aborts >= count),
  }
}

/** Starts a fake Anthropic, OpenAI and Ollama on one port of 127.0.0.1, for the real SDKs. */
export async function startUpstream(options: UpstreamOptions & { port?: number } = {}) {
  const upstream = createUpstream(options)
  const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    upstream.handle(request, response).catch(error => {
      // A broken script must not look like a provider that hangs.
      if (!response.headersSent) json(response, 500, { error: { message: `upstream.ts: ${error}` } })
      else response.destroy()
    })
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject).listen(options.port ?? 0, '127.0.0.1', resolve)
  await promise
  const { port } = server.address() as AddressInfo
  return {
    ...upstream,
    url: `http://127.0.0.1:${port}`,
    port,
    close: async () => {
      const closed = new Promise(done => server.close(done))
      server.closeAllConnections()
      await closed
    },
    [Symbol.asyncDispose]() {
      return this.close()
    },
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
}

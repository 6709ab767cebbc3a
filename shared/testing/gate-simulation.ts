import { setImmediate as nextTurn } from 'node:timers/promises'
import { createGate, type Gate } from '#shared/gate/gate.ts'
import { keysOf } from '#shared/gate/script.ts'
import type { Target } from '#shared/gate/target.ts'
import type { Decision, GateLimits, GatePermit, SeedData } from '#shared/gate/types.ts'
import { mastersOf, type Redis } from '#shared/redis/connect.ts'

/** Simulates a fleet of worker processes in virtual time with a real Redis. */

export type SimulatedTask = {
  /** Arrival, ms from the start of the simulation. */
  at: number
  process: number
  input: number
  output: number
  /** Share of the estimated tokens that the call uses: 0 to 1. */
  used: number
  latencyMs: number
  /** From the permit to the start of the call, ms; less than validForMs. */
  startsAfterMs: number
  /** Delay of each retry beyond the time that the gate asked for, ms; used in turn. */
  lateMs: number[]
  lane: 'normal' | 'batch'
  fate: 'success' | 'failure' | 'neutral' | 'unused' | 'dies'
  /** Whether the task receives wake-ups. */
  hears: boolean
}

export type Simulation = {
  /** One connection per process. */
  redises: Redis[]
  prefix: string
  tasks: SimulatedTask[]
  /** In order of time. A process sees a change `lagMs` times its number later. */
  limits: { at: number; limits: Omit<GateLimits, 'version'> }[]
  lagMs: number
  /** When Redis loses all data. */
  losses: number[]
  /** When Redis returns to its data of `olderMs` before. */
  regressions?: { at: number; olderMs: number }[]
  /** Virtual time after which an unfinished task counts as starved. */
  untilMs: number
}

export type SimulatedCall = {
  id: string
  grantedAt: number
  startedAt: number
  tokens: { input: number; output: number }
  real: { input: number; output: number }
  reportedAt: number
  alive: boolean
  limits: GateLimits
}

const TARGET: Target = { provider: 'p', model: 'm' }
const BEGIN = 1_700_000_000_000
const RENEW_MS = 5000
/** After this time the calls of a dead process no longer count as open. */
const FOUND_DEAD_MS = 10_000

export async function simulate(simulation: Simulation) {
  const { redises, prefix, tasks, untilMs } = simulation
  let now = BEGIN
  let order = 0
  const events: { at: number; order: number; run: () => unknown }[] = []
  const later = (ms: number, run: () => unknown) => {
    events.push({ at: now + ms, order: order++, run })
  }
  const failures: unknown[] = []

  // The newest limits that reached Redis; at the moment of a change, the old and the new ones. After a loss, the limits of a
  // process that lags can take effect again, until all processes have the same version.
  let seen: GateLimits[] = []
  let seenAt = 0
  let mixed = false
  const noteSeen = (limits: GateLimits) => {
    if (seen.length > 0 && limits.version <= seen.at(-1)!.version) return
    seen = seenAt === now ? [...seen, limits] : [...seen.slice(-1), limits]
    seenAt = now
  }
  const inEffect = (): GateLimits => {
    const known = redises.map((_, process) => limitsFor(process))
    if (known.every(one => one.version === known[0]!.version)) mixed = false
    if (seenAt !== now && !mixed) return seen.at(-1)!
    const candidates = mixed ? [...seen, ...known] : seen
    const most = (name: keyof GateLimits) => {
      const all = candidates.map(one => one[name])
      return all.includes(null) ? null : Math.max(...(all as number[]))
    }
    return {
      version: seen.at(-1)!.version,
      rpm: most('rpm'),
      tpm: most('tpm'),
      itpm: most('itpm'),
      otpm: most('otpm'),
      concurrency: most('concurrency'),
    }
  }
  const limitsFor = (process: number): GateLimits => {
    const lag = process * simulation.lagMs
    const index = Math.max(
      0,
      simulation.limits.findLastIndex(one => BEGIN + one.at + lag <= now),
    )
    return { version: index, ...simulation.limits[index]!.limits }
  }

  const ledger: SimulatedCall[] = []
  const held = new Map<string, { permit: GatePermit; process: number }>()
  let lost = false
  let history = 0
  const seed = async (): Promise<SeedData> => ({
    // After a loss within a second of the first permit, the ledger cannot tell the target from a new one.
    firstEver: ledger.length === 0 && !lost,
    calls: ledger
      .filter(call => call.startedAt > now - 65_000)
      .map(call => {
        const tokens = call.reportedAt <= now ? call.real : call.tokens
        return { ageMs: now - call.startedAt, inputTokens: tokens.input, outputTokens: tokens.output }
      }),
    open: ledger
      .filter(call => (call.alive ? call.reportedAt > now : call.startedAt > now - FOUND_DEAD_MS))
      .map(({ id }) => ({ id })),
  })
  const gates: Gate[] = redises.map((redis, process) =>
    createGate({
      redis,
      prefix,
      seed,
      now: () => now,
      history: () => `${history}`,
      sleep: ms => new Promise<void>(resolve => later(ms, resolve)),
      limitsOf: () => {
        const limits = limitsFor(process)
        noteSeen(limits)
        return limits
      },
    }),
  )

  const done = new Set<string>()
  const never = new Set<string>()
  const overlaps: number[] = []
  const asking = new Set<string>()
  const comeBack = new Map<string, () => void>()

  async function ask(task: SimulatedTask, id: string, round: number): Promise<void> {
    comeBack.delete(id)
    if (asking.has(id) || done.has(id) || held.has(id)) return
    asking.add(id)
    const decision: Decision = await gates[task.process]!.acquire({
      ...TARGET,
      id,
      inputTokens: task.input,
      outputTokens: task.output,
      maxWaitMs: 3_600_000,
      lane: task.lane,
      wake: id,
    }).finally(() => asking.delete(id))
    if (decision.kind === 'go') return start(task, id, decision.permit)
    if (decision.kind === 'never') {
      never.add(id)
      done.add(id)
      return
    }
    let used = false
    const again = () => {
      if (used) return
      used = true
      void ask(task, id, round + 1).catch(error => failures.push(error))
    }
    comeBack.set(id, again)
    later(decision.ms + task.lateMs[round % task.lateMs.length]!, again)
  }

  function start(task: SimulatedTask, id: string, permit: GatePermit) {
    const limits = inEffect()
    const grantedAt = now
    held.set(id, { permit, process: task.process })
    if (limits.concurrency !== null && held.size > limits.concurrency) overlaps.push(now - BEGIN)
    later(task.startsAfterMs, () => {
      if (task.fate === 'unused') return finish(task, id, permit, null)
      const call: SimulatedCall = {
        id,
        grantedAt,
        startedAt: now,
        tokens: { input: task.input, output: task.output },
        real: { input: Math.floor(task.input * task.used), output: Math.floor(task.output * task.used) },
        reportedAt: Number.POSITIVE_INFINITY,
        alive: task.fate !== 'dies',
        limits,
      }
      ledger.push(call)
      if (task.fate === 'dies') {
        held.delete(id)
        done.add(id)
        return
      }
      later(task.latencyMs, () => {
        call.reportedAt = now
        finish(task, id, permit, call)
      })
    })
  }

  function finish(task: SimulatedTask, id: string, permit: GatePermit, call: SimulatedCall | null) {
    held.delete(id)
    done.add(id)
    const gate = gates[task.process]!
    const freed = call
      ? gate.report(permit, {
          result: task.fate as 'success',
          latencyMs: task.latencyMs,
          inputTokens: call.real.input,
          outputTokens: call.real.output,
          retryAfterMs: null,
        })
      : gate.release(permit)
    freed
      .then(wakes => {
        for (const wake of wakes) if (tasks[Number(wake)]!.hears) later(5, () => comeBack.get(wake)?.())
      })
      .catch(error => failures.push(error))
  }

  /** Redis no longer knows the newest limits: those of a process that lags can take effect again. */
  function forgetLimits() {
    lost = true
    mixed = true
    seen = []
  }

  async function loseData() {
    forgetLimits()
    for (const node of mastersOf(redises[0]!)) for (const key of await node.keys(`{${prefix}:*`)) await node.del(key)
  }

  /** Contents of Redis, by time. */
  const copies = new Map<number, Map<string, Buffer | null>>()
  async function copy(at: number) {
    const keys = keysOf(prefix, TARGET)
    const values = await Promise.all(keys.map(key => redises[0]!.dumpBuffer(key)))
    copies.set(at, new Map(keys.map((key, index) => [key, values[index] ?? null])))
  }

  async function regress(from: number) {
    forgetLimits()
    history++
    for (const [key, value] of copies.get(from)!)
      await (value ? redises[0]!.restore(key, 0, value, 'REPLACE') : redises[0]!.del(key))
  }

  /** Resolves when Redis has answered all commands of this moment. */
  async function settle() {
    const nodes = redises.flatMap(mastersOf) as unknown as { commandQueue: unknown[] }[]
    const busy = () => nodes.some(node => node.commandQueue.length > 0)
    for (let idle = 0; idle < 3; idle = busy() ? 0 : idle + 1) await nextTurn()
  }

  tasks.forEach((task, index) => {
    later(task.at, () => void ask(task, String(index), 0).catch(error => failures.push(error)))
  })
  for (const at of simulation.losses) later(at, loseData)
  for (const { at, olderMs } of simulation.regressions ?? []) {
    const from = Math.max(0, at - olderMs)
    later(from, () => copy(from))
    later(at, () => regress(from))
  }
  const renew = () => {
    for (const [process, gate] of gates.entries()) {
      const own = [...held.values()].filter(one => one.process === process).map(one => one.permit)
      if (own.length > 0) void gate.renew(own).catch(error => failures.push(error))
    }
    if (done.size < tasks.length) later(RENEW_MS, renew)
  }
  later(RENEW_MS, renew)

  while (events.length > 0 && now < BEGIN + untilMs && failures.length === 0) {
    events.sort((a, b) => a.at - b.at || a.order - b.order)
    now = events[0]!.at
    const due = events.splice(0, events.findIndex(one => one.at > now) >>> 0)
    for (const one of due) await one.run()
    await settle()
  }
  const finishedAt = now - BEGIN
  // After all leases have expired: the first visit sweeps, the second finds nothing left. `describe` alone sweeps nothing.
  for (const ms of [700_000, 700_000]) {
    now += ms
    await gates[0]!.setLimits(TARGET, limitsFor(0))
  }
  const [state] = await gates[0]!.describe([TARGET])
  return {
    calls: ledger.map(call => ({
      ...call,
      startedAt: call.startedAt - BEGIN,
      grantedAt: call.grantedAt - BEGIN,
      reportedAt: call.reportedAt - BEGIN,
    })),
    starved: tasks.flatMap((_, index) => (done.has(String(index)) ? [] : [index])),
    never: never.size,
    /** Times at which more permits were held than the concurrency limit allows. */
    overlaps,
    failures,
    finishedAt,
    state: state!,
  }
}

/** Windows of 60 s in which the started calls exceed the limit that applied when the newest permit was granted. */
export function overruns(calls: SimulatedCall[]) {
  const byStart = calls.toSorted((a, b) => a.startedAt - b.startedAt)
  const found: { at: number; limit: string; used: number; allowed: number }[] = []
  let first = 0
  for (const [index, last] of byStart.entries()) {
    while (byStart[first]!.startedAt <= last.startedAt - 60_000) first++
    const within = byStart.slice(first, index + 1)
    const newest = within.reduce((a, b) => (b.grantedAt >= a.grantedAt ? b : a))
    const sums = { rpm: within.length, tpm: 0, itpm: 0, otpm: 0 }
    for (const call of within) {
      const tokens = call.reportedAt <= newest.grantedAt ? call.real : call.tokens
      sums.itpm += tokens.input
      sums.otpm += tokens.output
      sums.tpm += tokens.input + tokens.output
    }
    for (const [limit, used] of Object.entries(sums)) {
      const allowed = newest.limits[limit as keyof typeof sums]
      if (allowed !== null && used > allowed) found.push({ at: last.startedAt, limit, used, allowed })
    }
  }
  return found
}

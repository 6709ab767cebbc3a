import { randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { type Closers, closeAll } from '../setup/servers.ts'
import { runClients } from './clients.ts'
import { type Injected, injectFaults } from './faults.ts'
import { startFleet } from './fleet.ts'
import { type Judgement, judge } from './judge.ts'
import { type ChaosOptions, MODELS, makePlan, type Plan } from './plan.ts'
import { patiently, type Servers, startServers } from './servers.ts'
import { installWitnesses, prepare } from './setup.ts'
import { watchGates } from './timeline.ts'
import { type ChaosUpstream, startChaosUpstream } from './upstream.ts'

export type ChaosReport = Judgement & {
  command: string
  options: ChaosOptions
  limits: Plan['limits']
  faults: Injected[]
  seconds: number
}

/** Shorter than some hangs of the upstream. */
const CALL_TIMEOUT_SECONDS = 6
const APIS = 2
const WORKERS = 3
/** The sweeper settles the calls of a dead worker 10 s after its last heartbeat or the start of Postgres. */
const SETTLING_MS = 45_000
const POLL_MS = 500

export const commandOf = ({ faults, tasks, seed, seconds }: ChaosOptions) =>
  `npm run chaos -- --faults ${faults} --tasks ${tasks} --seed ${seed} --seconds ${seconds}`

/**
 * Runs a complete installation on this machine, injects faults while clients submit tasks, waits until every task has ended,
 * and judges the records. Takes up to a minute longer than `seconds`. All processes have ended when it resolves or rejects.
 */
export async function runChaos(
  options: ChaosOptions,
  {
    log = () => {},
    signal = new AbortController().signal,
  }: { log?: (line: string) => void; signal?: AbortSignal } = {},
): Promise<ChaosReport> {
  const closers: Closers = []
  try {
    return await run(makePlan(options), log, signal, closers)
  } finally {
    await closeAll(closers)
  }
}

async function run(plan: Plan, log: (line: string) => void, signal: AbortSignal, closers: Closers) {
  const begun = performance.now()
  const servers = await startServers(closers)
  const upstreams = await Promise.all([
    startChaosUpstream('anthropic', plan.seed),
    startChaosUpstream('openai', plan.seed),
  ])
  for (const upstream of upstreams) closers.push(() => upstream.close())
  const adminKey = `sk-chaos-${randomBytes(24).toString('base64url')}`
  const env = envFor(servers, upstreams, adminKey, plan)
  const fleet = await startFleet(servers, APIS, env, log, closers)
  signal.throwIfAborted()
  await installWitnesses(servers.sql)
  const keys = await prepare(fleet.apis[0]!, adminKey, plan)
  // After the limits were set, so that no worker has started with other limits.
  await fleet.startWorkers(WORKERS)
  log(`everything is up; ${plan.tasks.length} tasks in ${plan.submitMs / 1000} s, ${plan.faults.length} faults`)

  const lag = monitorEventLoopDelay({ resolution: 10 })
  lag.enable()
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  const bound = plan.seconds * 1000 + SETTLING_MS
  const faults = injectFaults(plan.faults, { servers, fleet, upstreams, log }, stop)
  const clients = runClients(plan, fleet.apis, keys, stop)
  const from = performance.now()
  const gates = watchGates(fleet.apis, adminKey, stop)
  const [{ injected, missed }, notes] = await Promise.all([
    faults.then(async done => {
      for (const upstream of upstreams) upstream.behave()
      await Promise.all([servers.redis.start(), servers.postgres.start()])
      return done
    }),
    clients,
    endOfTasks(servers, { quiet: Promise.all([faults, clients]), bound: from + bound, log, stop }).finally(() =>
      over.abort(),
    ),
  ])
  signal.throwIfAborted()
  lag.disable()
  const lateMs = lag.max / 1e6
  await fleet.scrape()
  await fleet.end()
  // By then the upstreams have noticed that the callers of open calls are gone.
  await delay(100)
  const calls = upstreams.flatMap(upstream => upstream.calls)
  const judgement = await judge({
    plan,
    from: performance.timeOrigin + from,
    notes,
    calls,
    injected,
    gates,
    fleet,
    sql: servers.sql,
    lateMs,
  })
  const { rows } = judgement
  const kinds = Object.entries(Object.groupBy(injected, one => one.kind)).map(
    ([kind, some]) => `${some.length} ${kind}`,
  )
  const rest = missed > 0 ? `; ${missed} had no running target` : ''
  rows.unshift({ what: 'faults', value: `${injected.length}: ${kinds.join(', ')}${rest}`, wanted: null, ok: true })
  rows.push({
    what: 'longest stall of the judge',
    value: `${Math.round(lateMs)} ms`,
    wanted: null,
    ok: true,
  })
  const seconds = Math.round((performance.now() - begun) / 1000)
  const { seed, tasks, faults: count } = plan
  const options: ChaosOptions = { seed, tasks: tasks.length, faults: count.length, seconds: plan.seconds }
  return { ...judgement, command: commandOf(options), options, limits: plan.limits, faults: injected, seconds }
}

function envFor(servers: Servers, upstreams: ChaosUpstream[], adminKey: string, plan: Plan) {
  const [anthropic, openai] = upstreams
  return (caller: string): Record<string, string> => ({
    PATH: process.env.PATH ?? '',
    DATABASE_URL: servers.postgres.url,
    REDIS_URL: servers.redis.url,
    CACHE_REDIS_URL: servers.cache.url,
    ADMIN_KEY: adminKey,
    LOG_LEVEL: process.env.CHAOS_LOG ?? 'silent',
    // Shorter than the shift of the clock fault: a process that used its own clock would delete results.
    RESULT_RETENTION_DAYS: '30',
    CALL_TIMEOUT_SECONDS: String(CALL_TIMEOUT_SECONDS),
    // More than the limits admit, so that the limits decide.
    WORKER_CONCURRENCY: String(Math.max(20, plan.limits.anthropic.concurrency + plan.limits.openai.concurrency)),
    PROVIDERS: 'anthropic,openai',
    ANTHROPIC_API_KEY: caller,
    ANTHROPIC_BASE_URL: anthropic!.url,
    ANTHROPIC_MODEL: MODELS.anthropic,
    OPENAI_API_KEY: caller,
    OPENAI_BASE_URL: `${openai!.url}/v1`,
    OPENAI_MODEL: MODELS.openai,
  })
}

/** Resolves when all tasks have ended and all calls are settled, or after the bound. `quiet` resolves after the last fault and client. */
async function endOfTasks(
  { sql }: Servers,
  o: { quiet: Promise<unknown>; bound: number; log: (line: string) => void; stop: AbortSignal },
): Promise<void> {
  let quiet = false
  void o.quiet.then(() => {
    quiet = true
  })
  const count = `SELECT (SELECT count(*)::int FROM tasks WHERE status IN ('queued', 'running')) AS live,
    (SELECT count(*)::int FROM attempts WHERE outcome = 'started') AS open`
  while (!o.stop.aborted && performance.now() < o.bound) {
    await delay(POLL_MS, undefined, { signal: o.stop }).catch(() => {})
    const rows = await patiently(() => sql<{ live: number; open: number }>(count), 10_000)
    if (quiet && rows?.[0]?.live === 0 && rows[0].open === 0) return
  }
  if (!o.stop.aborted) o.log('not everything has ended in time')
}

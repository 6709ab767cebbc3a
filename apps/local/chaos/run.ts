import { randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { runClients } from './clients.ts'
import { type Injected, injectFaults } from './faults.ts'
import { startFleet } from './fleet.ts'
import { judge, type Verdict } from './judge.ts'
import { type ChaosOptions, MODELS, makePlan, type Plan } from './plan.ts'
import { type Closers, patiently, type Servers, startServers } from './servers.ts'
import { installWitnesses, prepare } from './setup.ts'
import { watchGates } from './timeline.ts'
import { type ChaosUpstream, startChaosUpstream } from './upstream.ts'

export type ChaosReport = Verdict & {
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
/** Dead workers are found out 10 s after they or Postgres came back; then their calls are settled. */
const SETTLING_MS = 45_000
const LOOK_MS = 500

export const commandOf = ({ faults, tasks, seed, seconds }: ChaosOptions) =>
  `npm run chaos -- --faults ${faults} --tasks ${tasks} --seed ${seed} --seconds ${seconds}`

/**
 * Runs everything on this machine, kills and freezes parts of it while clients submit tasks, waits until every task has
 * ended and judges. Bounded in time: `seconds`, and about a minute. What it starts is gone when it resolves or rejects.
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
    for (let close = closers.pop(); close; close = closers.pop()) await close()
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
  // Now, so that none of them has ever known other limits.
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
  // What was still being answered has been dropped by now.
  await delay(100)
  const calls = upstreams.flatMap(upstream => upstream.calls)
  const verdict = await judge({
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
  const { rows } = verdict
  const kinds = Object.entries(Object.groupBy(injected, one => one.kind)).map(
    ([kind, some]) => `${some.length} ${kind}`,
  )
  const rest = missed > 0 ? `; ${missed} found nothing to hit` : ''
  rows.unshift({ what: 'faults', value: `${injected.length}: ${kinds.join(', ')}${rest}`, wanted: null, ok: true })
  rows.push({
    what: 'the judge itself was late by at most',
    value: `${Math.round(lateMs)} ms`,
    wanted: null,
    ok: true,
  })
  const seconds = Math.round((performance.now() - begun) / 1000)
  const { seed, tasks, faults: count } = plan
  const options: ChaosOptions = { seed, tasks: tasks.length, faults: count.length, seconds: plan.seconds }
  return { ...verdict, command: commandOf(options), options, limits: plan.limits, faults: injected, seconds }
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
    CALL_TIMEOUT_SECONDS: String(CALL_TIMEOUT_SECONDS),
    // More than the limits let pass, so that those decide.
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

/** Resolves when all tasks have ended and all calls are settled, or when that takes too long. `quiet`: no more of either. */
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
    await delay(LOOK_MS, undefined, { signal: o.stop }).catch(() => {})
    const rows = await patiently(() => sql<{ live: number; open: number }>(count), 10_000)
    if (quiet && rows?.[0]?.live === 0 && rows[0].open === 0) return
  }
  if (!o.stop.aborted) o.log('not everything has ended in time')
}

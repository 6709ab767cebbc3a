import { setTimeout as delay } from 'node:timers/promises'
import type { Restartable } from '../setup/servers.ts'
import type { Fleet, Slot } from './fleet.ts'
import type { FaultKind, FaultPlan } from './plan.ts'
import { createRandom } from './random.ts'
import { flush, losePart, pickParts, type Servers } from './servers.ts'
import type { Burst, ChaosUpstream } from './upstream.ts'

export type Injected = {
  kind: FaultKind
  what: string
  /** Milliseconds since 1970. */
  at: number
  /** The process whose calls the fault affects; `*`: all processes; null: none. */
  caller: string | null
}

/** Failures are rare, because most of them open a circuit breaker for half a minute, which hides everything else. */
const BURSTS: Record<Burst['what'], number> = {
  rate_limited: 4,
  hang: 2,
  server_error: 1,
  overloaded: 1,
  cut: 1,
  cut_midway: 1,
}
/** Longer than the retention of results. */
const CLOCK_DAYS = 40
/** How long a fault waits for a running victim. */
const PATIENCE_MS = 60_000

type FaultDeps = { servers: Servers; fleet: Fleet; upstreams: ChaosUpstream[]; log: (line: string) => void }

/** Injects each fault at its time, also during earlier faults. Resolves when the last one is over. */
export async function injectFaults(
  plan: FaultPlan[],
  deps: FaultDeps,
  signal: AbortSignal,
): Promise<{ injected: Injected[]; missed: number }> {
  const injected: Injected[] = []
  const begin = performance.now()
  let missed = 0
  await Promise.all(
    plan.map(async fault => {
      await delay(begin + fault.atMs - performance.now(), undefined, { signal }).catch(() => {})
      const strike = await whenPossible(() => prepare(fault, deps), signal)
      if (!strike) {
        missed++
        return
      }
      const one = { kind: fault.kind, what: strike.what, at: performance.timeOrigin + performance.now() }
      injected.push({ ...one, caller: strike.caller })
      deps.log(`${strike.what} (${Math.round(fault.forMs)} ms)`)
      await strike.run()
    }),
  )
  return { injected: injected.toSorted((a, b) => a.at - b.at), missed }
}

type Strike = { what: string; caller: string | null; run: () => Promise<void> }

async function whenPossible(prepare: () => Strike | null, signal: AbortSignal): Promise<Strike | null> {
  const until = performance.now() + PATIENCE_MS
  while (!signal.aborted && performance.now() < until) {
    const strike = prepare()
    if (strike) return strike
    await delay(100, undefined, { signal }).catch(() => {})
  }
  return null
}

/** @returns null: everything that the fault could hit is down already */
function prepare({ kind, forMs, draw }: FaultPlan, { servers, fleet, upstreams }: FaultDeps): Strike | null {
  const victim = (role: Slot['role']) => {
    const fit = fleet.slots.filter(slot => slot.role === role && slot.fit())
    return fit[Math.floor(draw * fit.length)]
  }
  const bounce = (server: Restartable, what: string, caller: string | null): Strike | null =>
    server.up
      ? {
          what,
          caller,
          async run() {
            await server.kill()
            await delay(forMs)
            await server.start()
          },
        }
      : null
  switch (kind) {
    case 'worker':
    case 'api': {
      const slot = victim(kind)
      if (!slot) return null
      const { caller } = slot.life()
      return { what: `kill -9 of ${caller}`, caller, run: () => slot.kill(forMs) }
    }
    case 'stop': {
      const slot = victim('worker')
      if (!slot) return null
      const { caller } = slot.life()
      return { what: `SIGSTOP of ${caller}`, caller, run: () => slot.freeze(forMs) }
    }
    case 'redis':
      return bounce(servers.redis, 'kill -9 of Redis', null)
    case 'postgres':
      // All workers may have to stop their calls.
      return bounce(servers.postgres, 'kill -9 of Postgres', '*')
    case 'failover':
      return servers.redis.up
        ? { what: 'failover of Redis', caller: null, run: () => servers.redis.failOver(forMs) }
        : null
    case 'older':
      return servers.redis.up
        ? { what: 'Redis comes back with older state', caller: null, run: () => servers.redis.regress(forMs) }
        : null
    case 'partial': {
      const parts = pickParts(createRandom('partial', draw))
      return servers.redis.up
        ? {
            what: `loss of ${parts} in Redis`,
            caller: null,
            run: async () => void (await losePart(servers.redis.url, parts)),
          }
        : null
    }
    case 'clock': {
      const slot = victim(draw < 0.5 ? 'worker' : 'api')
      if (!slot) return null
      const { caller } = slot.life()
      const days = CLOCK_DAYS
      return {
        what: `kill -9 of ${caller}, which comes back ${days} days ahead`,
        caller,
        run: () => slot.kill(forMs, days),
      }
    }
    case 'flush': {
      // Mostly the Redis with the queue and the permits.
      const [server, name] = draw < 0.8 ? [servers.redis, 'Redis'] : [servers.cache, 'the cache']
      return server.up
        ? { what: `FLUSHALL of ${name}`, caller: null, run: async () => void (await flush(server.url)) }
        : null
    }
    case 'burst': {
      const random = createRandom('burst', draw)
      const upstream = random.pick(upstreams)
      const what = random.weighted(BURSTS)
      const until = performance.timeOrigin + performance.now() + forMs
      return {
        what: `${what} of ${upstream.provider}`,
        caller: null,
        async run() {
          upstream.burst({ what, until })
          await delay(forMs)
        },
      }
    }
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import type { Fleet, Slot } from './fleet.ts'
import type { FaultKind, FaultPlan } from './plan.ts'
import { createRandom } from './random.ts'
import { flush, type Killable, type Servers } from './servers.ts'
import type { Burst, ChaosUpstream } from './upstream.ts'

export type Injected = {
  kind: FaultKind
  what: string
  /** By the wall clock. */
  at: number
  /** Whose calls it hits: of one process, of all (`*`), of none. */
  caller: string | null
}

/** Most failures open a circuit breaker for half a minute, and then there is little to be seen. */
const BURSTS: Record<Burst['what'], number> = {
  rate_limited: 4,
  hang: 2,
  server_error: 1,
  overloaded: 1,
  cut: 1,
  cut_midway: 1,
}
/** For a victim that fits; one is always on its way back. */
const PATIENCE_MS = 60_000

type FaultDeps = { servers: Servers; fleet: Fleet; upstreams: ChaosUpstream[]; log: (line: string) => void }

/** Injects each at its time, whatever the ones before it are doing. Resolves when the last of them is over. */
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

/** null: everything that it could hit is down already. */
function prepare({ kind, forMs, draw }: FaultPlan, { servers, fleet, upstreams }: FaultDeps): Strike | null {
  const victim = (role: Slot['role']) => {
    const fit = fleet.slots.filter(slot => slot.role === role && slot.fit())
    return fit[Math.floor(draw * fit.length)]
  }
  const bounce = (server: Killable, what: string, caller: string | null): Strike | null =>
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
    case 'flush': {
      // Mostly the one with the queue and the permits.
      const [server, name] = draw < 0.8 ? [servers.redis, 'Redis'] : [servers.cache, 'the cache']
      return server.up ? { what: `FLUSHALL of ${name}`, caller: null, run: () => flush(server.url) } : null
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

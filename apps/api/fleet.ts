import type { Db } from '#shared/db/pool.ts'
import { listWorkers, type ProviderState } from '#shared/db/workers.ts'
import type { Gate } from '#shared/gate/gate.ts'
import type { TargetState } from '#shared/gate/types.ts'

const FRESH_MS = 1000

export type FleetState = {
  /** Of every model that has been called lately. */
  targets: TargetState[]
  /** What the live workers' own calls say, by provider; nothing of those that no worker is configured for. */
  workers: ReadonlyMap<string, ProviderState[]>
}

export type Fleet = {
  /** At most a second old; whoever asks together shares one look. @throws GateUnavailable, DatabaseUnavailable */
  look(): Promise<FleetState>
  /** Something was changed: the next look is a new one. */
  forget(): void
}

/** How the providers do, as the calls of the whole fleet show. */
export function createFleet({
  gate,
  db,
  now = () => performance.now(),
}: {
  gate: Pick<Gate, 'describe' | 'targets'>
  db: Db
  now?: () => number
}): Fleet {
  let last: { at: number; state: Promise<FleetState> } | null = null

  async function look(): Promise<FleetState> {
    const [states, live] = await Promise.all([gate.targets().then(gate.describe), listWorkers(db)])
    const workers = new Map<string, ProviderState[]>()
    for (const [name, state] of live.flatMap(worker => Object.entries(worker.providers)))
      workers.set(name, [...(workers.get(name) ?? []), state])
    return { targets: states.filter(one => one.seeded), workers }
  }

  return {
    look() {
      if (last && now() - last.at < FRESH_MS) return last.state
      const mine = { at: now(), state: look() }
      last = mine
      mine.state.catch(() => {
        if (last === mine) last = null
      })
      return mine.state
    },
    forget() {
      last = null
    },
  }
}

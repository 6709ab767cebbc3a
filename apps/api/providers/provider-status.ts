import type { Db } from '#shared/db/pool.ts'
import { listWorkers, type ProviderState } from '#shared/db/workers.ts'
import type { Gate } from '#shared/gate/gate.ts'
import type { TargetState } from '#shared/gate/types.ts'

const FRESH_MS = 1000

export type ProviderStatus = {
  /** Every model that was called recently. */
  targets: TargetState[]
  /** What the live workers report, by provider. A provider that no worker is configured for is absent. */
  workers: ReadonlyMap<string, ProviderState[]>
}

export type ProviderStatusReader = {
  /** At most a second old; concurrent callers share one read. @throws GateUnavailable, DatabaseUnavailable */
  read(): Promise<ProviderStatus>
  /** After a change: the next call reads again. */
  invalidate(): void
}

/** What the workers report, by provider. */
export function statesByProvider(
  workers: { providers: Record<string, ProviderState> }[],
): Map<string, ProviderState[]> {
  const reports = workers.flatMap(worker => Object.entries(worker.providers))
  const groups = Map.groupBy(reports, ([name]) => name)
  return new Map([...groups].map(([name, group]) => [name, group.map(([, state]) => state)]))
}

/** The state of the providers, from the calls of all workers. */
export function createProviderStatusReader({
  gate,
  db,
  now = () => performance.now(),
}: {
  gate: Pick<Gate, 'describe' | 'targets'>
  db: Db
  now?: () => number
}): ProviderStatusReader {
  let last: { at: number; status: Promise<ProviderStatus> } | null = null

  async function load(): Promise<ProviderStatus> {
    const [states, live] = await Promise.all([gate.targets().then(gate.describe), listWorkers(db)])
    return { targets: states.filter(one => one.seeded), workers: statesByProvider(live) }
  }

  return {
    read() {
      if (last && now() - last.at < FRESH_MS) return last.status
      // Fresh until it is settled, so that no second read starts meanwhile.
      const current = { at: Number.POSITIVE_INFINITY, status: load() }
      last = current
      current.status.then(
        () => {
          current.at = now()
        },
        () => {
          if (last === current) last = null
        },
      )
      return current.status
    },
    invalidate() {
      last = null
    },
  }
}

import type { Reason, Retire } from '#shared/process/parent-ipc.ts'
import type { Child } from './child.ts'
import { endIfStuck } from './liveness-probe.ts'
import { settlesWithin } from './process.ts'
import { type SuperviseDeps, type Supervised, supervise } from './supervise.ts'

export type PoolOptions = SuperviseDeps & {
  name: string
  /** Bounds of the number of processes. */
  min: number
  max: number
  /** Starts a process. `index` is not used by another process of the machine as long as this one lives. */
  start: (o: { index: number; signal: AbortSignal }) => Promise<Child>
  takeIndex: () => number
  freeIndex: (index: number) => void
  /** @returns the status of `/health/live`; null: no answer */
  probe: (child: Child) => Promise<number | null>
  /** How long a process that leaves may finish its calls before it is told to stop. */
  retireMs: number
  onReplaced: (reason: Reason) => void
}

export type FirstStart = (name: string, start: (signal: AbortSignal) => Promise<Child>) => Promise<Child>

export type Pool = {
  /** Starts `min` processes. Rejects with the first that does not start. */
  open(first: FirstStart): Promise<void>
  /** Brings the pool to this number of processes, within its bounds. Processes that leave are not waited for. */
  resize(processes: number): void
  stop(): Promise<void>
  kill(): void
}

type Member = { index: number; supervised: Supervised<Child> }

/** Keeps a number of worker processes running. */
export function createPool(o: PoolOptions): Pool {
  const members: Member[] = []
  const leaving = new Map<Member, Promise<void>>()
  const stopping = Promise.withResolvers<void>()
  let closed = false

  function createMember() {
    const index = o.takeIndex()
    const name = o.max === 1 ? o.name : `${o.name} ${index + 1}`
    let reason: Reason = 'exited'
    async function start(signal: AbortSignal): Promise<Child> {
      const child = await o.start({ index, signal })
      reason = 'exited'
      const onStuck = (found: Reason) => {
        reason = found
      }
      void endIfStuck(child, { ...o, name, probe: () => o.probe(child), onStuck })
      return child
    }
    /** @param first the process, if it runs already */
    function join(first?: Child): void {
      const onExit = () => o.onReplaced(reason)
      members.push({ index, supervised: supervise({ ...o, name, start, onExit, ...(first && { first }) }) })
    }
    return { name, start, join }
  }

  /** The process takes no more jobs, finishes its calls and exits. */
  function retire(member: Member): void {
    const gone = member.supervised
      .stop(async child => {
        child.send({ type: 'retire' } satisfies Retire)
        await settlesWithin(Promise.race([child.exited, stopping.promise]), o.retireMs)
      })
      .finally(() => {
        leaving.delete(member)
        o.freeIndex(member.index)
      })
    leaving.set(member, gone)
  }

  return {
    async open(first) {
      const openOne = async () => {
        const { name, start, join } = createMember()
        join(await first(name, start))
      }
      await Promise.all(Array.from({ length: o.min }, openOne))
    },
    resize(wanted) {
      const processes = Math.max(o.min, Math.min(o.max, wanted))
      if (closed || processes === members.length) return
      o.log(`${o.name}: ${members.length} -> ${processes} processes`)
      while (members.length < processes) createMember().join()
      // The youngest leave: the others have open connections and compiled code.
      while (members.length > processes) retire(members.pop()!)
    },
    async stop() {
      closed = true
      stopping.resolve()
      await Promise.all([...members.map(({ supervised }) => supervised.stop()), ...leaving.values()])
    },
    kill() {
      closed = true
      for (const { supervised } of [...members, ...leaving.keys()]) supervised.kill()
    },
  }
}

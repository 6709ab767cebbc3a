import type { Pulse, Reason } from '#shared/parent.ts'
import type { Child } from './child.ts'
import { settlesWithin } from './process.ts'
import { type SuperviseDeps, type Supervised, supervise } from './supervise.ts'

/** A pool's processes between its bounds, and how many tasks each runs at a time. */
export type Plan = { processes: number; tasks: number }
export type PoolBounds = {
  min: number
  max: number
  /** Tasks that one process runs at a time: from, and up to which it is raised before there is another process. */
  tasks: { min: number; max: number }
}

/** First concurrency, then processes: another task at a time costs some kilobytes, another process some 100 MB. */
export function planFor(slots: number, { min, max, tasks }: PoolBounds): Plan {
  const processes = Math.max(min, Math.min(max, Math.ceil(slots / tasks.max)))
  const each = processes === 0 ? tasks.min : Math.ceil(slots / processes)
  return { processes, tasks: Math.max(tasks.min, Math.min(tasks.max, each)) }
}

export type PoolOptions = SuperviseDeps & {
  name: string
  bounds: PoolBounds
  /** Starts a process; `index` is its own as long as it lives. */
  start: (o: {
    index: number
    tasks: number
    signal: AbortSignal
    onMessage: (message: unknown) => void
  }) => Promise<Child>
  takeIndex: () => number
  freeIndex: (index: number) => void
  /** How long who is to go may finish its calls before it is told to stop. */
  retireMs: number
  /** Occupying more, one is replaced; 0: never. */
  maxMb: number
  onReplaced: (reason: Reason) => void
}

export type Pool = {
  readonly name: string
  /** Starts its least processes; rejects with the first that does not start. */
  open(first: (start: () => Promise<Child>, name: string) => Promise<Child>): Promise<void>
  /** Brings the pool to as many slots as its bounds allow. What is to go is no longer waited for. */
  resize(slots: number): void
  /** Replaces who is frozen, takes no jobs, or has become too big. */
  inspect(): void
  size(): { processes: number; tasks: number; leaving: number }
  stop(): Promise<void>
  kill(): void
}

/** Silent for so long: its event loop does not turn, or the process was stopped. */
export const FROZEN_MS = 15_000
/** One that is as big a minute after its start would be so for ever: then the bound is too low, and replacing it no help. */
const GROWN_UP_MS = 60_000
/** Longer between two looks than this, it was we who slept. */
const ASLEEP_MS = 6000
const FIRST_BACKOFF_MS = 500
const MAX_BACKOFF_MS = 30_000

type Member = {
  index: number
  supervised: Supervised<Child>
  bornAt: number
  heardAt: number
  pulse: Pulse | null
  beingReplaced: boolean
}

export function createPool(o: PoolOptions): Pool {
  const members: Member[] = []
  const leaving = new Map<Member, { hurry: () => void; gone: Promise<void> }>()
  const closing = new AbortController()
  const starting = new Set<Promise<unknown>>()
  let plan = planFor(0, o.bounds)
  let [failures, notBefore, lookedAt] = [0, 0, o.now()]

  async function launch(first: (start: () => Promise<Child>, name: string) => Promise<Child>): Promise<Member> {
    const index = o.takeIndex()
    const name = o.bounds.max === 1 ? o.name : `${o.name} ${index + 1}`
    const member = { index, bornAt: o.now(), heardAt: o.now(), pulse: null, beingReplaced: false } as Partial<Member>
    const onMessage = (message: unknown) => {
      member.heardAt = o.now()
      if ((message as Pulse)?.type === 'pulse') member.pulse = message as Pulse
    }
    const start = async (signal: AbortSignal) => {
      const { tasks } = plan
      const child = await o.start({ index, tasks, signal, onMessage })
      // The plan may have changed while it started.
      if (plan.tasks !== tasks) child.send({ type: 'concurrency', tasks: plan.tasks })
      Object.assign(member, { bornAt: o.now(), heardAt: o.now(), pulse: null })
      return child
    }
    try {
      const child = await first(() => start(closing.signal), name)
      const onExit = () => {
        if (!member.beingReplaced) o.onReplaced('exited')
      }
      member.supervised = supervise({ ...o, name, first: child, start, onExit })
      members.push(member as Member)
      return member as Member
    } catch (error) {
      o.freeIndex(index)
      throw error
    }
  }

  /** Takes it out of the pool: it takes no more jobs, finishes its calls and ends. */
  function retire(member: Member): void {
    members.splice(members.indexOf(member), 1)
    const { promise: hurried, resolve: hurry } = Promise.withResolvers<void>()
    const gone = member.supervised
      .stop(async child => {
        child.send({ type: 'retire' })
        await settlesWithin(Promise.race([child.exited, hurried]), o.retireMs)
      })
      .finally(() => {
        leaving.delete(member)
        o.freeIndex(member.index)
      })
    leaving.set(member, { hurry, gone })
  }

  function grow(done: (started: boolean) => void = () => {}): void {
    const started = launch(start => start()).then(
      member => {
        failures = 0
        if (closing.signal.aborted) retire(member)
        else done(true)
      },
      error => {
        done(false)
        if (closing.signal.aborted) return
        const ms = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures++)
        notBefore = o.now() + ms
        o.log(`another ${o.name} did not start (${(error as Error).message}); trying again in ${ms} ms`)
      },
    )
    starting.add(started)
    void started.finally(() => starting.delete(started))
  }

  /** There is another one before it goes. */
  function replace(member: Member, reason: Reason, why: string): void {
    if (member.beingReplaced || o.now() < notBefore) return
    member.beingReplaced = true
    o.log(`${o.name} ${member.index + 1} ${why}; replacing it`)
    grow(started => {
      if (!started) {
        member.beingReplaced = false
        return
      }
      o.onReplaced(reason)
      if (members.includes(member)) retire(member)
    })
  }

  return {
    name: o.name,
    async open(first) {
      await Promise.all(Array.from({ length: o.bounds.min }, () => launch(first)))
    },
    resize(slots) {
      if (closing.signal.aborted) return
      const before = plan
      plan = planFor(slots, o.bounds)
      // Each that is being replaced has its successor among those that are starting, or is one too many for a moment.
      const have = members.filter(member => !member.beingReplaced).length + starting.size
      if (plan.processes > have && o.now() >= notBefore) {
        o.log(`${o.name}: ${have} -> ${plan.processes} processes`)
        for (let n = have; n < plan.processes; n++) grow()
      } else if (plan.processes < have && starting.size === 0) {
        o.log(`${o.name}: ${have} -> ${plan.processes} processes`)
        // The youngest: the others have their connections and their compiled code.
        for (const member of members
          .filter(member => !member.beingReplaced)
          .slice(plan.processes)
          .toReversed())
          retire(member)
      }
      if (plan.tasks === before.tasks) return
      for (const { supervised } of members) supervised.current()?.send({ type: 'concurrency', tasks: plan.tasks })
    },
    inspect() {
      const now = o.now()
      // Whatever they said meanwhile is still to be read.
      if (now - lookedAt > ASLEEP_MS) for (const member of members) member.heardAt = now
      lookedAt = now
      for (const member of [...members]) {
        const child = member.supervised.current()
        if (!child) continue
        if (now - member.heardAt > FROZEN_MS) {
          o.log(`${o.name} ${member.index + 1} has been silent for ${Math.round(FROZEN_MS / 1000)} s: killing it`)
          o.onReplaced('frozen')
          // Its end counts as this one. It hears no more polite signal, and what it holds is taken over.
          member.heardAt = now
          member.beingReplaced = true
          child.kill()
          void child.exited.then(() => {
            member.beingReplaced = false
          })
        } else if (member.pulse?.consuming === false) {
          replace(member, 'not_consuming', 'takes no jobs, though there are some')
        } else if (o.maxMb > 0 && (member.pulse?.rssMb ?? 0) > o.maxMb && now - member.bornAt > GROWN_UP_MS) {
          replace(member, 'memory', `occupies ${Math.round(member.pulse!.rssMb)} MB`)
        }
      }
    },
    size: () => ({ processes: members.length, tasks: plan.tasks, leaving: leaving.size }),
    async stop() {
      closing.abort()
      await Promise.all(starting)
      for (const { hurry } of leaving.values()) hurry()
      const gone = [...leaving.values()].map(one => one.gone)
      await Promise.all([...members.map(member => member.supervised.stop()), ...gone])
    },
    kill() {
      closing.abort()
      for (const { supervised } of [...members, ...leaving.keys()]) supervised.kill()
    },
  }
}

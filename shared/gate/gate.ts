import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { coalesce } from '#shared/concurrency/coalesce.ts'
import type { Redis } from '#shared/redis/connect.ts'
import { defineScript, keysOf } from './script.ts'
import { canonicalTarget, type Target, targetName } from './target.ts'
import { createTargets } from './targets.ts'
import {
  type AcquireRequest,
  type CallOutcome,
  type Decision,
  type GateLimits,
  type GatePermit,
  GateUnavailable,
  type SeedData,
  type TargetState,
} from './types.ts'
import {
  type Arg,
  acquireArgs,
  DESCRIBE_ARGS,
  decisionOf,
  HALF_OPEN_ARGS,
  limitArgs,
  releaseArgs,
  renewArgs,
  reportArgs,
  seedArgs,
  setLimitsArgs,
  slowArgs,
  stateOf,
  VALID_FOR_MS,
} from './wire.ts'

/**
 * The window. Counted by sub-windows of B = 500 ms. A call counted in the sub-window that begins at b was admitted
 * before b + B + L (L = 1000 ms: a booking may be redeemed in its own sub-window and the two after it) and started at most
 * V = 1000 ms later (validForMs). So its start s is in [b, b + D), D = B + L + V = 2500 ms. Of the calls that start in any
 * 60 s from x on, all sub-windows begin in the open interval (x - D, x + 60 s), which holds at most (60 s + D) / B = 125 of
 * them. The script lets no 125 successive sub-windows hold more than a limit, so no 60 s of starts do. The price: a limit
 * comes round every 62.5 s, 96% of it can be used.
 */
export type GateOptions = {
  redis: Redis
  prefix: string
  /** The configured limits, kept up to date by the caller; null: none yet. */
  limitsOf(target: Target): GateLimits | null
  /** Reads the ledger for a target that Redis does not know. */
  seed(target: Target): Promise<SeedData>
  /** Records that a target is in use, so that `seed` does not treat it as new. */
  markUsed?: (target: Target) => Promise<unknown>
  /** Virtual time in ms, for tests: replaces the clocks of Redis and of this process. */
  now?: () => number
  /** Replaces the id that Redis gives to the history of its data, for tests. */
  history?: () => string
  sleep?: (ms: number) => Promise<unknown>
}

export type Gate = ReturnType<typeof createGate>

type Operation = {
  target: Target
  args: Arg[]
  /** Operations that release run before operations that acquire. */
  takes: boolean
  /** No caller waits for its answer. */
  idle: boolean
}
type Answered = {
  answer: number[] | number
  generation: string
  /** The waiters that may retry now; returned to one of the operations that freed a slot. */
  wakes: string[]
  sentAt: number
  unseeded: { mark: string; ageMs: number } | null
}

const MAX_OPERATIONS_PER_CALL = 500
/** An acquire may have to wait for this many describes, in the connection and in Redis. */
const MAX_DESCRIBES_PER_CALL = 50
/** A script call costs more than the work for one request, so a report waits this long for an acquire to join. */
const LINGER_MS = 5
/** Targets whose newest state a process remembers. */
const MAX_SEEN = 2000
/** Redis would have to lose the target this often within one acquire. */
const SEED_TRIES = 5

/** The gate that all processes share: one script call per decision. It throws GateUnavailable and no other error. */
export function createGate(options: GateOptions) {
  const { redis, prefix, limitsOf, seed, markUsed, now, history, sleep = delay } = options
  const run = defineScript(redis)
  const targets = createTargets({ redis, prefix, markUsed, now })
  const clock = now ?? (() => performance.now())
  const process = randomUUID().slice(0, 13)
  let leases = 0
  const newLease = () => `${process}-${(++leases).toString(36)}`
  const seeding = new Map<string, Promise<void>>()

  /** The newest state of each target that this process has seen: an older one of the same generation was restored. */
  const newest = new Map<string, { generation: string; at: number }>()
  function noteSeen(target: Target, generation: string, at: number): void {
    if (at === 0) return
    const name = targetName(target)
    const seen = newest.get(name)
    if (seen?.generation === generation && seen.at >= at) return
    if (!seen && newest.size >= MAX_SEEN) newest.clear()
    newest.set(name, { generation, at })
  }

  const header = (target: Target, mark: string): Arg[] => {
    const seen = newest.get(targetName(target))
    return [
      now ? Math.floor(now()) : '',
      ...limitArgs(limitsOf(target)),
      mark,
      seen?.generation ?? '',
      seen?.at ?? 0,
      history?.() ?? '',
    ]
  }

  async function runGroup(group: Operation[]): Promise<Answered[]> {
    const { target } = group[0]!
    const ordered = group.toSorted((a, b) => Number(a.takes) - Number(b.takes))
    const mark = ordered.at(-1)!.takes ? newLease() : ''
    const sentAt = clock()
    const reply = await run(keysOf(prefix, target), [...header(target, mark), ...ordered.flatMap(one => one.args)])
    const [generation, second, at, ...answers] = reply as [string, string | string[], number, ...(number[] | number)[]]
    if (generation === '') {
      const unseeded = { mark: second as string, ageMs: at }
      return group.map(() => ({ answer: 0, generation, wakes: [], sentAt, unseeded }))
    }
    noteSeen(target, generation, at)
    // Operations that free a slot run first: if any did, the first one is one of them.
    const byOperation = new Map(
      ordered.map((one, index) => [
        one,
        { answer: answers[index]!, generation, wakes: index === 0 ? (second as string[]) : [], sentAt, unseeded: null },
      ]),
    )
    return group.map(one => byOperation.get(one)!)
  }

  /** A failure of one target must not fail the others. */
  async function flush(operations: Operation[]): Promise<(Answered | GateUnavailable)[]> {
    const groups = Map.groupBy(operations, one => targetName(one.target))
    const answers = new Map<Operation, Answered | GateUnavailable>()
    await Promise.all(
      groups.values().map(async group => {
        const got = await runGroup(group).catch(unavailable)
        for (const [index, one] of group.entries()) answers.set(one, Array.isArray(got) ? got[index]! : got)
      }),
    )
    return operations.map(one => answers.get(one)!)
  }
  const splitOnError = () => false
  const idle = { lingerMs: LINGER_MS, is: (one: Operation) => one.idle }
  const send = coalesce({ flush, max: MAX_OPERATIONS_PER_CALL, idle, splitOnError })
  /** In calls of its own, so that an acquire does not wait for a description of every target. */
  const describe = coalesce({ flush, max: MAX_DESCRIBES_PER_CALL, splitOnError })

  async function ask(
    target: Target,
    args: Arg[],
    { takes = false, idle = false, by = send }: { takes?: boolean; idle?: boolean; by?: typeof send } = {},
  ): Promise<Answered> {
    const answered = await by({ target, args, takes, idle })
    if (answered instanceof GateUnavailable) throw answered
    return answered
  }

  /**
   * VALID_FOR_MS after the loss was noticed, every permit of the lost generation is in the ledger or has expired. Only
   * then is the ledger read. The mark shows whether Redis lost the target again in between: then it must be read again.
   */
  async function seedTarget(target: Target, { mark, ageMs }: { mark: string; ageMs: number }): Promise<void> {
    try {
      let data = await seed(target)
      const left = VALID_FOR_MS - ageMs
      if (!data.firstEver) {
        if (left > 0) await sleep(left)
        data = await seed(target)
      }
      await targets.list(target)
      await run(keysOf(prefix, target), [...header(target, ''), ...seedArgs(mark, data)])
    } catch (error) {
      throw unavailable(error)
    }
  }

  function seedOnce(target: Target, unseeded: { mark: string; ageMs: number }): Promise<void> {
    const name = targetName(target)
    const under = seeding.get(name)
    if (under) return under
    const begun = seedTarget(target, unseeded).finally(() => seeding.delete(name))
    seeding.set(name, begun)
    return begun
  }

  return {
    async acquire(request: AcquireRequest): Promise<Decision> {
      const { id } = request
      const target = canonicalTarget(request)
      for (let n = 0; n < SEED_TRIES; n++) {
        const lease = newLease()
        const args = acquireArgs(request, lease)
        const { answer, generation, sentAt, unseeded } = await ask(target, args, { takes: true })
        if (unseeded) {
          await seedOnce(target, unseeded)
          continue
        }
        targets.markCalled(target)
        return decisionOf(answer as number[], (sub, epoch, slowAfterMs) => {
          const validUntil = sentAt + VALID_FOR_MS
          const booked = { inputTokens: args[3] as number, outputTokens: args[4] as number, sub, generation, epoch }
          return { target, id, lease, validForMs: validUntil - clock(), validUntil, slowAfterMs, booked }
        })
      }
      throw new GateUnavailable('the target could not be seeded')
    },

    /** Resolves to the `wake` of the waiters that may retry now. A repeated report changes nothing. */
    report: async (permit: GatePermit, outcome: CallOutcome): Promise<string[]> =>
      (await ask(permit.target, reportArgs(permit, outcome), { idle: now === undefined })).wakes,

    /** Returns an unused permit as if it had never been granted. Resolves as `report` does. */
    release: async (permit: GatePermit): Promise<string[]> => (await ask(permit.target, releaseArgs(permit))).wakes,

    /** Counts a call that still runs after slowAfterMs as a failure, once. */
    async slow(permit: GatePermit): Promise<void> {
      await ask(permit.target, slowArgs(permit))
    },

    /** Extends the leases. Call it every 5 s with all permits whose calls run. */
    async renew(permits: GatePermit[]): Promise<void> {
      await Promise.all(permits.map(permit => ask(permit.target, renewArgs(permit))))
    },

    /** Half-opens an open breaker before its time is over. A breaker in another state does not change. */
    async halfOpen(target: Target): Promise<void> {
      await ask(target, HALF_OPEN_ARGS)
    },

    /** Applies limits at once; otherwise they come with each acquire. Resolves as `report` does. */
    setLimits: async (target: Target, limits: GateLimits): Promise<string[]> =>
      (await ask(target, setLimitsArgs(limits))).wakes,

    /** Reads the states, without extending their expiry. */
    async describe(targets: Target[]): Promise<TargetState[]> {
      return Promise.all(
        targets.map(async target => {
          const { answer } = await ask(target, DESCRIBE_ARGS, { by: describe })
          return stateOf(target, Array.isArray(answer) ? answer : [], limitsOf(target))
        }),
      )
    },

    /** The targets called within a day, at most `MAX_TARGETS`, the last called first. */
    targets: (): Promise<Target[]> =>
      targets.read().catch(error => {
        throw unavailable(error)
      }),
  }
}

const unavailable = (cause: unknown): GateUnavailable =>
  cause instanceof GateUnavailable ? cause : new GateUnavailable('the gate is unavailable', { cause })

import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { coalesce } from '#shared/coalesce.ts'
import type { Redis } from '#shared/redis.ts'
import { defineScript, keysOf, targetName } from './script.ts'
import { targetOf } from './target.ts'
import { createTargets } from './targets.ts'
import {
  type AcquireRequest,
  type CallOutcome,
  type Decision,
  type GateLimits,
  GateUnavailable,
  type Permit,
  type SeedData,
  type Target,
  type TargetState,
} from './types.ts'
import {
  type Arg,
  acquireArgs,
  DESCRIBE_ARGS,
  decisionOf,
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
 * The window. Counted by sub-windows of B = 500 ms. A call counted in the sub-window that begins at b was told to go
 * before b + B + L (L = 1000 ms: a booking may be redeemed in its own sub-window and the two after it) and started at most
 * V = 1000 ms later (validForMs). So its start s is in [b, b + D), D = B + L + V = 2500 ms. Of the calls that start in any
 * 60 s from x on, all sub-windows begin in the open interval (x - D, x + 60 s), which holds at most (60 s + D) / B = 125 of
 * them. The script lets no 125 successive sub-windows hold more than a limit, so no 60 s of starts do. The price: a limit
 * comes round every 62.5 s, 96% of it can be used.
 */
export type GateOptions = {
  redis: Redis
  prefix: string
  /** What is configured, kept fresh by somebody else; null: nothing yet. */
  limitsOf(target: Target): GateLimits | null
  /** Reads the ledger, for a target that Redis does not know. */
  seed(target: Target): Promise<SeedData>
  /** Writes down that a target is in use, so that `seed` does not take it for new. */
  noteUse?: (target: Target) => Promise<unknown>
  /** Virtual time in ms, for tests: takes the place of Redis's clock and of this process's. */
  now?: () => number
  sleep?: (ms: number) => Promise<unknown>
}

export type Gate = ReturnType<typeof createGate>

type Operation = {
  target: Target
  args: Arg[]
  /** What gives back goes before what takes. */
  takes: boolean
  /** Nobody waits for its answer. */
  idle: boolean
}
type Answered = {
  answer: number[] | number
  generation: string
  /** The waiters that may come now; handed to one of those that freed something. */
  wakes: string[]
  sentAt: number
  unseeded: { mark: string; ageMs: number } | null
}

const MOST_IN_A_CALL = 500
/** Of them an acquire that comes meanwhile has so many before it, in the connection and in Redis. */
const MOST_LOOKS_IN_A_CALL = 50
/** A script call costs more than what it does for one request: a report waits so long for an acquire to go along with. */
const LINGER_MS = 5
/** Redis would have to forget the target as often within one acquire. */
const SEED_TRIES = 5

/**
 * The fleet-wide gate: one script call a decision. Everything throws GateUnavailable if Redis cannot be asked, and
 * nothing else.
 */
export function createGate(options: GateOptions) {
  const { redis, prefix, limitsOf, seed, noteUse, now, sleep = delay } = options
  const run = defineScript(redis)
  const targets = createTargets({ redis, prefix, noteUse, now })
  const clock = now ?? (() => performance.now())
  const process = randomUUID().slice(0, 13)
  let leases = 0
  const newLease = () => `${process}-${(++leases).toString(36)}`
  const seeding = new Map<string, Promise<void>>()

  const header = (target: Target, mark: string): Arg[] => [
    now ? Math.floor(now()) : '',
    ...limitArgs(limitsOf(target)),
    mark,
  ]

  async function runGroup(group: Operation[]): Promise<Answered[]> {
    const { target } = group[0]!
    const ordered = group.toSorted((a, b) => Number(a.takes) - Number(b.takes))
    const mark = ordered.at(-1)!.takes ? newLease() : ''
    const sentAt = clock()
    const reply = await run(keysOf(prefix, target), [...header(target, mark), ...ordered.flatMap(one => one.args)])
    const [generation, second, ...answers] = reply as [string, string | string[], ...(number[] | number)[]]
    if (generation === '') {
      const unseeded = { mark: second as string, ageMs: answers[0] as number }
      return group.map(() => ({ answer: 0, generation, wakes: [], sentAt, unseeded }))
    }
    // Whoever comes first of those that are served first has freed something, if anybody has.
    const byOperation = new Map(
      ordered.map((one, index) => [
        one,
        { answer: answers[index]!, generation, wakes: index === 0 ? (second as string[]) : [], sentAt, unseeded: null },
      ]),
    )
    return group.map(one => byOperation.get(one)!)
  }

  /** What failed for one target must not fail the others. */
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
  const itemsToBlame = () => false
  const idle = { lingerMs: LINGER_MS, is: (one: Operation) => one.idle }
  const send = coalesce({ flush, max: MOST_IN_A_CALL, idle, itemsToBlame })
  /** By itself: calls do not wait for a look at everything. */
  const look = coalesce({ flush, max: MOST_LOOKS_IN_A_CALL, itemsToBlame })

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
   * A permit of the generation that was lost is in the ledger, or void, VALID_FOR_MS after the loss was noticed; only then
   * is the ledger read. The mark tells whether Redis forgot once more in between, for then it must be read again.
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
      const target = targetOf(request)
      for (let tries = 0; tries < SEED_TRIES; tries++) {
        const lease = newLease()
        const args = acquireArgs(request, lease)
        const { answer, generation, sentAt, unseeded } = await ask(target, args, { takes: true })
        if (unseeded) {
          await seedOnce(target, unseeded)
          continue
        }
        targets.called(target)
        return decisionOf(answer as number[], (sub, epoch, slowAfterMs) => {
          const validUntil = sentAt + VALID_FOR_MS
          const booked = { inputTokens: args[3] as number, outputTokens: args[4] as number, sub, generation, epoch }
          return { target, id, lease, validForMs: validUntil - clock(), validUntil, slowAfterMs, booked }
        })
      }
      throw new GateUnavailable('the target could not be seeded')
    },

    /** Resolves to the `wake` of those who may come now. A repeated report changes nothing. */
    report: async (permit: Permit, outcome: CallOutcome): Promise<string[]> =>
      (await ask(permit.target, reportArgs(permit, outcome), { idle: now === undefined })).wakes,

    /** Gives back a permit that was not used, as if it had never been taken. Resolves as `report` does. */
    release: async (permit: Permit): Promise<string[]> => (await ask(permit.target, releaseArgs(permit))).wakes,

    /** The call still runs after slowAfterMs: a failure, counted once. */
    async slow(permit: Permit): Promise<void> {
      await ask(permit.target, slowArgs(permit))
    },

    /** Prolongs the leases; to be called every 5 s with all permits that were not reported. */
    async renew(permits: Permit[]): Promise<void> {
      await Promise.all(permits.map(permit => ask(permit.target, renewArgs(permit))))
    },

    /** For at once: limits otherwise come with each acquire. Resolves as `report` does. */
    setLimits: async (target: Target, limits: GateLimits): Promise<string[]> =>
      (await ask(target, setLimitsArgs(limits))).wakes,

    /** Looks, and keeps nothing alive by it. */
    async describe(targets: Target[]): Promise<TargetState[]> {
      return Promise.all(
        targets.map(async target => {
          const { answer } = await ask(target, DESCRIBE_ARGS, { by: look })
          return stateOf(target, Array.isArray(answer) ? answer : [], limitsOf(target))
        }),
      )
    },

    /** Those that were called within a day; of too many the ones that were called last. */
    targets: (): Promise<Target[]> =>
      targets.read().catch(error => {
        throw unavailable(error)
      }),
  }
}

const unavailable = (cause: unknown): GateUnavailable =>
  cause instanceof GateUnavailable ? cause : new GateUnavailable('the gate could not be asked', { cause })

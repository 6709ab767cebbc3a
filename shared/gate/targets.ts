import type { Redis } from '#shared/redis.ts'
import { defineTargetsScript, keysOf, targetName, targetNamed, targetsKey } from './script.ts'
import type { Target } from './types.ts'

/** So many are looked at, those that were called last: the clients name the models, and may make names up. */
export const MOST_TARGETS = 200
/** The state of one that is no longer among them goes so soon, unless it is called again: the ledger has what counts. */
const LEFT_OUT_MS = 600_000
/** How often one process says that a target is called. */
const LIST_MS = 10_000
const NOTE_MS = 3_600_000
const MOST_REMEMBERED = 10 * MOST_TARGETS

/** The list of the targets that have been called within a day. */
export function createTargets(options: {
  redis: Redis
  prefix: string
  /** As in `GateOptions`. */
  noteUse?: ((target: Target) => Promise<unknown>) | undefined
  now?: (() => number) | undefined
}) {
  const { redis, prefix, noteUse, now } = options
  const run = defineTargetsScript(redis)
  const clock = now ?? (() => performance.now())
  const listed = new Map<string, number>()
  const noted = new Map<string, number>()

  /** In the background: what fails is done again at the next call. */
  function atMostEvery(ms: number, last: Map<string, number>, name: string, work: () => Promise<unknown>): void {
    const at = clock()
    if (at - (last.get(name) ?? Number.NEGATIVE_INFINITY) < ms) return
    if (last.size >= MOST_REMEMBERED) last.clear()
    last.set(name, at)
    work().catch(() => last.delete(name))
  }

  async function list(target: Target): Promise<void> {
    const out = await run([targetsKey(prefix)], [now ? Math.floor(now()) : '', targetName(target), MOST_TARGETS])
    const keys = (out as string[]).flatMap(name => keysOf(prefix, targetNamed(name)))
    await Promise.all(keys.map(key => redis.pexpire(key, LEFT_OUT_MS)))
  }

  return {
    list,

    /** To be told of every call; says so where it must be known, which is not at every call. */
    called(target: Target): void {
      const name = targetName(target)
      atMostEvery(LIST_MS, listed, name, () => list(target))
      if (noteUse) atMostEvery(NOTE_MS, noted, name, () => noteUse(target))
    },

    /** The one that was called last first. */
    read: async (): Promise<Target[]> => (await redis.zrange(targetsKey(prefix), 0, -1, 'REV')).map(targetNamed),
  }
}

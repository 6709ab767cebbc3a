import type { Redis } from '#shared/redis/connect.ts'
import { defineTargetsScript, keysOf, targetsKey } from './script.ts'
import { parseTargetName, type Target, targetName } from './target.ts'

/** The targets to keep, the last called ones. Clients name the models, and may invent names. */
export const MAX_TARGETS = 200
/**
 * Expiry of the state of a target that is no longer kept, unless it is called again: the ledger has its calls. Longer than
 * the window, so that the target is not seeded from the ledger at every call.
 */
const LEFT_OUT_MS = 120_000
/** How often one process lists a target that it calls. */
const LIST_MS = 10_000
const MARK_USED_MS = 3_600_000
const MAX_REMEMBERED = 10 * MAX_TARGETS

/** The list of the targets called within a day. */
export function createTargets(options: {
  redis: Redis
  prefix: string
  /** As in `GateOptions`. */
  markUsed?: ((target: Target) => Promise<unknown>) | undefined
  now?: (() => number) | undefined
}) {
  const { redis, prefix, markUsed, now } = options
  const run = defineTargetsScript(redis)
  const clock = now ?? (() => performance.now())
  const listed = new Map<string, number>()
  const noted = new Map<string, number>()

  /** In the background; a failure is repeated at the next call. */
  function atMostEvery(ms: number, last: Map<string, number>, name: string, work: () => Promise<unknown>): void {
    const at = clock()
    if (at - (last.get(name) ?? Number.NEGATIVE_INFINITY) < ms) return
    if (last.size >= MAX_REMEMBERED) last.clear()
    last.set(name, at)
    work().catch(() => last.delete(name))
  }

  async function list(target: Target): Promise<void> {
    const out = await run([targetsKey(prefix)], [now ? Math.floor(now()) : '', targetName(target), MAX_TARGETS])
    const keys = (out as string[]).flatMap(name => keysOf(prefix, parseTargetName(name)))
    await Promise.all(keys.map(key => redis.pexpire(key, LEFT_OUT_MS)))
  }

  return {
    list,

    /** Call it at every call. It lists and marks the target when that is due. */
    markCalled(target: Target): void {
      const name = targetName(target)
      atMostEvery(LIST_MS, listed, name, () => list(target))
      if (markUsed) atMostEvery(MARK_USED_MS, noted, name, () => markUsed(target))
    },

    /** The last called first. */
    read: async (): Promise<Target[]> => (await redis.zrange(targetsKey(prefix), 0, -1, 'REV')).map(parseTargetName),
  }
}

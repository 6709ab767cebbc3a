import type { ProviderConfig } from '#shared/config.ts'
import type { Db } from '#shared/db/pool.ts'
import {
  ALL_MODELS,
  declareLimits,
  type LimitsRow,
  NO_LIMITS,
  readLimits,
  SETTINGS,
} from '#shared/db/provider-limits.ts'
import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import { targetName } from './script.ts'
import { targetOf } from './target.ts'
import { type GateLimits, GateUnavailable, type Target } from './types.ts'

const READ_MS = 2000
/** Clients may name models. */
const MOST_ANSWERS = 1000

export type LimitsReader = {
  /**
   * What holds for a model now, by any of its names: its own limits, else those of its provider, else of the settings, else
   * none. At the version of the newest of these rows, so that the gate also follows one that was taken away.
   * @throws GateUnavailable until they have been read once: nothing passes on a guess
   */
  of(target: Target): GateLimits
  /** Reads them now. @throws if Postgres cannot be asked */
  refresh(): Promise<void>
  stop(): Promise<void>
}

/**
 * The limits of every provider and model, read from Postgres every two seconds.
 * @param options.configured given by whoever enforces them: its settings are written down for the fleet
 */
export function createLimits(options: {
  db: Db
  configured?: Pick<ProviderConfig, 'name' | 'limits'>[]
  logger: Logger
}): LimitsReader {
  const { db, logger } = options
  let undeclared = (options.configured ?? []).map(one => ({ provider: one.name, limits: one.limits ?? NO_LIMITS }))
  let rows: Map<string, LimitsRow> | null = null
  let newest = -1
  const answers = new Map<string, GateLimits>()
  const nameOf = (one: Target) => targetName(targetOf(one))

  async function refresh(): Promise<void> {
    if (undeclared.length > 0) await declareLimits(db, undeclared)
    undeclared = []
    const read = await readLimits(db)
    // Rows are never removed: of two readings under way, the one that saw less is the older.
    const version = Math.max(0, ...read.map(row => row.version))
    if (version <= newest) return
    newest = version
    // Some may have been set for another name of a model: the newest holds.
    const inOrder = read.toSorted((a, b) => a.version - b.version)
    rows = new Map(inOrder.map(row => [nameOf(row), row]))
    answers.clear()
  }

  const stop = every(READ_MS, refresh, error => logger.debug({ err: error }, 'limits not read'))

  return {
    of(target) {
      if (!rows) throw new GateUnavailable('the limits have not been read yet')
      const name = nameOf(target)
      const known = answers.get(name)
      if (known) return known
      const found = [target.model, ALL_MODELS, SETTINGS].flatMap(
        model => rows!.get(nameOf({ provider: target.provider, model })) ?? [],
      )
      const limits = {
        ...NO_LIMITS,
        ...found.find(row => row.limits)?.limits,
        version: Math.max(0, ...found.map(row => row.version)),
      }
      if (answers.size >= MOST_ANSWERS) answers.clear()
      answers.set(name, limits)
      return limits
    },
    refresh,
    stop,
  }
}

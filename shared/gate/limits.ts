import type { ProviderConfig } from '#shared/config.ts'
import type { Db } from '#shared/db/pool.ts'
import {
  ALL_MODELS,
  type DeclaredLimits,
  declareLimits,
  type LimitsRow,
  NO_LIMITS,
  readLimits,
  SETTINGS,
  settingsOf,
} from '#shared/db/provider-limits.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { canonicalTarget, type Target, targetName } from './target.ts'
import { type GateLimits, GateUnavailable } from './types.ts'

const READ_MS = 2000
/** Clients name the models. */
const MAX_ANSWERS = 1000

export type LimitsReader = {
  /**
   * The current limits of a model, by any of its names: its own, else its provider's, else those of the settings, else
   * none. The version is that of the newest of these rows, so that the gate also follows a removal.
   * @throws GateUnavailable until the limits have been read once: no call passes on a guess
   */
  of(target: Target): GateLimits
  /** Reads the limits now. @throws if Postgres is unavailable */
  refresh(): Promise<void>
  /** Declares the limits of these providers at the next read. */
  declare(configured: readonly Configured[]): void
  stop(): Promise<void>
}

type Configured = Pick<ProviderConfig, 'name' | 'limits' | 'modelLimits'>

/**
 * The limits of every provider and model, read from Postgres every two seconds.
 * @param options.configured the providers of this process's settings, which it declares for all processes
 */
export function createLimitsReader(options: {
  db: Db
  configured?: readonly Configured[]
  logger: Logger
}): LimitsReader {
  const { db, logger } = options
  let undeclared = options.configured ?? []
  let rows: Map<string, LimitsRow> | null = null
  let newest = -1
  const answers = new Map<string, GateLimits>()
  const nameOf = (one: Target) => targetName(canonicalTarget(one))

  async function refresh(): Promise<void> {
    const declaring = undeclared
    let read = declaring.length === 0 ? await readLimits(db) : []
    if (declaring.length > 0) {
      await declareLimits(db, declaredLimits(declaring, await readLimits(db)))
      // Unless others were declared meanwhile.
      if (undeclared === declaring) undeclared = []
      read = await readLimits(db)
    }
    // Rows are never removed: of two concurrent reads, the one with the lower version is the older.
    const version = Math.max(0, ...read.map(row => row.version))
    if (version <= newest) return
    newest = version
    // Limits may have been set for several names of a model: the newest wins.
    const inOrder = read.toSorted((a, b) => a.version - b.version)
    rows = new Map(inOrder.map(row => [nameOf(row), row]))
    answers.clear()
  }

  const stop = repeatEvery(READ_MS, refresh, error => logger.debug({ err: error }, 'limits not read'))

  return {
    of(target) {
      if (!rows) throw new GateUnavailable('the limits have not been read yet')
      const name = nameOf(target)
      const known = answers.get(name)
      if (known) return known
      const found = [target.model, ALL_MODELS, settingsOf(canonicalTarget(target).model), SETTINGS].flatMap(
        model => rows!.get(nameOf({ provider: target.provider, model })) ?? [],
      )
      const limits = {
        ...NO_LIMITS,
        ...found.find(row => row.limits)?.limits,
        version: Math.max(0, ...found.map(row => row.version)),
      }
      if (answers.size >= MAX_ANSWERS) answers.clear()
      answers.set(name, limits)
      return limits
    },
    refresh,
    declare(configured) {
      undeclared = configured
    },
    stop,
  }
}

/** The limits of the providers and of their models. Limits of a model that are no longer declared are deleted. */
function declaredLimits(configured: readonly Configured[], rows: readonly LimitsRow[]): DeclaredLimits[] {
  return configured.flatMap(({ name: provider, limits, modelLimits = {} }) => {
    const models = Object.entries(modelLimits).map(([model, own]) => ({
      provider,
      model: settingsOf(canonicalTarget({ provider, model }).model),
      limits: own,
    }))
    const obsolete = rows.filter(
      row =>
        row.provider === provider &&
        row.model.length > SETTINGS.length &&
        row.model.startsWith(SETTINGS) &&
        !models.some(one => one.model === row.model),
    )
    return [
      { provider, model: SETTINGS, limits: limits ?? NO_LIMITS },
      ...models,
      ...obsolete.map(({ model }) => ({ provider, model, limits: null })),
    ]
  })
}

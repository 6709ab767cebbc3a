import { createHash } from 'node:crypto'
import { listExperiments } from '#shared/db/experiments.ts'
import type { Db } from '#shared/db/pool.ts'
import { assignVariant } from '#shared/experiments/assign.ts'
import type { Experiment, Variant } from '#shared/experiments/definition.ts'
import type { StoredOptions, TaskOptions } from '#shared/jobs/options.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'

const POLL_MS = 2000

/** The variant that a user gets in an experiment, with its options for the task. */
export type Exposure = {
  experiment: string
  variant: string
  userHash: Buffer
  options: Pick<StoredOptions, 'provider' | 'model' | 'prompt_version' | 'engine'>
}

export type Experiments = {
  /**
   * Assigns a task to a variant of the experiment on its kind; null: it takes no part. A task that names a provider or a model
   * takes no part, nor does a task that names a prompt version if the variants differ in it. Changes by other processes take
   * effect within two seconds.
   */
  expose(kind: string, user: User, options: TaskOptions): Exposure | null
  /** Reads the experiments now. @throws DatabaseUnavailable */
  refresh(): Promise<void>
  stop(): Promise<void>
}

export type User = { apiKeyId: string; userId: string }

/** Includes the key: equal user ids of two keys are different users. */
export const hashUser = ({ apiKeyId, userId }: User): Buffer =>
  createHash('sha256')
    .update(JSON.stringify([apiKeyId, userId]))
    .digest()

export function createExperiments({ db, logger }: { db: Db; logger: Logger }): Experiments {
  let byKind = new Map<string, Experiment>()
  let started = 0
  let newest = 0

  async function refresh(): Promise<void> {
    const number = ++started
    const read = await listExperiments<Variant>(db)
    // A read that started earlier may be older, although it ended later.
    if (number < newest) return
    newest = number
    byKind = new Map(read.map(one => [one.kind, one]))
  }

  const stop = repeatEvery(POLL_MS, refresh, error => logger.debug({ err: error }, 'experiments were not read'))

  return {
    expose(kind, user, options) {
      const experiment = byKind.get(kind)
      if (!experiment || options.provider !== undefined || options.model !== undefined) return null
      const { name, variants } = experiment
      if (options.prompt_version !== undefined && variants.some(one => one.prompt_version !== undefined)) return null
      const variant = assignVariant(name, user.userId, variants)
      if (!variant) return null
      const { provider, model, prompt_version, engine } = variant
      return {
        experiment: name,
        variant: variant.name,
        userHash: hashUser(user),
        options: {
          ...(provider !== undefined && { provider }),
          ...(model !== undefined && { model }),
          ...(prompt_version !== undefined && { prompt_version }),
          ...(engine === 'rules' && { engine }),
        },
      }
    },
    refresh,
    stop,
  }
}

import { createHash } from 'node:crypto'
import { type Experiment, listExperiments } from '#shared/db/experiments.ts'
import type { Db } from '#shared/db/pool.ts'
import { assign } from '#shared/experiments/assign.ts'
import type { KeptOptions, TaskOptions } from '#shared/jobs/options.ts'
import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'

const LOOK_MS = 2000

/** What a user of an experiment got, and what that means for the task's options. */
export type Exposure = {
  experiment: string
  variant: string
  userHash: Buffer
  options: Pick<KeptOptions, 'provider' | 'model' | 'prompt_version' | 'engine'>
}

export type Experiments = {
  /**
   * Lets a task take part in the experiment on its kind, if there is one. What the client says itself is no experiment: a
   * task that names a provider or a model, or a version of the prompt where these are compared, takes no part.
   * Experiments of other processes are as they were two seconds ago at most.
   */
  expose(kind: string, user: User, asked: TaskOptions): Exposure | null
  /** Reads them now. @throws if Postgres cannot be asked */
  refresh(): Promise<void>
  stop(): Promise<void>
}

export type User = { apiKeyId: string; userId: string }

/** The users of two keys are different people, whatever they are called. */
export const hashOfUser = ({ apiKeyId, userId }: User): Buffer =>
  createHash('sha256')
    .update(JSON.stringify([apiKeyId, userId]))
    .digest()

export function createExperiments({ db, logger }: { db: Db; logger: Logger }): Experiments {
  let byKind = new Map<string, Experiment>()
  let begun = 0
  let newest = 0

  async function refresh(): Promise<void> {
    const mine = ++begun
    const read = await listExperiments(db)
    // Of two readings under way, the one that began first may have seen less.
    if (mine < newest) return
    newest = mine
    byKind = new Map(read.map(one => [one.kind, one]))
  }

  const stop = every(LOOK_MS, refresh, error => logger.debug({ err: error }, 'experiments not read'))

  return {
    expose(kind, user, asked) {
      const experiment = byKind.get(kind)
      if (!experiment || asked.provider !== undefined || asked.model !== undefined) return null
      const { name, variants } = experiment
      if (asked.prompt_version !== undefined && variants.some(one => one.prompt_version !== undefined)) return null
      const variant = assign(name, user.userId, variants)
      if (!variant) return null
      const { provider, model, prompt_version, engine } = variant
      return {
        experiment: name,
        variant: variant.name,
        userHash: hashOfUser(user),
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

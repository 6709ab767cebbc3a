import type { Ended } from './db/tasks.ts'
import type { JobKind } from './jobs/define.ts'
import type { Metrics } from './metrics.ts'

/** Counts tasks that this process ended, whatever brought them there: an answer, what is remembered, or the end of their leader. */
export const createEndCounter =
  (
    metrics: Pick<Metrics, 'ended' | 'taskSeconds' | 'answers'>,
    jobs: ReadonlyMap<string, Pick<JobKind, 'outcomeOf'>>,
  ) =>
  (ended: readonly Ended[]): void => {
    for (const { kind, status, source, seconds, result } of ended) {
      metrics.ended.inc({ kind, status, source: source ?? 'none' })
      // What clients cancel says nothing of how long answers take.
      if (seconds !== null && status !== 'cancelled') metrics.taskSeconds.observe({ kind, status }, seconds)
      const outcome = status === 'succeeded' ? jobs.get(kind)?.outcomeOf(result) : null
      if (outcome) metrics.answers.inc({ kind, outcome })
    }
  }

import type { FinishedTask } from '#shared/db/tasks/row.ts'
import type { Metrics } from './metrics.ts'

/** Counts the tasks that this process ended, by a call, from the cache or with their leader. `outcomeOf`: of the result of a kind. */
export const createEndCounter =
  (
    metrics: Pick<Metrics, 'ended' | 'taskSeconds' | 'answers'>,
    jobs: ReadonlyMap<string, { outcomeOf(result: unknown): string | null }>,
  ) =>
  (ended: readonly FinishedTask[]): void => {
    for (const { kind, status, source, seconds, result } of ended) {
      metrics.ended.inc({ kind, status, source: source ?? 'none' })
      // A cancellation says nothing about the time that answers take.
      if (seconds !== null && status !== 'cancelled') metrics.taskSeconds.observe({ kind, status }, seconds)
      const outcome = status === 'succeeded' ? jobs.get(kind)?.outcomeOf(result) : null
      if (outcome) metrics.answers.inc({ kind, outcome })
    }
  }

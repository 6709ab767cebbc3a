import type { Metrics, STAGES } from '#shared/metrics/metrics.ts'

export type StageTimer = <T>(stage: (typeof STAGES)[number], work: () => T | Promise<T>) => Promise<T>

/** Observes the seconds that a stage takes, whether it succeeds or throws. */
export const createStageTimer =
  ({ stageSeconds }: Pick<Metrics, 'stageSeconds'>, kind: string): StageTimer =>
  async (stage, work) => {
    const end = stageSeconds.startTimer({ stage, kind })
    try {
      return await work()
    } finally {
      end()
    }
  }

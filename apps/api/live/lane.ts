import type { NewTask } from '#shared/db/tasks/new-task.ts'
import type { TaskEnd } from '#shared/engine/claim-session.ts'
import type { LiveRun } from '#shared/engine/run.ts'
import type { Runner } from '#shared/engine/runner.ts'
import type { CallAnswer, EmbedAnswer } from '#shared/providers/define.ts'

/** How a task ended in this process, and the model's answer; null: no call succeeded. */
export type DirectEnd = { end: TaskEnd; answer: CallAnswer | EmbedAnswer | null }

/** Runs tasks in the API process, for clients that wait. */
export type DirectLane = {
  /**
   * Runs a task that is not stored yet.
   * @returns null: the task continues in the queue, or another process has ended it; `full`: it was not begun, because all slots are
   * taken or the process stops
   * @throws DatabaseUnavailable: no call was made
   */
  run(task: NewTask, client: Pick<LiveRun, 'signal' | 'onEvent' | 'onTarget'>): Promise<DirectEnd | null | 'full'>
  /** Waits until no task runs. */
  idle(): Promise<void>
  readonly size: number
}

/** @param slots tasks that run at once */
export function createDirectLane({
  runNew,
  slots,
  draining,
}: {
  runNew: Runner['runNew']
  slots: number
  draining: () => boolean
}): DirectLane {
  const running = new Set<Promise<void>>()
  return {
    async run(task, client) {
      if (running.size >= slots || draining()) return 'full'
      let ended: DirectEnd | null = null
      const run = runNew(task, {
        ...client,
        onEnd(end, answer) {
          ended = { end, answer }
        },
      })
      running.add(run)
      try {
        await run
      } finally {
        running.delete(run)
      }
      return ended
    },
    idle: async () => void (await Promise.allSettled(running)),
    get size() {
      return running.size
    },
  }
}

import type { TaskState } from '#shared/db/tasks/read.ts'
import type { ApiDeps } from '../deps.ts'

/**
 * Joins all reasons to go on: more text, a notification that the task ended, the poll of all watched tasks every second, the end
 * of the stream. Reads this one task from Postgres only after a notification; otherwise the shared poll is enough.
 */
export function createTaskUpdates(
  { watcher, notifications, state }: Pick<ApiDeps, 'watcher' | 'notifications' | 'state'>,
  id: string,
  over: AbortSignal,
) {
  let known: TaskState | null = null
  let outdated = true
  let pending = false
  let wake: (() => void) | null = null
  const notify = () => {
    pending = true
    wake?.()
  }
  const unwatch = watcher.watch(id, seen => {
    if (seen) known = seen
    else outdated = true
    notify()
  })
  const unlisten = notifications.onMore(id, notify)
  const onOver = () => wake?.()
  over.addEventListener('abort', onOver)
  return {
    async state(): Promise<TaskState | null> {
      if (outdated) {
        outdated = false
        known = await state(id)
      }
      return known
    },
    async next(): Promise<boolean> {
      if (!pending && !over.aborted) {
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
      wake = null
      pending = false
      return !over.aborted
    },
    stop() {
      unwatch()
      unlisten()
      over.removeEventListener('abort', onOver)
    },
  }
}

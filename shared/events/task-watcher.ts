import type { TaskState } from '#shared/db/tasks/read.ts'
import type { Notifications } from './notifications.ts'

const POLL_MS = 1000

/** Called with the last state from Postgres, or with null after a notification: read it now. */
type Listener = (state: TaskState | null) => void

export type TaskWatcher = {
  /** Calls `listener` every second and after each notification. @returns a function that stops it */
  watch(id: string, listener: Listener): () => void
  readonly size: number
  stop(): void
}

/** Watches tasks for all waiting requests of this process: one query a second, and notifications in between. */
export function createTaskWatcher(options: {
  notifications: Notifications
  readStates: (ids: string[]) => Promise<TaskState[]>
  onError: (error: unknown) => void
}): TaskWatcher {
  const listeners = new Map<string, Set<Listener>>()
  const notify = (id: string, state: TaskState | null) => {
    for (const listener of [...(listeners.get(id) ?? [])]) listener(state)
  }
  const stopListening = options.notifications.onEnded(id => notify(id, null))

  let reading = false
  const timer = setInterval(async () => {
    if (reading || listeners.size === 0) return
    reading = true
    try {
      for (const state of await options.readStates([...listeners.keys()])) notify(state.id, state)
    } catch (error) {
      options.onError(error)
    } finally {
      reading = false
    }
  }, POLL_MS)
  timer.unref()

  return {
    watch(id, listener) {
      const group = listeners.get(id) ?? new Set()
      listeners.set(id, group.add(listener))
      return () => {
        group.delete(listener)
        if (group.size === 0 && listeners.get(id) === group) listeners.delete(id)
      }
    },
    get size() {
      return listeners.size
    },
    stop() {
      clearInterval(timer)
      stopListening()
    },
  }
}

import type { TaskState } from '#shared/db/views.ts'
import type { Hints } from './hints.ts'

const LOOK_EVERY_MS = 1000

/** Called with the state that Postgres last showed, or null for "look now": a hint came. */
type Listener = (state: TaskState | null) => void

export type Watcher = {
  /** Tells `listener` about a task's state, every second and at once when a hint comes. @returns how to stop */
  watch(id: string, listener: Listener): () => void
  readonly size: number
  stop(): void
}

/** For all who wait in this process: one query a second for all of them, and hints in between. */
export function createWatcher(options: {
  hints: Hints
  readStates: (ids: string[]) => Promise<TaskState[]>
  onError: (error: unknown) => void
}): Watcher {
  const listeners = new Map<string, Set<Listener>>()
  const tell = (id: string, state: TaskState | null) => {
    for (const listener of [...(listeners.get(id) ?? [])]) listener(state)
  }
  const unhint = options.hints.onEnded(id => tell(id, null))

  let looking = false
  const timer = setInterval(async () => {
    if (looking || listeners.size === 0) return
    looking = true
    try {
      for (const state of await options.readStates([...listeners.keys()])) tell(state.id, state)
    } catch (error) {
      options.onError(error)
    } finally {
      looking = false
    }
  }, LOOK_EVERY_MS)
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
      unhint()
    },
  }
}

import type { Flow } from '#shared/db/dispatches.ts'
import type { Logger } from '#shared/process/logger.ts'
import { depthFor, MAX } from '#shared/queue/shares.ts'

/** Tasks that an idle flow may dispatch before its depth is read. */
const INITIAL = 64
const REFRESH_MS = 50
const MAX_FLOWS = 10_000

export type Headroom = {
  /** Whether the next task of this flow may be dispatched now. If not, it waits in the backlog of its key. */
  take(flow: Flow): boolean
}

type State = { left: number; taken: number; dispatched: number; refreshedAt: number; refreshing: boolean }

/**
 * Limits the tasks of each flow in the queue, so that a burst of one key does not delay the others. Never waits: a flow starts
 * with some headroom, which is refreshed from Postgres in the background.
 */
export function createHeadroom(deps: {
  read: (flow: Flow, max: number) => Promise<{ backlog: number; dispatched: number }>
  now: () => number
  logger: Logger
}): Headroom {
  const { read, now, logger } = deps
  const states = new Map<string, State>()

  async function refresh(flow: Flow, state: State): Promise<void> {
    const before = now()
    const seconds = Math.max(0.001, (before - state.refreshedAt) / 1000)
    const taken = state.taken
    state.refreshedAt = before
    state.refreshing = true
    try {
      const { backlog, dispatched } = await read(flow, MAX)
      const consumed = Math.max(0, state.dispatched + taken - dispatched)
      state.taken -= taken
      state.dispatched = dispatched
      // The backlog is older and is dispatched first. A flow must not be sent there only because it has one, since the backlog
      // is dispatched no more than ten times a second.
      state.left = Math.max(INITIAL, depthFor(consumed, seconds)) - dispatched - backlog - state.taken
    } catch (error) {
      logger.debug({ err: error }, 'queue headroom was not read')
    } finally {
      state.refreshing = false
    }
  }

  return {
    take(flow) {
      const key = `${flow.apiKeyId} ${flow.priority}`
      let state = states.get(key)
      if (!state) {
        if (states.size >= MAX_FLOWS) states.delete(states.keys().next().value!)
        state = { left: INITIAL, taken: 0, dispatched: 0, refreshedAt: now(), refreshing: false }
        states.set(key, state)
      }
      if (state.left < INITIAL / 2 && !state.refreshing && now() - state.refreshedAt >= REFRESH_MS)
        void refresh(flow, state)
      if (state.left <= 0) return false
      state.left--
      state.taken++
      return true
    },
  }
}

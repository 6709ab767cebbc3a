import type { Flow } from '#shared/db/dispatches.ts'
import type { Logger } from '#shared/logger.ts'
import { depthFor, MOST } from '#shared/queue/shares.ts'

/** What an idle flow may hand over without asking. */
const FIRST = 64
const ASK_EVERY_MS = 50
/** Flows remembered. */
const REMEMBERED = 10_000

export type Room = {
  /** Whether the next task of this flow goes straight into the queue; if not, it waits in its key's backlog. */
  take(flow: Flow): boolean
}

type State = { left: number; taken: number; dispatched: number; askedAt: number; asking: boolean }

/**
 * Bounds what each flow has in the queue, so that a burst of one key does not stand in front of everybody else. Nothing is
 * awaited: a flow has some room of its own, and what it has used up of it is asked for on the side.
 */
export function createRoom(deps: {
  read: (flow: Flow, most: number) => Promise<{ backlog: number; dispatched: number }>
  now: () => number
  logger: Logger
}): Room {
  const { read, now, logger } = deps
  const states = new Map<string, State>()

  async function ask(flow: Flow, state: State): Promise<void> {
    const before = now()
    const seconds = Math.max(0.001, (before - state.askedAt) / 1000)
    const taken = state.taken
    state.askedAt = before
    state.asking = true
    try {
      const { backlog, dispatched } = await read(flow, MOST)
      const consumed = Math.max(0, state.dispatched + taken - dispatched)
      state.taken -= taken
      state.dispatched = dispatched
      // What the backlog holds is older, and will be handed over first. That there is some is no reason to add to it: a
      // flow whose tasks all take that way is only looked after ten times a second.
      state.left = Math.max(FIRST, depthFor(consumed, seconds)) - dispatched - backlog - state.taken
    } catch (error) {
      logger.debug({ err: error }, 'room in the queue not known')
    } finally {
      state.asking = false
    }
  }

  return {
    take(flow) {
      const key = `${flow.apiKeyId} ${flow.priority}`
      let state = states.get(key)
      if (!state) {
        if (states.size >= REMEMBERED) states.delete(states.keys().next().value!)
        state = { left: FIRST, taken: 0, dispatched: 0, askedAt: now(), asking: false }
        states.set(key, state)
      }
      if (state.left < FIRST / 2 && !state.asking && now() - state.askedAt >= ASK_EVERY_MS) void ask(flow, state)
      if (state.left <= 0) return false
      state.left--
      state.taken++
      return true
    },
  }
}

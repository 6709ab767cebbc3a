import type { Gate } from '#shared/gate/gate.ts'
import { targetName } from '#shared/gate/target.ts'
import { GateUnavailable, type TargetState } from '#shared/gate/types.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { type Signals, signalsOf } from '#shared/routing.ts'

const POLL_MS = 2000

/**
 * Reads the state of all gates every two seconds, for routing.
 * @param deps `onStates` receives the states of every poll
 */
export function startScores(deps: {
  gate: Pick<Gate, 'describe' | 'targets'>
  onStates: (states: readonly TargetState[]) => Promise<unknown>
  logger: Logger
}) {
  const { gate, onStates, logger } = deps
  let scores: ReadonlyMap<string, Signals> = new Map()
  const stop = repeatEvery(
    POLL_MS,
    async () => {
      const states = await gate.describe(await gate.targets())
      scores = new Map(states.filter(one => one.seeded).map(one => [targetName(one.target), signalsOf(one)]))
      await onStates(states)
    },
    error => {
      if (error instanceof GateUnavailable) logger.debug({ err: error }, 'scores: the gate is unavailable')
      else logger.error({ err: error }, 'scores failed')
    },
  )
  return { read: () => scores, stop }
}

import type { Gate } from '#shared/gate/gate.ts'
import { GateUnavailable } from '#shared/gate/types.ts'
import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import { candidateKey, type Signals, signalsOf } from '#shared/routing.ts'

const LOOK_MS = 2000

/** What the gates know of the providers' models, looked at every two seconds: what routing goes by. */
export function startScores({ gate, logger }: { gate: Pick<Gate, 'describe' | 'targets'>; logger: Logger }) {
  let scores: ReadonlyMap<string, Signals> = new Map()
  const stop = every(
    LOOK_MS,
    async () => {
      const states = await gate.describe(await gate.targets())
      scores = new Map(states.filter(one => one.seeded).map(one => [candidateKey(one.target), signalsOf(one)]))
    },
    error => {
      if (error instanceof GateUnavailable) logger.debug({ err: error }, 'scores: the gate is away')
      else logger.error({ err: error }, 'scores failed')
    },
  )
  return { read: () => scores, stop }
}

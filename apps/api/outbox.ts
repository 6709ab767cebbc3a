import type { ServerResponse } from 'node:http'
import { LARGE } from '#shared/db/views.ts'
import { createLanes } from '#shared/lanes.ts'
import { dropWhenStalled } from './backpressure.ts'
import { busy, inTurn } from './in-turn.ts'

/** Of large answers that their clients have not taken yet, in one process. */
const MOST = 268_435_456
const READS = { atOnce: 2, waiting: 200, waitMs: 10_000 }

/** What one process holds of large answers: those that are being read, and those on their way to clients that are slow to take them. */
export type Outbox = {
  /** Reads what makes an answer large, some at a time. @throws SluiceError server_busy */
  read<T>(work: () => Promise<T>): Promise<T>
  /** To be told of each answer as it is sent. */
  sending(response: ServerResponse, characters: number): void
}

export function createOutbox(most = MOST): Outbox {
  const lanes = createLanes(READS)
  let held = 0
  return {
    read: work =>
      inTurn(lanes, async () => {
        if (held > most) throw busy()
        return work()
      }),
    sending(response, characters) {
      // Of one that has gone meanwhile nobody will hear again, and nothing is kept.
      if (characters < LARGE || response.closed) return
      held += characters
      response.once('close', () => {
        held -= characters
      })
      dropWhenStalled(response)
    },
  }
}

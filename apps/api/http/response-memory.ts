import type { ServerResponse } from 'node:http'
import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import { LARGE_RESULT_BYTES } from '#shared/db/tasks/read.ts'
import { dropWhenStalled } from './backpressure.ts'
import { serverBusy, withPermit } from './concurrency-limit.ts'

/** Characters of large responses that clients have not received yet, per process. */
const MAX_HELD = 268_435_456
const READS = { atOnce: 2, waiting: 200, waitMs: 10_000 }

/** Limits the memory of large responses: while they are read, and while slow clients receive them. */
export type ResponseMemory = {
  /** Runs a read of a large value, a few at a time. @throws SluiceError server_busy */
  read<T>(work: () => Promise<T>): Promise<T>
  /** Counts a response until it is sent. Call it for every response. */
  track(response: ServerResponse, characters: number): void
}

export function createResponseMemory(maxHeld = MAX_HELD): ResponseMemory {
  const reads = createSemaphore(READS)
  let held = 0
  return {
    read: work =>
      withPermit(reads, async () => {
        if (held > maxHeld) throw serverBusy()
        return work()
      }),
    track(response, characters) {
      // A closed response emits no further `close` and holds no memory.
      if (characters < LARGE_RESULT_BYTES || response.closed) return
      held += characters
      response.once('close', () => {
        held -= characters
      })
      dropWhenStalled(response)
    },
  }
}

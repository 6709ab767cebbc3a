import { SluiceError } from '#shared/errors.ts'
import { serverBusy } from './concurrency-limit.ts'

const RETRY_AFTER_SECONDS = 5

/** Limits the open event streams of this process. */
export type StreamLimit = {
  /** @returns a function to call when the stream ends @throws SluiceError too_many_streams, server_busy */
  enter(apiKeyId: string): () => void
}

export function createStreamLimit({ perKey, total }: { perKey: number; total: number }): StreamLimit {
  const open = new Map<string, number>()
  let all = 0
  return {
    enter(apiKeyId) {
      const own = open.get(apiKeyId) ?? 0
      if (own >= perKey)
        throw new SluiceError(
          'too_many_streams',
          `The key has ${own} event streams open, which is its limit (EVENT_STREAMS_PER_KEY).`,
          { context: { open: own, limit: perKey, setting: 'EVENT_STREAMS_PER_KEY' }, retryAfter: RETRY_AFTER_SECONDS },
        )
      if (all >= total) throw serverBusy()
      all++
      open.set(apiKeyId, own + 1)
      let left = false
      return () => {
        if (left) return
        left = true
        all--
        const rest = open.get(apiKeyId)! - 1
        if (rest === 0) open.delete(apiKeyId)
        else open.set(apiKeyId, rest)
      }
    },
  }
}

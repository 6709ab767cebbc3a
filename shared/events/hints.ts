import type { Logger } from '#shared/logger.ts'
import type { Redis } from '#shared/redis.ts'

/**
 * News between processes, as hints: whoever must know reads Postgres as well, so that a lost message costs at most the
 * second until the next look.
 */
export type Hints = {
  /** Tells everybody that these tasks have ended. Never rejects. */
  ended(ids: string[]): void
  /** @returns how to stop listening */
  onEnded(listener: (id: string) => void): () => void
  /** Tells readers of one task's text that there is more. Never rejects. */
  more(id: string): void
  /** Listens for more text of one task. */
  onMore(id: string, listener: () => void): () => void
}

/** @param options `redis` must fail fast; `subscriber` is a connection of its own */
export function createHints(options: { redis: Redis; subscriber: Redis; prefix: string; logger: Logger }): Hints {
  const { redis, subscriber, prefix, logger } = options
  const endedChannel = `${prefix}:ended`
  const moreChannel = (id: string) => `${prefix}:more:${id}`
  const endedListeners = new Set<(id: string) => void>()
  const moreListeners = new Map<string, Set<() => void>>()

  const quietly = (work: Promise<unknown>, what: string) => {
    work.catch(error => logger.debug({ err: error }, `${what}: redis is away`))
  }

  subscriber.on('message', (channel: string, message: string) => {
    if (channel === endedChannel) {
      for (const id of message.split(',')) for (const listener of endedListeners) listener(id)
    } else {
      for (const listener of moreListeners.get(channel) ?? []) listener()
    }
  })
  quietly(subscriber.subscribe(endedChannel), 'subscribe')

  return {
    ended: ids => quietly(redis.publish(endedChannel, ids.join(',')), 'publish'),
    onEnded(listener) {
      endedListeners.add(listener)
      return () => endedListeners.delete(listener)
    },
    more: id => quietly(redis.publish(moreChannel(id), ''), 'publish'),
    onMore(id, listener) {
      const channel = moreChannel(id)
      const listeners = moreListeners.get(channel) ?? new Set()
      moreListeners.set(channel, listeners.add(listener))
      // Not awaited while Redis is down: the reader looks every second anyway.
      if (listeners.size === 1) quietly(subscriber.subscribe(channel), 'subscribe')
      return () => {
        listeners.delete(listener)
        if (listeners.size > 0 || moreListeners.get(channel) !== listeners) return
        moreListeners.delete(channel)
        quietly(subscriber.unsubscribe(channel), 'unsubscribe')
      }
    },
  }
}

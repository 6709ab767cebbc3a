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
  /** What the subscriber was told to listen to; what it is to listen to may have changed since. */
  const told = new Set<string>()
  const isWanted = (channel: string) => channel === endedChannel || moreListeners.has(channel)

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

  /** While Redis is away it is told nothing: two commands for each reader that comes and goes would wait for it. */
  function tell(channel: string): void {
    if (subscriber.status !== 'ready' || told.has(channel) === isWanted(channel)) return
    if (isWanted(channel)) {
      told.add(channel)
      const subscribed = subscriber.subscribe(channel)
      subscribed.catch(() => told.delete(channel))
      quietly(subscribed, 'subscribe')
    } else {
      told.delete(channel)
      quietly(subscriber.unsubscribe(channel), 'unsubscribe')
    }
  }
  const tellAll = () => [endedChannel, ...moreListeners.keys(), ...told].forEach(tell)
  subscriber.on('ready', tellAll)
  tellAll()

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
      // Not awaited: the reader looks every second anyway.
      tell(channel)
      return () => {
        listeners.delete(listener)
        if (listeners.size > 0 || moreListeners.get(channel) !== listeners) return
        moreListeners.delete(channel)
        tell(channel)
      }
    },
  }
}

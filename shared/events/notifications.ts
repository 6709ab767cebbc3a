import type { Logger } from '#shared/process/logger.ts'
import type { Redis } from '#shared/redis/connect.ts'

/**
 * Notifications between processes. They are only hints: listeners also read Postgres every second, so that a lost message
 * costs at most a second.
 */
export type Notifications = {
  /** Notifies all processes that these tasks have ended. Never throws. */
  ended(ids: string[]): void
  /** @returns a function that stops listening */
  onEnded(listener: (id: string) => void): () => void
  /** Notifies the readers of one task's text that there is more. Never throws. */
  more(id: string): void
  /** Listens for more text of one task. */
  onMore(id: string, listener: () => void): () => void
}

/** @param options `redis` must fail fast; `subscriber` is a connection of its own */
export function createNotifications(options: {
  redis: Redis
  subscriber: Redis
  prefix: string
  logger: Logger
}): Notifications {
  const { redis, subscriber, prefix, logger } = options
  const endedChannel = `${prefix}:ended`
  const moreChannel = (id: string) => `${prefix}:more:${id}`
  const endedListeners = new Set<(id: string) => void>()
  const moreListeners = new Map<string, Set<() => void>>()
  /** The channels that the subscriber has subscribed to; the wanted ones may have changed since. */
  const subscribed = new Set<string>()
  const isWanted = (channel: string) => channel === endedChannel || moreListeners.has(channel)

  const quietly = (work: Promise<unknown>, what: string) => {
    work.catch(error => logger.debug({ err: error }, `${what}: redis is unavailable`))
  }

  subscriber.on('message', (channel: string, message: string) => {
    if (channel === endedChannel) {
      for (const id of message.split(',')) for (const listener of endedListeners) listener(id)
    } else {
      for (const listener of moreListeners.get(channel) ?? []) listener()
    }
  })

  /** Sends nothing while Redis is unavailable: two commands per listener that comes and goes would pile up. */
  function updateSubscription(channel: string): void {
    if (subscriber.status !== 'ready' || subscribed.has(channel) === isWanted(channel)) return
    if (isWanted(channel)) {
      subscribed.add(channel)
      const done = subscriber.subscribe(channel)
      done.catch(() => subscribed.delete(channel))
      quietly(done, 'subscribe')
    } else {
      subscribed.delete(channel)
      quietly(subscriber.unsubscribe(channel), 'unsubscribe')
    }
  }
  const updateSubscriptions = () => [endedChannel, ...moreListeners.keys(), ...subscribed].forEach(updateSubscription)
  subscriber.on('ready', updateSubscriptions)
  updateSubscriptions()

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
      // Not awaited: the reader polls every second anyway.
      updateSubscription(channel)
      return () => {
        listeners.delete(listener)
        if (listeners.size > 0 || moreListeners.get(channel) !== listeners) return
        moreListeners.delete(channel)
        updateSubscription(channel)
      }
    },
  }
}

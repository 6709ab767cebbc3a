import { EventEmitter } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import { createLogger } from '#shared/process/logger.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { testRedis, unreachableRedis } from '#shared/testing/redis.ts'
import { createNotifications } from './notifications.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

/** One process of a fleet. `listening` resolves when its subscriptions so far are in force. */
async function member(prefix: string) {
  const [redis, subscriber] = await Promise.all([testRedis(), testRedis('subscriber')])
  const notifications = createNotifications({ redis, subscriber, prefix, logger })
  // Redis takes the commands of a connection in order.
  const listening = () => subscriber.subscribe(`${prefix}:barrier`)
  await listening()
  return { notifications, listening, subscriber }
}
const next = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { promise, resolve }
}

describe('notifications', () => {
  it('of ended tasks reach every process, the sender included', async () => {
    const prefix = testPrefix()
    const members = await Promise.all([member(prefix), member(prefix)])
    const received = members.map(({ notifications }) => {
      const ids: string[] = []
      return new Promise<string[]>(resolve => {
        notifications.onEnded(id => {
          if (ids.push(id) === 2) resolve(ids)
        })
      })
    })
    members[0]!.notifications.ended(['a', 'b'])
    expect(await Promise.all(received)).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ])
  })

  it('of more text reach the listeners of that task until they stop', async () => {
    const prefix = testPrefix()
    const [sender, reader] = await Promise.all([member(prefix), member(prefix)])
    const received: string[] = []
    const last = next()
    const first = next()
    const stopA = reader.notifications.onMore('a', () => {
      received.push('a')
      first.resolve()
    })
    const second = next()
    reader.notifications.onMore('b', () => {
      received.push('b')
      if (received.filter(one => one === 'b').length === 1) second.resolve()
      else last.resolve()
    })
    await reader.listening()
    for (const id of ['a', 'other', 'b']) sender.notifications.more(id)
    // In a cluster they arrive through different nodes, in any order.
    await Promise.all([first.promise, second.promise])
    stopA()
    for (const id of ['a', 'b']) sender.notifications.more(id)
    await last.promise
    expect(received.toSorted()).toEqual(['a', 'b', 'b'])
  })

  it('reach all listeners of a task, and the remaining ones when one stops', async () => {
    const prefix = testPrefix()
    const { notifications, listening } = await member(prefix)
    const received: number[] = []
    const stop = notifications.onMore('a', () => received.push(1))
    let arrived = next()
    notifications.onMore('a', () => {
      received.push(2)
      arrived.resolve()
    })
    await listening()
    notifications.more('a')
    await arrived.promise
    stop()
    arrived = next()
    notifications.more('a')
    await arrived.promise
    expect(received).toEqual([1, 2, 2])
  })

  it('reach a listener that stops and starts again at once', async () => {
    const { notifications, listening } = await member(testPrefix())
    notifications.onMore('a', () => {})()
    const again = next()
    notifications.onMore('a', again.resolve)
    await listening()
    notifications.more('a')
    await again.promise
  })

  it('leave no subscription behind', async () => {
    const prefix = testPrefix()
    const { notifications, listening } = await member(prefix)
    const stop = notifications.onMore('a', () => {})
    await listening()
    stop()
    stop()
    await listening()
    const redis = await testRedis()
    expect(await redis.pubsub('NUMSUB', `${prefix}:more:a`)).toEqual([`${prefix}:more:a`, 0])
  })

  it('are dropped while Redis is unavailable', async () => {
    const notifications = createNotifications({
      redis: unreachableRedis(),
      subscriber: unreachableRedis('subscriber'),
      prefix: 'away',
      logger,
    })
    notifications.ended(['a'])
    notifications.more('a')
    notifications.onMore('a', () => {})()
    // An unhandled rejection would fail the run.
    await new Promise(resolve => setImmediate(resolve))
  })
})

it('listeners that stop while Redis is unavailable leave no subscription; the others get notifications after the reconnect', async () => {
  const prefix = testPrefix()
  const subscriber = Object.assign(new EventEmitter(), {
    status: 'reconnecting',
    subscribe: vi.fn(async () => {}),
    unsubscribe: vi.fn(async () => {}),
  })
  const notifications = createNotifications({
    redis: unreachableRedis(),
    subscriber: subscriber as never,
    prefix,
    logger,
  })
  const become = (status: string) => {
    subscriber.status = status
    subscriber.emit(status)
  }
  for (let n = 0; n < 1000; n++) notifications.onMore(`passing-${n}`, () => {})()
  const stop = notifications.onMore('stays', () => {})
  expect(subscriber.subscribe).not.toHaveBeenCalled()
  become('ready')
  expect(subscriber.subscribe.mock.calls).toEqual([[`${prefix}:ended`], [`${prefix}:more:stays`]])
  become('reconnecting')
  stop()
  notifications.onMore('new', () => {})
  expect(subscriber.unsubscribe).not.toHaveBeenCalled()
  // The connection itself restores its earlier subscriptions.
  become('ready')
  expect(subscriber.subscribe.mock.calls.slice(2)).toEqual([[`${prefix}:more:new`]])
  expect(subscriber.unsubscribe.mock.calls).toEqual([[`${prefix}:more:stays`]])
  // A failed subscription is repeated.
  subscriber.subscribe.mockRejectedValueOnce(new Error('gone'))
  notifications.onMore('failed', () => {})
  await new Promise(setImmediate)
  become('ready')
  expect(subscriber.subscribe.mock.calls.slice(3)).toEqual([[`${prefix}:more:failed`], [`${prefix}:more:failed`]])
})

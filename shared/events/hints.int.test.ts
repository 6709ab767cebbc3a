import { EventEmitter } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import { createLogger } from '#shared/logger.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { awayRedis, testRedis } from '#shared/testing/redis.ts'
import { createHints } from './hints.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

/** One process of a fleet. `listening` resolves when its subscriptions so far are in force. */
async function member(prefix: string) {
  const [redis, subscriber] = await Promise.all([testRedis(), testRedis('subscriber')])
  const hints = createHints({ redis, subscriber, prefix, logger })
  // Redis takes the commands of a connection in order.
  const listening = () => subscriber.subscribe(`${prefix}:barrier`)
  await listening()
  return { hints, listening, subscriber }
}
const next = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { promise, resolve }
}

describe('hints', () => {
  it('tell every process which tasks have ended, the sender included', async () => {
    const prefix = testPrefix()
    const members = await Promise.all([member(prefix), member(prefix)])
    const heard = members.map(({ hints }) => {
      const ids: string[] = []
      return new Promise<string[]>(resolve => {
        hints.onEnded(id => {
          if (ids.push(id) === 2) resolve(ids)
        })
      })
    })
    members[0]!.hints.ended(['a', 'b'])
    expect(await Promise.all(heard)).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ])
  })

  it('of more text reach those who listen for that task, until they stop', async () => {
    const prefix = testPrefix()
    const [sender, reader] = await Promise.all([member(prefix), member(prefix)])
    const heard: string[] = []
    const last = next()
    const first = next()
    const stopA = reader.hints.onMore('a', () => {
      heard.push('a')
      first.resolve()
    })
    const second = next()
    reader.hints.onMore('b', () => {
      heard.push('b')
      if (heard.filter(one => one === 'b').length === 1) second.resolve()
      else last.resolve()
    })
    await reader.listening()
    for (const id of ['a', 'other', 'b']) sender.hints.more(id)
    // In a cluster they come by different nodes, in whatever order.
    await Promise.all([first.promise, second.promise])
    stopA()
    for (const id of ['a', 'b']) sender.hints.more(id)
    await last.promise
    expect(heard.toSorted()).toEqual(['a', 'b', 'b'])
  })

  it('reach all listeners for a task, and the rest of them when one stops', async () => {
    const prefix = testPrefix()
    const { hints, listening } = await member(prefix)
    const heard: number[] = []
    const stop = hints.onMore('a', () => heard.push(1))
    let arrived = next()
    hints.onMore('a', () => {
      heard.push(2)
      arrived.resolve()
    })
    await listening()
    hints.more('a')
    await arrived.promise
    stop()
    arrived = next()
    hints.more('a')
    await arrived.promise
    expect(heard).toEqual([1, 2, 2])
  })

  it('reach one who stops and listens again at once', async () => {
    const { hints, listening } = await member(testPrefix())
    hints.onMore('a', () => {})()
    const again = next()
    hints.onMore('a', again.resolve)
    await listening()
    hints.more('a')
    await again.promise
  })

  it('leave no subscription behind', async () => {
    const prefix = testPrefix()
    const { hints, listening } = await member(prefix)
    const stop = hints.onMore('a', () => {})
    await listening()
    stop()
    stop()
    await listening()
    const redis = await testRedis()
    expect(await redis.pubsub('NUMSUB', `${prefix}:more:a`)).toEqual([`${prefix}:more:a`, 0])
  })

  it('are lost without harm while Redis is away', async () => {
    const hints = createHints({ redis: awayRedis(), subscriber: awayRedis('subscriber'), prefix: 'away', logger })
    hints.ended(['a'])
    hints.more('a')
    hints.onMore('a', () => {})()
    // An unhandled rejection would fail the run.
    await new Promise(resolve => setImmediate(resolve))
  })
})

it('readers who come and go while Redis is away leave nothing behind, and those who stay hear when it is back', async () => {
  const prefix = testPrefix()
  const subscriber = Object.assign(new EventEmitter(), {
    status: 'reconnecting',
    subscribe: vi.fn(async () => {}),
    unsubscribe: vi.fn(async () => {}),
  })
  const hints = createHints({ redis: awayRedis(), subscriber: subscriber as never, prefix, logger })
  const become = (status: string) => {
    subscriber.status = status
    subscriber.emit(status)
  }
  for (let n = 0; n < 1000; n++) hints.onMore(`passing-${n}`, () => {})()
  const stop = hints.onMore('stays', () => {})
  expect(subscriber.subscribe).not.toHaveBeenCalled()
  become('ready')
  expect(subscriber.subscribe.mock.calls).toEqual([[`${prefix}:ended`], [`${prefix}:more:stays`]])
  become('reconnecting')
  stop()
  hints.onMore('new', () => {})
  expect(subscriber.unsubscribe).not.toHaveBeenCalled()
  // The connection itself takes up again what it was told before.
  become('ready')
  expect(subscriber.subscribe.mock.calls.slice(2)).toEqual([[`${prefix}:more:new`]])
  expect(subscriber.unsubscribe.mock.calls).toEqual([[`${prefix}:more:stays`]])
  // One that failed is tried again.
  subscriber.subscribe.mockRejectedValueOnce(new Error('gone'))
  hints.onMore('failed', () => {})
  await new Promise(setImmediate)
  become('ready')
  expect(subscriber.subscribe.mock.calls.slice(3)).toEqual([[`${prefix}:more:failed`], [`${prefix}:more:failed`]])
})

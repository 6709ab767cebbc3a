import { Queue, Worker } from 'bullmq'
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { newId } from '#shared/ids.ts'
import type { Redis } from '#shared/redis/connect.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { testRedis } from '#shared/testing/redis.ts'
import { jobId, queuePrefix } from './names.ts'
import { createProducer, type Dispatch, type Producer } from './producer.ts'

let redis: Redis
let prefix: string
let producer: Producer

beforeEach(async () => {
  redis = await testRedis()
  prefix = testPrefix()
  producer = createProducer({ redis, prefix })
  onTestFinished(() => producer.close())
})

const task = (more: Partial<Dispatch> = {}): Dispatch => ({
  ...{ id: newId(), epoch: 1, queue: 'default', priority: 'normal', ...more },
})
const KINDS: Record<string, Partial<Dispatch>> = {
  wait: { priority: 'interactive' },
  prioritized: { priority: 'low' },
  delayed: { delayMs: 60_000 },
}
const keyOf = (name: string, queue = 'default') => `${queuePrefix(prefix, queue)}:${queue}:${name}`
const dispatchAll = (tasks: Dispatch[]) => Promise.all(tasks.map(one => producer.dispatch(one)))

describe('the jobs that the queue has lost', () => {
  it('are none while every job is listed, with or without its hash', async () => {
    const tasks = Object.values(KINDS).flatMap(more => [task(more), task({ ...more, queue: 'batch' })])
    await dispatchAll(tasks)
    expect(await producer.missing(tasks)).toEqual([])
    // A worker gets by with the id.
    for (const one of tasks) await redis.del(keyOf(jobId(one), one.queue))
    expect(await producer.missing(tasks)).toEqual([])
  })

  it.each(Object.keys(KINDS))('is what stood in %s, which can be dispatched again', async name => {
    const lost = [task(KINDS[name]), task(KINDS[name])]
    const others = Object.entries(KINDS).flatMap(([other, more]) => (other === name ? [] : [task(more)]))
    await dispatchAll([...lost, ...others])
    await redis.del(keyOf(name))
    const missing = await producer.missing([...lost, ...others])
    expect(missing).toEqual(lost)
    await dispatchAll(missing)
    expect(await producer.missing([...lost, ...others])).toEqual([])
    const state = await producer.queues()[0]!.getJobState(jobId(lost[0]!))
    expect(state).toBe({ wait: 'waiting' }[name] ?? name)
  })

  it('are those that an eviction removed completely', async () => {
    const lost = task()
    await producer.dispatch(lost)
    await redis.del(keyOf('prioritized'), keyOf(jobId(lost)))
    expect(await producer.missing([lost])).toEqual([lost])
  })

  it('include active jobs only if the list of active jobs is lost', async () => {
    const held = task({ priority: 'interactive' })
    const { promise: release, resolve } = Promise.withResolvers<void>()
    const worker = new Worker('default', () => release, {
      connection: await testRedis('blocking'),
      prefix: queuePrefix(prefix, 'default'),
    })
    worker.on('error', () => {})
    onTestFinished(() => worker.close())
    const active = new Promise(taken => worker.once('active', taken))
    await producer.dispatch(held)
    await active
    expect(await producer.missing([held])).toEqual([])
    await redis.del(keyOf('active'))
    expect(await producer.missing([held])).toEqual([held])
    resolve()
  })

  it('are found in a paused queue too', async () => {
    const queue = new Queue('default', { connection: redis, prefix: queuePrefix(prefix, 'default') })
    await queue.pause()
    const waiting = task({ priority: 'interactive' })
    await producer.dispatch(waiting)
    expect(await producer.missing([waiting])).toEqual([])
    await redis.del(keyOf('wait'), keyOf('paused'))
    expect(await producer.missing([waiting])).toEqual([waiting])
  })

  it('are not searched for while a list is too long to read', async () => {
    const tasks = [task({ priority: 'interactive' }), task()]
    await dispatchAll(tasks)
    await redis.del(keyOf('wait'))
    await redis.rpush(keyOf('wait'), ...Array.from({ length: 20_001 }, (_, n) => `other-${n}`))
    expect(await producer.missing(tasks)).toEqual([])
    await redis.ltrim(keyOf('wait'), 0, 10)
    expect(await producer.missing(tasks)).toEqual([tasks[0]])
  })
})

it('a worker runs a job that was dispatched again', async () => {
  const lost = Object.values(KINDS).map(more => task({ ...more, ...(more.delayMs && { delayMs: 10 }) }))
  await dispatchAll(lost)
  await redis.del(...Object.keys(KINDS).map(name => keyOf(name)))
  await dispatchAll(await producer.missing(lost))
  const seen: string[] = []
  const worker = new Worker('default', async job => void seen.push(job.id!), {
    connection: await testRedis('blocking'),
    prefix: queuePrefix(prefix, 'default'),
    removeOnComplete: { count: 0 },
  })
  onTestFinished(() => worker.close())
  await vi.waitFor(() => expect(seen.toSorted()).toEqual(lost.map(jobId).toSorted()), 20_000)
})

import { randomUUID } from 'node:crypto'
import { expect, it, onTestFinished, vi } from 'vitest'
import { newId } from '#shared/ids.ts'
import { createLogger } from '#shared/logger.ts'
import { createProducer } from '#shared/queue/producer.ts'
import { testRedis } from '#shared/testing/redis.ts'
import { consume } from './consume.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

/** A consumer of `default` whose jobs end when the test says so. */
async function harness(concurrency: number) {
  const prefix = `test-${randomUUID()}`
  const producer = createProducer({ redis: await testRedis(), prefix })
  const blocking = await testRedis('blocking')
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  const begun: string[] = []
  const consumer = consume({
    queues: ['default'],
    connect: () => blocking,
    prefix,
    concurrency,
    async run({ id }) {
      begun.push(id)
      await over
      return 'done'
    },
    logger,
  })
  onTestFinished(async () => {
    end()
    await consumer.stop()
    await producer.close()
  })
  return {
    consumer,
    begun,
    submit: (count: number) =>
      Promise.all(
        Array.from({ length: count }, () =>
          producer.dispatch({ id: newId(), epoch: 0, queue: 'default', priority: 'normal' }),
        ),
      ),
  }
}

it('takes more jobs at once when it may, though none of those in hand has ended', async () => {
  const { consumer, begun, submit } = await harness(2)
  await submit(6)
  await vi.waitFor(() => expect(begun).toHaveLength(2), 10_000)
  expect(consumer.hungryMs().get('default')).toBe(0)
  consumer.setConcurrency(5)
  await vi.waitFor(() => expect(begun).toHaveLength(5), 10_000)
  consumer.setConcurrency(1)
  expect(consumer.hungryMs().get('default')).toBe(0)
  consumer.setConcurrency(6)
  await vi.waitFor(() => expect(new Set(begun).size).toBe(6), 10_000)
})

it('tells of each queue when a job was last taken from it', async () => {
  const { consumer, begun, submit } = await harness(2)
  expect(consumer.fetchedAgoMs()).toEqual(new Map())
  await submit(1)
  await vi.waitFor(() => expect(begun).toHaveLength(1), 10_000)
  expect([...consumer.fetchedAgoMs()]).toEqual([['default', expect.any(Number)]])
})

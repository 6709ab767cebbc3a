import { randomUUID } from 'node:crypto'
import { expect, it, onTestFinished, vi } from 'vitest'
import { newId } from '#shared/ids.ts'
import { LIVENESS } from '#shared/process/liveness.ts'
import { createLogger } from '#shared/process/logger.ts'
import { createProducer } from '#shared/queue/producer.ts'
import { testRedis } from '#shared/testing/redis.ts'
import { consume } from './consume.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

/** A consumer of `default` whose jobs end when the test ends. */
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
    liveness: LIVENESS,
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

it('a consumer is idle only while it may take another job', async () => {
  const { consumer, begun, submit } = await harness(2)
  await vi.waitFor(() => expect(consumer.idleMs().get('default')).toBeGreaterThan(0), 10_000)
  await submit(3)
  await vi.waitFor(() => expect(begun).toHaveLength(2), 10_000)
  expect(consumer.idleMs().get('default')).toBe(0)
})

it('a consumer reports when it last took a job from each queue', async () => {
  const { consumer, begun, submit } = await harness(2)
  expect(consumer.fetchedAgoMs()).toEqual(new Map())
  await submit(1)
  await vi.waitFor(() => expect(begun).toHaveLength(1), 10_000)
  expect([...consumer.fetchedAgoMs()]).toEqual([['default', expect.any(Number)]])
})

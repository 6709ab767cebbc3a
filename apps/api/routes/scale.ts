import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { QueueScale } from '#shared/autoscale/scale.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import type { ApiDeps } from '../deps.ts'

const ONE = `(?:${QUEUES.join('|')})`

/** For autoscalers, which bring no key: numbers only, and like `/metrics` open to whoever reaches the port. */
export const scale: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { scale }) => {
  app.get(
    '/scale',
    {
      logLevel: 'warn',
      schema: {
        tags: ['operations'],
        summary: 'How many workers the queues want',
        description:
          'For KEDA’s metrics-api scaler (`valueLocation: workers`, `targetValue: "1"`). Counted in Postgres, at most two seconds old. Several queues, separated by commas, are those of one pool of workers.',
        querystring: Type.Object(
          {
            queue: Type.String({
              pattern: `^${ONE}(?:,${ONE})*$`,
              maxLength: 100,
              description: `Of ${QUEUES.join(', ')}, one or several.`,
              examples: ['default,moderate'],
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            queue: Type.String(),
            slots: Type.Integer({ description: 'Tasks (of `batch`: lines) that should run at a time.' }),
            workers: Type.Integer({ description: 'Worker processes for as many slots.' }),
            waiting: Type.Integer({ description: 'Tasks that are due and that no worker has yet.' }),
            at_least: Type.Boolean({ description: '`waiting` was not counted to its end.' }),
            waiting_seconds: Type.Number({ description: 'The work in them, in seconds of a slot.' }),
            oldest_wait_seconds: Type.Number(),
            active: Type.Integer(),
            live_slots: Type.Integer(),
            live_workers: Type.Integer({ description: 'Of the queue that has most.' }),
            usable_slots: Type.Union([Type.Number(), Type.Null()], {
              description: 'What the limits of the providers that are called can use; null: no limit is known.',
            }),
          }),
        },
      },
    },
    async ({ query }) => {
      const all = await scale.look()
      const queues = [...new Set(query.queue.split(','))].map(name => all.get(name as QueueName)!)
      const sum = (of: (one: QueueScale) => number) => queues.reduce((sum, one) => sum + of(one), 0)
      const most = (of: (one: QueueScale) => number) => Math.max(...queues.map(of))
      return {
        queue: query.queue,
        slots: sum(one => one.slots),
        workers: scale.workersFor(queues),
        waiting: sum(one => one.waiting),
        at_least: queues.some(one => one.atLeast),
        waiting_seconds: sum(one => one.waitingSeconds),
        oldest_wait_seconds: most(one => one.oldestWaitSeconds),
        active: sum(one => one.active),
        live_slots: most(one => one.liveSlots),
        live_workers: most(one => one.liveWorkers),
        usable_slots: queues[0]!.usableSlots,
      }
    },
  )
}

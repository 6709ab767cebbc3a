import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { QueueScale } from '#shared/autoscale/scale.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import type { ApiDeps } from '../deps.ts'
import { nullable } from '../http/schemas.ts'

const QUEUE = `(?:${QUEUES.join('|')})`

/** For autoscalers, which have no key. Public like `/metrics`: it returns only numbers. */
export const scale: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { scale }) => {
  app.get(
    '/scale',
    {
      logLevel: 'warn',
      schema: {
        tags: ['operations'],
        summary: 'Read the desired number of workers',
        description:
          'For KEDA’s metrics-api scaler (`valueLocation: workers`, `targetValue: "1"`). Counted in Postgres, at most two seconds old. Name all queues of one pool of workers, separated by commas.',
        querystring: Type.Object(
          {
            queue: Type.String({
              pattern: `^${QUEUE}(?:,${QUEUE})*$`,
              maxLength: 100,
              description: `One or more of ${QUEUES.join(', ')}.`,
              examples: ['default,moderate'],
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            queue: Type.String(),
            slots: Type.Integer({ description: 'Tasks that should run concurrently (lines for the queue `batch`).' }),
            workers: Type.Integer({ description: 'Worker processes for this number of slots.' }),
            waiting: Type.Integer({ description: 'Due tasks that no worker has claimed.' }),
            at_least: Type.Boolean({ description: 'true: `waiting` is a lower bound.' }),
            waiting_seconds: Type.Number({ description: 'The work of the waiting tasks, in seconds of one slot.' }),
            oldest_wait_seconds: Type.Number(),
            active: Type.Integer(),
            live_slots: Type.Integer(),
            live_workers: Type.Integer({ description: 'Live workers of the queue with the most.' }),
            usable_slots: nullable(Type.Number(), {
              description: 'The slots that the limits of the called providers can use. null: no known limit.',
            }),
          }),
        },
      },
    },
    async ({ query }) => {
      const all = await scale.read()
      const queues = [...new Set(query.queue.split(','))].map(name => all.get(name as QueueName)!)
      const sum = (of: (one: QueueScale) => number) => queues.reduce((sum, one) => sum + of(one), 0)
      const max = (of: (one: QueueScale) => number) => Math.max(...queues.map(of))
      return {
        queue: query.queue,
        slots: sum(one => one.slots),
        workers: scale.workersFor(queues),
        waiting: sum(one => one.waiting),
        at_least: queues.some(one => one.atLeast),
        waiting_seconds: sum(one => one.waitingSeconds),
        oldest_wait_seconds: max(one => one.oldestWaitSeconds),
        active: sum(one => one.active),
        live_slots: max(one => one.liveSlots),
        live_workers: max(one => one.liveWorkers),
        usable_slots: queues[0]!.usableSlots,
      }
    },
  )
}

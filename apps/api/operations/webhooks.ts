import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { subjectOf } from '#shared/db/webhooks/insert.ts'
import { createDeliveryLister, DELIVERY_STATUSES, type DeliveryRow, redeliver } from '#shared/db/webhooks/log.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { eventId } from '#shared/webhooks/event.ts'
import type { ApiDeps } from '../deps.ts'
import { serverBusy } from '../http/concurrency-limit.ts'
import { invalidQuery } from '../http/invalid-field.ts'
import { ownerFilter, pageJson, pageQuery, pageSchema, readCursor } from '../http/pagination.ts'
import { nullable, timestamp } from '../http/schemas.ts'

const deliverySchema = Type.Object({
  id: Type.String({ description: 'The event id. The receiver gets it as `webhook-id`.' }),
  type: Type.String({ examples: ['task.succeeded'] }),
  data: Type.Object({ id: Type.String({ description: 'The id of the task or batch.' }) }),
  url: Type.String(),
  status: Type.Enum(DELIVERY_STATUSES),
  attempts: Type.Integer({ description: 'How many times the event was sent.' }),
  last_status: nullable(Type.Integer({ description: 'HTTP status of the last response.' })),
  last_error: nullable(Type.String({ description: 'Why the last attempt failed.' })),
  next_attempt_at: nullable({ ...timestamp, description: 'null unless the delivery is pending.' }),
  created_at: timestamp,
  delivered_at: nullable(timestamp),
})

const deliveryJson = (row: DeliveryRow) => ({
  id: eventId(row.id),
  type: row.type,
  data: { id: toWire(subjectOf(row.type), row.subject_id) },
  url: row.url,
  status: row.status,
  attempts: row.attempts,
  last_status: row.last_status,
  last_error: row.last_error,
  next_attempt_at: row.status === 'pending' ? row.next_at.toISOString() : null,
  created_at: row.created_at.toISOString(),
  delivered_at: row.delivered_at?.toISOString() ?? null,
})

/** Deliveries of webhooks: list them, or send one again. */
export const webhooks: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  const list = createDeliveryLister(db)
  app.get(
    '/api/v1/webhooks/deliveries',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['webhooks'],
        summary: 'List webhook deliveries, newest first',
        description: 'Deliveries are kept for a week. A key sees its own deliveries, an admin key all.',
        querystring: Type.Object(
          {
            status: Type.Optional(Type.Enum(DELIVERY_STATUSES)),
            task_id: Type.Optional(Type.String({ description: 'Only the deliveries of this task.' })),
            batch_id: Type.Optional(Type.String({ description: 'Only the deliveries of this batch.' })),
            ...pageQuery(),
          },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: pageSchema(deliverySchema) },
      },
    },
    async request => {
      const { status, task_id, batch_id, after, limit } = request.query
      if (task_id !== undefined && batch_id !== undefined)
        throw invalidQuery('batch_id', 'cannot be combined with `task_id`; send one of them')
      const rows = await list({
        apiKeyId: ownerFilter(request),
        status: status ?? null,
        subjectId: readId('task', 'task_id', task_id) ?? readId('batch', 'batch_id', batch_id),
        after: await readCursor(db, request, after, { kind: 'evt' }),
        limit: limit + 1,
      })
      if (!rows) throw serverBusy()
      return pageJson(rows, limit, { json: deliveryJson, cursor: row => eventId(row.id) })
    },
  )

  app.post(
    '/api/v1/webhooks/deliveries/:id/redeliver',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['webhooks'],
        summary: 'Redeliver an event',
        description:
          'Sends the event again immediately, whatever its status. The event keeps its id, so that the receiver can recognize it. Failed attempts are retried until the event is 24 hours old.',
        params: Type.Object({ id: Type.String({ description: 'Event id, `evt_…`' }) }),
        response: { 202: deliverySchema },
      },
    },
    async (request, reply) => {
      const id = fromWire('evt', request.params.id)
      const row = id && (await redeliver(db, id, ownerFilter(request)))
      if (!row)
        throw new SluiceError(
          'delivery_not_found',
          `There is no webhook delivery "${request.params.id.slice(0, 100)}".`,
          { context: { field: '/id', id: request.params.id } },
        )
      return reply.code(202).send(deliveryJson(row))
    },
  )
}

function readId(prefix: string, field: string, wire: string | undefined): string | null {
  if (wire === undefined) return null
  const id = fromWire(prefix, wire)
  if (!id) throw invalidQuery(field, `must be an id such as ${prefix}_019a9f0c5d7e7cc2a1b2c3d4e5f60718`)
  return id
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { createDeliveryLister, DELIVERY_STATUSES, type DeliveryRow, redeliver, subjectOf } from '#shared/db/webhooks.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { eventId } from '#shared/webhooks/event.ts'
import type { ApiDeps } from '../deps.ts'

const moment = Type.String({ format: 'date-time' })
const nullable = <T extends typeof moment | ReturnType<typeof Type.Integer>>(schema: T) =>
  Type.Union([schema, Type.Null()])

const deliverySchema = Type.Object({
  id: Type.String({ description: 'The event’s id, which its receiver sees as `webhook-id`.' }),
  type: Type.String({ examples: ['task.succeeded'] }),
  data: Type.Object({ id: Type.String({ description: 'The task or batch.' }) }),
  url: Type.String(),
  status: Type.Enum(DELIVERY_STATUSES),
  attempts: Type.Integer({ description: 'How often it was sent.' }),
  last_status: nullable(Type.Integer({ description: 'HTTP status of the last answer.' })),
  last_error: nullable(Type.String({ description: 'Why it was not delivered the last time.' })),
  next_attempt_at: nullable(Type.String({ format: 'date-time', description: 'While it is pending.' })),
  created_at: moment,
  delivered_at: nullable(moment),
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

/** Seconds after which a client should ask for a list again. */
const LIST_AGAIN_SECONDS = 2

/** What was sent to webhooks, and sending it again. */
export const webhooks: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  const list = createDeliveryLister(db)
  app.get(
    '/api/v1/webhooks/deliveries',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['webhooks'],
        summary: 'List what was sent to webhooks, newest first',
        description: 'For a week. A key sees its own, an admin key all.',
        querystring: Type.Object(
          {
            status: Type.Optional(Type.Enum(DELIVERY_STATUSES)),
            task_id: Type.Optional(Type.String({ description: 'Only what this task’s end has brought.' })),
            batch_id: Type.Optional(Type.String({ description: 'Only what this batch’s end has brought.' })),
            after: Type.Optional(Type.String({ description: '`next` of the page before' })),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(deliverySchema),
            has_more: Type.Boolean(),
            next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
          }),
        },
      },
    },
    async request => {
      const { status, task_id, batch_id, after, limit } = request.query
      if (task_id !== undefined && batch_id !== undefined) throw invalid('batch_id', 'cannot be given with task_id')
      const rows = await list({
        apiKeyId: request.apiKey.scopes.includes('admin') ? null : request.apiKey.id,
        status: status ?? null,
        subjectId: idOf('task', 'task_id', task_id) ?? idOf('batch', 'batch_id', batch_id),
        after: idOf('evt', 'after', after),
        limit: limit + 1,
      })
      if (!rows) throw new SluiceError('server_busy', undefined, { retryAfter: LIST_AGAIN_SECONDS })
      const page = rows.slice(0, limit)
      const hasMore = rows.length > limit
      return { data: page.map(deliveryJson), has_more: hasMore, next: hasMore ? eventId(page.at(-1)!.id) : null }
    },
  )

  app.post(
    '/api/v1/webhooks/deliveries/:id/redeliver',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['webhooks'],
        summary: 'Send an event again, at once',
        description:
          'Whatever became of it. It keeps its id, by which its receiver can tell that it has seen it. If it fails, it is tried on until it is 24 hours old.',
        params: Type.Object({ id: Type.String({ description: 'Event id, `evt_…`' }) }),
        response: { 202: deliverySchema },
      },
    },
    async (request, reply) => {
      const id = fromWire('evt', request.params.id)
      const row = id && (await redeliver(db, id, request.apiKey.scopes.includes('admin') ? null : request.apiKey.id))
      if (!row) throw new SluiceError('delivery_not_found', undefined, { context: { id: request.params.id } })
      return reply.code(202).send(deliveryJson(row))
    },
  )
}

const invalid = (field: string, message: string) =>
  new SluiceError('invalid_request', `/${field} ${message}`, { context: { field: `/${field}`, in: 'querystring' } })

function idOf(prefix: string, field: string, wire: string | undefined): string | null {
  if (wire === undefined) return null
  const id = fromWire(prefix, wire)
  if (!id) throw invalid(field, `is not an id such as ${prefix}_…`)
  return id
}

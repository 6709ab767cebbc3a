import { Webhook } from 'standardwebhooks'
import { subjectOf } from '#shared/db/webhooks/insert.ts'
import { toWire } from '#shared/ids.ts'

export type WebhookEvent = { id: string; type: string; subject_id: string; created_at: Date }

export const eventId = (id: string): string => toWire('evt', id)
export const formatSecret = (secret: Uint8Array): string => `whsec_${Buffer.from(secret).toString('base64')}`

/** The body of a webhook. It has only ids: the receiver reads the object with its API key. */
export const eventJson = (event: WebhookEvent): string =>
  JSON.stringify({
    id: eventId(event.id),
    object: 'event',
    created_at: Math.floor(event.created_at.getTime() / 1000),
    type: event.type,
    data: { id: toWire(subjectOf(event.type), event.subject_id) },
  })

/**
 * One signature per secret, separated by spaces: a receiver that knows any of the secrets accepts the event.
 * Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export function signedHeaders(
  event: WebhookEvent,
  body: string,
  secrets: readonly Uint8Array[],
  now: Date,
): Record<string, string> {
  const id = eventId(event.id)
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': secrets.map(secret => new Webhook(secret, { format: 'raw' }).sign(id, now, body)).join(' '),
  }
}

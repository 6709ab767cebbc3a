import { Webhook } from 'standardwebhooks'
import { subjectOf } from '#shared/db/webhooks.ts'
import { toWire } from '#shared/ids.ts'

export type WebhookEvent = { id: string; type: string; subject_id: string; created_at: Date }

export const eventId = (id: string): string => toWire('evt', id)
export const secretText = (secret: Uint8Array): string => `whsec_${Buffer.from(secret).toString('base64')}`

/** What it says: who wants to know more asks for it, with his key. */
export const eventJson = (event: WebhookEvent): string =>
  JSON.stringify({
    id: eventId(event.id),
    object: 'event',
    created_at: Math.floor(event.created_at.getTime() / 1000),
    type: event.type,
    data: { id: toWire(subjectOf(event.type), event.subject_id) },
  })

/** Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
export function signedHeaders(
  event: WebhookEvent,
  body: string,
  secret: Uint8Array,
  now: Date,
): Record<string, string> {
  const id = eventId(event.id)
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': new Webhook(secret, { format: 'raw' }).sign(id, now, body),
  }
}

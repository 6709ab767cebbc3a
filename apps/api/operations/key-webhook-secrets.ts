import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { readWebhookSecrets, rotateWebhookSecret, type WebhookSecrets } from '#shared/db/webhooks/secrets.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { formatSecret } from '#shared/webhooks/event.ts'
import type { ApiDeps } from '../deps.ts'
import { isAdmin } from '../http/auth.ts'
import { timestamp } from '../http/schemas.ts'
import { DEFAULT_OVERLAP_SECONDS, keyNotFound, overlapSchema, webhookSecret } from './key-json.ts'

const rotationSchema = overlapSchema(
  'How long the old secret signs in addition to the new one. 0: it stops immediately.',
)

const secretsSchema = Type.Object({
  id: Type.String(),
  webhook_secret: webhookSecret,
  previous: Type.Array(Type.Object({ webhook_secret: webhookSecret, expires_at: timestamp }), {
    description: 'Replaced secrets that still sign, newest first.',
  }),
})

const secretsJson = (id: string, { current, retired }: WebhookSecrets) => ({
  id: toWire('key', id),
  webhook_secret: formatSecret(current),
  previous: retired.map(one => ({
    webhook_secret: formatSecret(one.secret),
    expires_at: one.expires_at.toISOString(),
  })),
})

/** The secrets that sign a key's webhooks. */
export const keyWebhookSecrets: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  const secretRoute = {
    // A key that may set a webhook URL may read the secret that signs for it.
    config: { scope: 'submit' },
    params: Type.Object({ id: Type.String({ description: 'Key id, `key_…`, or `self`', examples: ['self'] }) }),
  } as const

  app.get(
    '/api/v1/keys/:id/webhook-secret',
    {
      config: secretRoute.config,
      schema: {
        tags: ['keys'],
        summary: 'Read a key’s webhook secrets',
        description: 'A key reads its own secrets (`self`, or its id), an admin key those of any key.',
        params: secretRoute.params,
        response: { 200: secretsSchema },
      },
    },
    async request => {
      const id = signerOf(request)
      const secrets = id && (await readWebhookSecrets(db, id))
      if (!secrets) throw keyNotFound(request.params.id)
      return secretsJson(id, secrets)
    },
  )

  app.post<{ Params: { id: string }; Body: Static<typeof rotationSchema> | null | undefined }>(
    '/api/v1/keys/:id/webhook-secret',
    {
      config: secretRoute.config,
      schema: {
        tags: ['keys'],
        summary: 'Rotate a key’s webhook secret',
        description:
          'Every delivery, including retries and redeliveries, is signed with the new secret. Until `overlap_seconds` have passed, the old secret signs as well, so that `webhook-signature` has two signatures. Secrets that were replaced earlier stop signing by then, too.',
        params: secretRoute.params,
        body: Type.Union([rotationSchema, Type.Null()], { examples: [{ overlap_seconds: 3600 }] }),
        response: { 200: secretsSchema },
      },
    },
    async request => {
      const id = signerOf(request)
      const overlap = request.body?.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS
      const secrets = id && (await rotateWebhookSecret(db, id, overlap))
      if (!secrets) throw keyNotFound(request.params.id)
      return secretsJson(id, secrets)
    },
  )
}

/** The key named in the path, if the request may read its secrets; otherwise null. */
function signerOf({ params, apiKey }: FastifyRequest<{ Params: { id: string } }>): string | null {
  const id = params.id === 'self' ? apiKey.id : fromWire('key', params.id)
  return id === apiKey.id || isAdmin(apiKey) ? id : null
}

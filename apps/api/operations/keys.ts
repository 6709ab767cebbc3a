import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  type ApiKey,
  listKeys,
  readWebhookSecrets,
  revokeKey,
  rotateWebhookSecret,
  SCOPES,
  type WebhookSecrets,
} from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { formatSecret } from '#shared/webhooks/event.ts'
import type { ApiDeps } from '../deps.ts'
import { isAdmin } from '../http/auth.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'

const keySchema = Type.Object({
  id: Type.String(),
  name: Type.String(),
  hint: Type.String({ description: 'The last characters of the secret.' }),
  scopes: Type.Array(Type.Enum(SCOPES)),
  requests_per_minute: nullable(Type.Integer()),
  weight: Type.Integer(),
  created_at: timestamp,
})

const keyJson = (key: ApiKey) => ({
  id: toWire('key', key.id),
  name: key.name,
  hint: key.hint,
  scopes: key.scopes,
  requests_per_minute: key.requests_per_minute,
  weight: key.weight,
  created_at: key.created_at.toISOString(),
})

const webhookSecret = Type.String({
  pattern: '^whsec_',
  description: 'Signs the webhooks of the key (Standard Webhooks).',
})

const DEFAULT_OVERLAP_SECONDS = 86_400
const MAX_OVERLAP_SECONDS = 7 * 86_400

const rotationSchema = Type.Object(
  {
    overlap_seconds: Type.Integer({
      minimum: 0,
      maximum: MAX_OVERLAP_SECONDS,
      default: DEFAULT_OVERLAP_SECONDS,
      description: 'How long the old secret signs in addition to the new one. 0: it stops immediately.',
    }),
  },
  { additionalProperties: false, required: [] },
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

const keyNotFound = (wire: string) =>
  new SluiceError('key_not_found', `There is no live key "${wire.slice(0, 100)}".`, {
    context: { field: '/id', id: wire },
  })

/** Keys of applications. The secret is returned once and stored as a hash. */
export const keys: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, keys: apiKeys }) => {
  app.post(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'Create a key',
        body: Type.Object(
          {
            name: Type.String({ minLength: 1, maxLength: 200 }),
            scopes: Type.Array(Type.Enum(SCOPES), { minItems: 1, uniqueItems: true, default: ['submit', 'read'] }),
            requests_per_minute: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 100_000_000, description: 'Absent: no limit.' }),
            ),
            weight: Type.Integer({
              minimum: 1,
              maximum: 1000,
              default: 1,
              description: 'The share of the workers that the key gets when several keys have more tasks than can run.',
            }),
          },
          {
            additionalProperties: false,
            required: ['name'],
            examples: [{ name: 'my application', requests_per_minute: 600 }],
          },
        ),
        response: {
          201: Type.Interface([keySchema], {
            key: Type.String({ description: 'The secret. It cannot be read again.' }),
            webhook_secret: webhookSecret,
          }),
        },
      },
    },
    async (request, reply) => {
      const { name, scopes, requests_per_minute, weight } = request.body
      assertStorable(name, '/name')
      const { key, secret } = await apiKeys.create({
        name,
        scopes,
        requestsPerMinute: requests_per_minute ?? null,
        weight,
      })
      const secrets = await readWebhookSecrets(db, key.id)
      return reply.code(201).send({ ...keyJson(key), key: secret, webhook_secret: formatSecret(secrets!.current) })
    },
  )

  app.get(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'List the live keys',
        response: { 200: Type.Object({ data: Type.Array(keySchema) }) },
      },
    },
    async () => ({ data: (await listKeys(db)).map(keyJson) }),
  )

  app.delete(
    '/api/v1/keys/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'Revoke a key',
        description:
          'Within five seconds, every API process refuses the key and ends its open requests (event streams, waits, downloads). Its tasks and batches continue, and their webhooks are sent: they contain the id and the status of a task, not its result.',
        params: Type.Object({ id: Type.String() }),
        response: { 200: keySchema },
      },
    },
    async request => {
      const id = fromWire('key', request.params.id)
      const revoked = id && (await revokeKey(db, id))
      if (!revoked) throw keyNotFound(request.params.id)
      apiKeys.invalidate(revoked.secret_hash)
      // The key is revoked. If this fails, the next periodic check ends its open requests.
      await apiKeys.recheckWatched().catch(error => request.log.debug({ err: error }, 'keys were not checked'))
      return keyJson(revoked)
    },
  )

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

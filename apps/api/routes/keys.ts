import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { type ApiKey, listKeys, readWebhookSecret, revokeKey, rotateWebhookSecret, SCOPES } from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { findUnstorable } from '#shared/text.ts'
import { secretText } from '#shared/webhooks/event.ts'
import type { ApiDeps } from '../deps.ts'

const keySchema = Type.Object({
  id: Type.String(),
  name: Type.String(),
  hint: Type.String({ description: 'The last characters of the secret.' }),
  scopes: Type.Array(Type.Enum(SCOPES)),
  requests_per_minute: Type.Union([Type.Integer(), Type.Null()]),
  weight: Type.Integer(),
  created_at: Type.String({ format: 'date-time' }),
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
  description: 'Signs what is sent to the key’s webhooks (Standard Webhooks).',
})

/** Keys for applications. The secret is shown once and stored as a hash. */
export const keys: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, keys: ring }) => {
  app.post(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'Make a key',
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
              description: 'Its share of the workers when several keys have more tasks than can run.',
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
            key: Type.String({ description: 'The secret. It is not shown again.' }),
            webhook_secret: webhookSecret,
          }),
        },
      },
    },
    async (request, reply) => {
      const { name, scopes, requests_per_minute, weight } = request.body
      if (findUnstorable(name) !== null)
        throw new SluiceError('invalid_text', undefined, { context: { field: '/name' } })
      const { key, secret } = await ring.create({
        name,
        scopes,
        requestsPerMinute: requests_per_minute ?? null,
        weight,
      })
      const signs = await readWebhookSecret(db, key.id)
      return reply.code(201).send({ ...keyJson(key), key: secret, webhook_secret: secretText(signs!) })
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
        description: 'Its tasks go on. Other API processes may accept it for up to five seconds more.',
        params: Type.Object({ id: Type.String() }),
        response: { 200: keySchema },
      },
    },
    async request => {
      const id = fromWire('key', request.params.id)
      const revoked = id && (await revokeKey(db, id))
      if (!revoked) throw new SluiceError('key_not_found', undefined, { context: { id: request.params.id } })
      ring.forget(revoked.secret_hash)
      return keyJson(revoked)
    },
  )

  for (const { method, summary, description, act } of [
    {
      method: 'GET',
      summary: 'Read the secret that signs a key’s webhooks',
      description: 'Of the key itself (`self`, or its id), or of any with an admin key.',
      act: readWebhookSecret,
    },
    {
      method: 'POST',
      summary: 'Replace the secret that signs a key’s webhooks',
      description:
        'As for reading it. From now on everything is signed with the new one, also what is sent again: the old one is of no use any more.',
      act: rotateWebhookSecret,
    },
  ] as const) {
    app.route({
      method,
      url: '/api/v1/keys/:id/webhook-secret',
      // Whoever may name a target may know what signs.
      config: { scope: 'submit' },
      schema: {
        tags: ['keys'],
        summary,
        description,
        params: Type.Object({ id: Type.String({ description: 'Key id, `key_…`, or `self`' }) }),
        response: { 200: Type.Object({ id: Type.String(), webhook_secret: webhookSecret }) },
      },
      handler: async ({ params, apiKey }) => {
        const id = params.id === 'self' ? apiKey.id : fromWire('key', params.id)
        const mine = id === apiKey.id || apiKey.scopes.includes('admin')
        const secret = id && mine ? await act(db, id) : null
        if (!id || !secret) throw new SluiceError('key_not_found', undefined, { context: { id: params.id } })
        return { id: toWire('key', id), webhook_secret: secretText(secret) }
      },
    })
  }
}

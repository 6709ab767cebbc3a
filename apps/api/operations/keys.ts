import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger } from 'fastify'
import { type Static, Type } from 'typebox'
import { listBudgets } from '#shared/db/budgets.ts'
import { changeKey, listKeys, revokeKey } from '#shared/db/keys.ts'
import { readWebhookSecrets } from '#shared/db/webhooks/secrets.ts'
import { fromWire } from '#shared/ids.ts'
import { formatSecret } from '#shared/webhooks/event.ts'
import { BUDGET_LIMIT, BUDGET_WINDOW } from '../budgets/budget-json.ts'
import type { ApiDeps } from '../deps.ts'
import { ADMIN_ID } from '../http/api-keys.ts'
import { readDollars } from '../http/dollars.ts'
import { invalidField } from '../http/invalid-field.ts'
import { assertStorable } from '../http/stored-values.ts'
import {
  DEFAULT_OVERLAP_SECONDS,
  keyJson,
  keyNotFound,
  keySchema,
  keySettings,
  overlapSchema,
  readSettings,
  webhookSecret,
} from './key-json.ts'

const newBudget = Type.Object({ window: BUDGET_WINDOW, limit_usd: BUDGET_LIMIT }, { additionalProperties: false })
const newKeySchema = Type.Object(
  {
    ...keySettings.properties,
    name: keySchema.properties.name,
    budgets: Type.Array(newBudget, {
      maxItems: 5,
      default: [],
      description: 'Budgets with the scope of the key, set together with it. Change them with PUT /api/v1/budgets.',
    }),
  },
  {
    additionalProperties: false,
    required: ['name'],
    examples: [
      {
        name: 'my application',
        requests_per_minute: 600,
        budgets: [{ window: 'month', limit_usd: '50' }],
      },
    ],
  },
)

const secretField = Type.String({ description: 'The secret. It cannot be read again.' })
const rotationSchema = overlapSchema(
  'How long the old secret is accepted in addition to the new one. 0: it stops immediately.',
)

/** Keys of applications. The secret is returned once and stored as a hash. */
export const keys: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, keys: apiKeys }) => {
  /** Ends the open requests of a key that is no longer live. If this fails, the next periodic check does. */
  const recheck = (log: FastifyBaseLogger) =>
    apiKeys.recheckWatched().catch(error => log.debug({ err: error }, 'keys were not checked'))

  app.post(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'Create a key',
        body: newKeySchema,
        response: { 201: Type.Interface([keySchema], { key: secretField, webhook_secret: webhookSecret }) },
      },
    },
    async (request, reply) => {
      const { budgets, name, ...settings } = request.body
      assertStorable(name, '/name')
      const limits = budgets.map(({ window, limit_usd }, i) => ({
        window,
        limitUsd: readDollars(limit_usd, `/budgets/${i}/limit_usd`),
      }))
      if (new Set(limits.map(one => one.window)).size < limits.length)
        throw invalidField('/budgets', 'must have at most one budget for each window')
      const created = await apiKeys.create({ ...readSettings(settings), name }, limits)
      const { key, secret } = created
      const secrets = await readWebhookSecrets(db, key.id)
      return reply.code(201).send({
        ...keyJson(key, created.budgets),
        key: secret,
        webhook_secret: formatSecret(secrets!.current),
      })
    },
  )

  app.get(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'List the live keys',
        description: 'Keys that have expired are listed until they are deleted.',
        response: { 200: Type.Object({ data: Type.Array(keySchema) }) },
      },
    },
    async () => {
      const [listed, budgets] = await Promise.all([listKeys(db), listBudgets(db)])
      return { data: listed.map(key => keyJson(key, budgets)) }
    },
  )

  const params = Type.Object({
    id: Type.String({ description: 'Key id, `key_…`', examples: ['key_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
  })
  app.get(
    '/api/v1/keys/:id',
    {
      config: { scope: 'admin' },
      schema: { tags: ['keys'], summary: 'Read a key', params, response: { 200: keySchema } },
    },
    async request => {
      const id = fromWire('key', request.params.id)
      const [[key], budgets] = id === null ? [[], []] : await Promise.all([listKeys(db, id), listBudgets(db)])
      if (!key) throw keyNotFound(request.params.id)
      return keyJson(key, budgets)
    },
  )

  app.patch(
    '/api/v1/keys/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'Change a key',
        description:
          'Fields that are left out keep their values. Every API process uses the change within three seconds.',
        params,
        body: Type.Object(keySettings.properties, {
          additionalProperties: false,
          minProperties: 1,
          examples: [{ requests_per_minute: 1200, weight: 2 }],
        }),
        response: { 200: keySchema },
      },
    },
    async request => {
      const id = fromWire('key', request.params.id)
      const changed = id && (await changeKey(db, id, readSettings(request.body)))
      if (!changed) throw keyNotFound(request.params.id)
      apiKeys.invalidate(id)
      return keyJson(changed, await listBudgets(db))
    },
  )

  app.post<{ Params: { id: string }; Body: Static<typeof rotationSchema> | null | undefined }>(
    '/api/v1/keys/:id/rotate',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['keys'],
        summary: 'Rotate the secret of a key',
        description:
          'Returns a new secret. The old one is accepted until `overlap_seconds` have passed, and secrets that were replaced earlier no longer than that. Both belong to the same key: its tasks, files and budgets do not change.',
        params,
        body: Type.Union([rotationSchema, Type.Null()], { examples: [{ overlap_seconds: 3600 }] }),
        response: { 200: Type.Interface([keySchema], { key: secretField }) },
      },
    },
    async request => {
      const id = fromWire('key', request.params.id)
      if (id === ADMIN_ID) throw invalidField('/id', 'is the key of the setting ADMIN_KEY; change the setting instead')
      const rotated = id && (await apiKeys.rotate(id, request.body?.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS))
      if (!rotated) throw keyNotFound(request.params.id)
      apiKeys.invalidate(id)
      await recheck(request.log)
      return { ...keyJson(rotated.key, await listBudgets(db)), key: rotated.secret }
    },
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
        params,
        response: { 200: keySchema },
      },
    },
    async request => {
      const id = fromWire('key', request.params.id)
      const revoked = id && (await revokeKey(db, id))
      if (!revoked) throw keyNotFound(request.params.id)
      apiKeys.invalidate(id)
      await recheck(request.log)
      return keyJson(revoked, await listBudgets(db))
    },
  )
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { deletePolicy, listPolicies, type PolicyRow, putPolicy, readPolicy } from '#shared/db/policies.ts'
import { SluiceError } from '#shared/errors.ts'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import { DEFAULT_MIN_CONFIDENCE, DEFAULT_POLICY, policyRules, thresholdOf } from '#shared/moderation/policy.ts'
import type { ApiDeps } from '../deps.ts'

const params = Type.Object({
  name: Type.String({
    pattern: '^[a-z0-9][a-z0-9_-]{0,63}$',
    description: 'Small letters, digits, `-` and `_`.',
    examples: ['forum'],
  }),
})

const policySchema = Type.Object({
  name: Type.String(),
  version: Type.Integer({ description: 'Counts its changes; tasks say by which one they were judged.' }),
  thresholds: Type.Record(
    Type.String(),
    Type.Object({
      review: Type.Union([Type.Number(), Type.Null()]),
      block: Type.Union([Type.Number(), Type.Null()]),
    }),
    { description: 'Of every category, with the defaults filled in.' },
  ),
  min_confidence: Type.Number(),
  updated_at: Type.String({ format: 'date-time' }),
})

const policyJson = (row: PolicyRow) => ({
  name: row.name,
  version: row.version,
  thresholds: Object.fromEntries(CATEGORIES.map(category => [category, thresholdOf(category, row)])),
  min_confidence: row.rules.min_confidence ?? DEFAULT_MIN_CONFIDENCE,
  updated_at: row.updated_at.toISOString(),
})

/** `/api/v1/policies`: from which scores on moderation blocks, and from which on it leaves the decision to people. */
export const policies: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  app.put(
    '/api/v1/policies/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'Write a policy of moderation',
        description:
          'In the place of the one before. Tasks that name it (`input.policy`) are judged by it as it was when they were accepted. What it does not say is as in the default policy.',
        params,
        body: {
          ...policyRules,
          examples: [{ thresholds: { spam: { review: 0.3, block: 0.6 } }, min_confidence: 0.7 }],
        } as typeof policyRules,
        response: { 200: policySchema },
      },
    },
    async ({ params: { name }, body }) => {
      for (const [category, one] of Object.entries(body.thresholds ?? {})) {
        if (one.block === null || one.review === null || one.review <= one.block) continue
        throw new SluiceError('invalid_request', 'review must not be above block, or nothing would be reviewed', {
          context: { field: `/thresholds/${category}/review` },
        })
      }
      if (name === DEFAULT_POLICY.name) {
        throw new SluiceError('invalid_request', '"default" is what holds without a policy; take another name', {
          context: { field: '/name' },
        })
      }
      return policyJson(await putPolicy(db, name, body))
    },
  )

  app.get(
    '/api/v1/policies',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'List policies',
        response: { 200: Type.Object({ data: Type.Array(policySchema) }) },
      },
    },
    async () => ({ data: (await listPolicies(db)).map(policyJson) }),
  )

  app.get(
    '/api/v1/policies/:name',
    {
      config: { scope: 'admin' },
      schema: { tags: ['moderation'], summary: 'Read a policy', params, response: { 200: policySchema } },
    },
    async ({ params: { name } }) => {
      const row = await readPolicy(db, name)
      if (!row) throw notFound(name)
      return policyJson(row)
    },
  )

  app.delete(
    '/api/v1/policies/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'Delete a policy',
        description: 'Tasks that name it are then refused; those that were accepted are judged by it.',
        params,
        response: { 200: policySchema },
      },
    },
    async ({ params: { name } }) => {
      const row = await deletePolicy(db, name)
      if (!row) throw notFound(name)
      return policyJson(row)
    },
  )
}

const notFound = (name: string) => new SluiceError('policy_not_found', undefined, { context: { policy: name } })

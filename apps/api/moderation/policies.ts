import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { deletePolicy, listPolicies, type PolicyRow, putPolicy, readPolicy } from '#shared/db/policies.ts'
import { SluiceError } from '#shared/errors.ts'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import {
  DEFAULT_MIN_CONFIDENCE,
  DEFAULT_POLICY,
  type PolicyRules,
  policyRules,
  thresholdOf,
} from '#shared/moderation/policy.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidField } from '../http/invalid-field.ts'
import { nullable, timestamp } from '../http/schemas.ts'

const params = Type.Object({
  name: Type.String({
    pattern: '^[a-z0-9][a-z0-9_-]{0,63}$',
    description: 'Lowercase letters, digits, `-` and `_`.',
    examples: ['forum'],
  }),
})

const policySchema = Type.Object({
  name: Type.String(),
  version: Type.Integer({
    description: 'Increases with every change. Tasks name the version that they were moderated with.',
  }),
  thresholds: Type.Record(
    Type.String(),
    Type.Object({ review: nullable(Type.Number()), block: nullable(Type.Number()) }),
    { description: 'The thresholds of all categories, including defaults.' },
  ),
  min_confidence: Type.Number(),
  updated_at: timestamp,
})

const policyJson = (row: PolicyRow<PolicyRules>) => ({
  name: row.name,
  version: row.version,
  thresholds: Object.fromEntries(CATEGORIES.map(category => [category, thresholdOf(category, row)])),
  min_confidence: row.rules.min_confidence ?? DEFAULT_MIN_CONFIDENCE,
  updated_at: row.updated_at.toISOString(),
})

/** `/api/v1/policies`: the scores from which moderation blocks a text, or leaves it to a human decision. */
export const policies: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  app.put(
    '/api/v1/policies/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'Create or replace a moderation policy',
        description:
          'Tasks that name the policy (`input.policy`) use it as it was when they were accepted. Fields that are absent have the values of the default policy.',
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
        throw invalidField(
          `/thresholds/${category.replace('/', '~1')}/review`,
          'must not be above `block`, because no text would be reviewed',
        )
      }
      if (name === DEFAULT_POLICY.name) {
        throw invalidField('/name', 'must not be "default", which is the built-in policy')
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
    async () => ({ data: (await listPolicies<PolicyRules>(db)).map(policyJson) }),
  )

  app.get(
    '/api/v1/policies/:name',
    {
      config: { scope: 'admin' },
      schema: { tags: ['moderation'], summary: 'Read a policy', params, response: { 200: policySchema } },
    },
    async ({ params: { name } }) => {
      const row = await readPolicy<PolicyRules>(db, name)
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
        description: 'New tasks that name it are refused. Tasks that were accepted before still use it.',
        params,
        response: { 200: policySchema },
      },
    },
    async ({ params: { name } }) => {
      const row = await deletePolicy<PolicyRules>(db, name)
      if (!row) throw notFound(name)
      return policyJson(row)
    },
  )
}

const notFound = (name: string) =>
  new SluiceError('policy_not_found', `There is no policy "${name}".`, { context: { field: '/name', policy: name } })

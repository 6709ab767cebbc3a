import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import {
  createVariantCounter,
  deleteExperiment,
  listExperiments,
  putExperiment,
  readExperiment,
  recordConversion,
} from '#shared/db/experiments.ts'
import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { EXPERIMENT_NAME, type Variant, variantSchema, variantsFault } from '#shared/experiments/definition.ts'
import type { ApiDeps } from '../deps.ts'
import { serverBusy } from '../http/concurrency-limit.ts'
import { invalidField } from '../http/invalid-field.ts'
import { assertStorable } from '../http/stored-values.ts'
import { ownTaskById } from '../tasks/routes.ts'
import { experimentJson, experimentSchema, statisticsJson, statisticsSchema } from './experiment-json.ts'
import { hashUser } from './exposures.ts'

const params = Type.Object({
  name: Type.String({
    pattern: EXPERIMENT_NAME,
    description: 'Lowercase letters, digits, `-` and `_`.',
    examples: ['tone'],
  }),
})

const conversionBody = Type.Object(
  {
    task_id: Type.Optional(
      Type.String({ description: 'The task that led to the conversion. Send either this or `user_id`.' }),
    ),
    user_id: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: 'The `options.user_id` of the tasks.' }),
    ),
    value: Type.Optional(
      Type.Number({
        minimum: -1e12,
        maximum: 1e12,
        description: 'The value of the conversion in your unit. Values are summed.',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ user_id: 'user-42', value: 9.9 }], default: {} },
)

/** `/api/v1/experiments`: compare variants of a kind's model, provider or prompt. */
export const experiments: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, jobs } = deps
  const count = createVariantCounter(db)

  app.put(
    '/api/v1/experiments/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'Create an experiment, or change its variants',
        description:
          'Tasks of the kind that name their user (`options.user_id`) get a variant. A user always gets the same one, and a change of weights moves as few users as possible. The other variants are compared with the first. A kind has at most one experiment: 409 if it has another one, or if this experiment is on another kind.',
        params,
        body: Type.Object(
          {
            kind: Type.Enum([...jobs.keys()]),
            variants: Type.Array(variantSchema, { minItems: 2, maxItems: 10 }),
          },
          {
            additionalProperties: false,
            examples: [
              {
                kind: 'generate',
                variants: [
                  { name: 'control', weight: 50 },
                  { name: 'sonnet', weight: 50, model: 'claude-sonnet-5' },
                ],
              },
            ],
          },
        ),
        response: { 200: experimentSchema },
      },
    },
    async ({ params: { name }, body: { kind, variants } }) => {
      assertStorable(variants, '/variants')
      const wrong = variantsFault(jobs.get(kind)!, variants)
      if (wrong) throw invalidField(wrong.field, wrong.message)
      for (const [i, one] of variants.entries()) deps.preflight.checkModel(jobs.get(kind)!, one, `/variants/${i}`)
      const row = await putExperiment(db, { name, kind, variants })
      if (!row) throw await conflict(db, name, kind)
      await deps.experiments.refresh()
      return experimentJson(row)
    },
  )

  app.get(
    '/api/v1/experiments',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'List experiments',
        response: { 200: Type.Object({ data: Type.Array(experimentSchema) }) },
      },
    },
    async () => ({ data: (await listExperiments<Variant>(db)).map(experimentJson) }),
  )

  app.get(
    '/api/v1/experiments/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'Read an experiment with its results',
        description: 'Results of the present variants. Tasks that were deleted are not counted.',
        params,
        response: { 200: statisticsSchema },
      },
    },
    async ({ params: { name } }) => {
      const experiment = await readExperiment<Variant>(db, name)
      if (!experiment) throw notFound(name)
      const counts = await count(name)
      if (!counts) throw serverBusy()
      return statisticsJson(experiment, counts)
    },
  )

  app.delete(
    '/api/v1/experiments/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'Delete an experiment',
        description: 'Deletes its conversions, too. Tasks that took part keep their variant.',
        params,
        response: { 200: experimentSchema },
      },
    },
    async ({ params: { name } }) => {
      const row = await deleteExperiment<Variant>(db, name)
      if (!row) throw notFound(name)
      await deps.experiments.refresh()
      return experimentJson(row)
    },
  )

  app.post(
    '/api/v1/experiments/:name/conversions',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['experiments'],
        summary: 'Record a conversion',
        description:
          'Records that a user reached the goal of the experiment. Each user is counted once. 422 if the task, or every task of this user and key, took no part.',
        params,
        body: conversionBody,
        response: {
          200: Type.Object({
            experiment: Type.String(),
            variant: Type.String(),
            counted: Type.Boolean({ description: 'false: the user had converted before.' }),
          }),
        },
      },
    },
    async request => {
      const { name } = request.params
      const { task_id, user_id, value } = request.body
      if ((task_id === undefined) === (user_id === undefined)) {
        throw invalidField('/task_id', 'or `user_id` is required, but not both')
      }
      if (!(await readExperiment<Variant>(db, name))) throw notFound(name)
      const { variant, counted } = await recordConversion(db, {
        experiment: name,
        target:
          task_id !== undefined
            ? { by: 'task', taskId: (await ownTaskById(deps, request, task_id)).id }
            : { by: 'user', userHash: hashUser({ apiKeyId: request.apiKey.id, userId: user_id! }) },
        value: value ?? null,
      })
      if (variant === null) {
        const field = task_id === undefined ? '/user_id' : '/task_id'
        throw new SluiceError('not_exposed', undefined, { context: { field, experiment: name } })
      }
      return { experiment: name, variant, counted }
    },
  )
}

const notFound = (name: string) =>
  new SluiceError('experiment_not_found', `There is no experiment "${name}".`, {
    context: { field: '/name', experiment: name },
  })

/** The experiment that conflicts with a new one. */
async function conflict(db: Db, name: string, kind: string): Promise<SluiceError> {
  const other = (await listExperiments<Variant>(db)).find(one => one.name === name || one.kind === kind)
  const detail =
    other?.name === name
      ? `"${name}" is an experiment on the kind ${other.kind}, which cannot be changed.`
      : `The kind ${kind} already has the experiment "${other?.name ?? name}".`
  return new SluiceError('experiment_conflict', detail, { context: { experiment: other?.name ?? name, kind } })
}

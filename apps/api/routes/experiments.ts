import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import {
  convert,
  createCounter,
  deleteExperiment,
  listExperiments,
  putExperiment,
  readExperiment,
} from '#shared/db/experiments.ts'
import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { NAME, variantSchema, wrongWith } from '#shared/experiments/definition.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import { experimentJson, experimentSchema, statisticsJson, statisticsSchema } from '../experiment-json.ts'
import { hashOfUser } from '../experiments.ts'
import { taskOf } from './tasks.ts'

const params = Type.Object({
  name: Type.String({
    pattern: NAME,
    description: 'Small letters, digits, `-` and `_`.',
    examples: ['tone'],
  }),
})

const conversionBody = Type.Object(
  {
    task_id: Type.Optional(Type.String({ description: 'The task that led to it. Either this or `user_id`.' })),
    user_id: Type.Optional(Type.String({ minLength: 1, maxLength: 200, description: 'As in `options.user_id`.' })),
    value: Type.Optional(
      Type.Number({ minimum: -1e12, maximum: 1e12, description: 'What it is worth, in your unit; summed up.' }),
    ),
  },
  { additionalProperties: false, examples: [{ user_id: 'user-42', value: 9.9 }], default: {} },
)

/** Seconds after which a client that was turned away should ask again. */
const AGAIN_SECONDS = 2

/** `/api/v1/experiments`: variants of how a kind is answered, what each user gets, and what comes of it. */
export const experiments: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, jobs } = deps
  const count = createCounter(db)

  app.put(
    '/api/v1/experiments/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'Begin an experiment, or change its variants',
        description:
          'From then on tasks of the kind that say whose they are (`options.user_id`) get a variant: a user always the same, and after a change of weights no more users another one than need to. The first variant is the one that others are held against. A kind has one experiment at a time; 409 if it has another one, or the experiment is on another kind.',
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
      const unstorable = findUnstorable(variants)
      if (unstorable !== null)
        throw new SluiceError('invalid_text', undefined, { context: { field: `/variants${unstorable}` } })
      const wrong = wrongWith(jobs.get(kind)!, variants)
      if (wrong)
        throw new SluiceError('invalid_request', `${wrong.field} ${wrong.message}`, { context: { field: wrong.field } })
      for (const [i, one] of variants.entries()) deps.afford.checkModel(jobs.get(kind)!, one, `/variants/${i}`)
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
    async () => ({ data: (await listExperiments(db)).map(experimentJson) }),
  )

  app.get(
    '/api/v1/experiments/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'Read an experiment, with what came of it so far',
        description: 'Of the variants as they are now. What was deleted with old tasks counts no more.',
        params,
        response: { 200: statisticsSchema },
      },
    },
    async ({ params: { name } }) => {
      const experiment = await readExperiment(db, name)
      if (!experiment) throw notFound(name)
      const counts = await count(name)
      if (!counts) throw new SluiceError('server_busy', undefined, { retryAfter: AGAIN_SECONDS })
      return statisticsJson(experiment, counts)
    },
  )

  app.delete(
    '/api/v1/experiments/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['experiments'],
        summary: 'End an experiment',
        description: 'Its conversions are deleted with it. Tasks that took part keep their variant.',
        params,
        response: { 200: experimentSchema },
      },
    },
    async ({ params: { name } }) => {
      const row = await deleteExperiment(db, name)
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
        summary: 'Tell that a user converted',
        description:
          'That is, did what the experiment is about. Counted once a user: the first time. 422 if the task, or any task of this user and key, took no part.',
        params,
        body: conversionBody,
        response: {
          200: Type.Object({
            experiment: Type.String(),
            variant: Type.String(),
            counted: Type.Boolean({ description: 'false: the user was counted before.' }),
          }),
        },
      },
    },
    async request => {
      const { name } = request.params
      const { task_id, user_id, value } = request.body
      if ((task_id === undefined) === (user_id === undefined)) {
        throw new SluiceError('invalid_request', '/task_id give either task_id or user_id', {
          context: { field: '/task_id' },
        })
      }
      if (!(await readExperiment(db, name))) throw notFound(name)
      const { variant, counted } = await convert(db, {
        experiment: name,
        who:
          task_id !== undefined
            ? { by: 'task', taskId: (await taskOf(deps, request, task_id)).id }
            : { by: 'user', userHash: hashOfUser({ apiKeyId: request.apiKey.id, userId: user_id! }) },
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

const notFound = (name: string) => new SluiceError('experiment_not_found', undefined, { context: { experiment: name } })

/** What stands in the way of an experiment. */
async function conflict(db: Db, name: string, kind: string): Promise<SluiceError> {
  const inTheWay = (await listExperiments(db)).find(one => one.name === name || one.kind === kind)
  const why =
    inTheWay?.name === name
      ? `"${name}" is an experiment on ${inTheWay.kind}, and stays one.`
      : `${kind} has the experiment "${inTheWay?.name ?? name}" already.`
  return new SluiceError('experiment_conflict', why, { context: { experiment: inTheWay?.name ?? name, kind } })
}

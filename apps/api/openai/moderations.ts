import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { moderationInput, moderationJson, usesDefaultModel } from '#shared/moderation/openai.ts'
import type { Verdict } from '#shared/moderation/verdict.ts'
import type { ApiDeps } from '../deps.ts'
import { assertStorable } from '../http/stored-values.ts'
import { prepareInput } from '../tasks/submit-task.ts'
import { submitAndWait } from './submit-and-wait.ts'

// Accepts any part, so that the error can name the type of a part that is not text.
const part = Type.Object({ type: Type.String(), text: Type.Optional(Type.String()) })

const bodySchema = Type.Object(
  {
    input: Type.Union([Type.String(), Type.Array(Type.String()), Type.Array(part)], {
      description:
        'A text; an array of texts, each with its own result; or an array of text parts, which form one text with one result. Images are refused.',
    }),
    model: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description: 'A model of any provider. The names of OpenAI’s moderation models select the default model.',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ input: 'What a lovely photograph.' }] },
)

const scores = Type.Record(Type.String(), Type.Number())
const answerSchema = Type.Object({
  id: Type.String(),
  model: Type.String(),
  results: Type.Array(
    Type.Object({
      flagged: Type.Boolean(),
      categories: Type.Record(Type.String(), Type.Boolean()),
      category_scores: scores,
      category_applied_input_types: Type.Record(Type.String(), Type.Array(Type.String())),
    }),
  ),
})

const DEADLINE_SECONDS = 10

/** OpenAI's `POST /v1/moderations`. Without a verdict the response is 503, never `flagged: false`. */
export const openAiModerations: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  app.post(
    '/v1/moderations',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Moderate text (OpenAI)',
        description:
          'Compatible with OpenAI’s moderation API. `flagged` is true unless the kind `moderate` decides `allow`. If it is true, so is at least one category: one of OpenAI’s, one that only this server has (such as `spam`), or `other`. 503 `no_verdict` if moderation did not complete.',
        body: bodySchema,
        response: { 200: answerSchema },
      },
    },
    async request => {
      const { model } = request.body
      assertStorable(request.body)
      const read = moderationInput(request.body.input)
      if ('wrong' in read)
        throw new SluiceError('invalid_request', read.wrong, { context: { field: `/${read.param}` } })
      const { input } = read
      const wrong = checkTexts('texts' in input ? input.texts : [input.text]) ?? moderate.validate(input)
      if (wrong) throw new SluiceError('invalid_request', `'input' ${wrong.message}.`, { context: { field: '/input' } })
      const outcome = await submitAndWait(deps, request, moderate, {
        input: await prepareInput(moderate, input, deps.lookup(request.apiKey.id)),
        model: usesDefaultModel(model) ? undefined : model,
        deadlineSeconds: DEADLINE_SECONDS,
      })
      const { task, verdict, by } =
        outcome.kind === 'answered'
          ? { task: outcome.task, verdict: outcome.answer.result, by: outcome.answer.model }
          : outcome.kind === 'ended' && outcome.task.status === 'succeeded'
            ? { task: outcome.task, verdict: outcome.task.result, by: outcome.task.model }
            : { task: null, verdict: null, by: null }
      if (!task) {
        const error = outcome.kind === 'ended' ? outcome.task.error : null
        throw new SluiceError('no_verdict', error ? `No verdict: ${error.message}` : undefined, {
          retryAfter: 1,
        })
      }
      return moderationJson(task.id.replaceAll('-', ''), by, verdict as Verdict)
    },
  )
}

const MAX_TEXTS = 20
const MAX_TEXT = 50_000

function checkTexts(texts: string[]): { message: string } | null {
  if (texts.length === 0 || texts.length > MAX_TEXTS) return { message: `must contain 1 to ${MAX_TEXTS} texts` }
  if (texts.some(text => text.trim() === '')) return { message: 'must not be empty' }
  return texts.some(text => text.length > MAX_TEXT)
    ? { message: `must have at most ${MAX_TEXT} characters each` }
    : null
}

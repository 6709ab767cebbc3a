import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { moderate, type Verdict } from '#shared/jobs/moderate.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { isUnnamed, moderationJson, textsOf } from '#shared/moderation/openai.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import { preparedInput, submitTask } from '../submit-task.ts'

const part = Type.Object({ type: Type.Literal('text'), text: Type.String() }, { additionalProperties: false })

const bodySchema = Type.Object(
  {
    input: Type.Union([Type.String(), Type.Array(Type.String()), Type.Array(part)], {
      description: 'A text, or a list of texts, each with a result of its own. Images are not judged.',
    }),
    model: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description: 'Any provider’s model; OpenAI’s own names for moderation stand for the default.',
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

/** Seconds: whoever asks here waits for the answer. */
const DEADLINE_SECONDS = 10

const optionsOf = (model: string | undefined): TaskOptions => ({
  ...(!isUnnamed(model) && { model: model! }),
  priority: 'interactive',
  deadline_seconds: DEADLINE_SECONDS,
  stream: false,
  cache: 'use',
  on_budget: 'fail',
  fallback: 'none',
})

/** `POST /v1/moderations` as OpenAI has it. Where there is no verdict the answer is 503, never `flagged: false`. */
export const openAiModerations: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  app.post(
    '/v1/moderations',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Judge texts (OpenAI)',
        description:
          'For clients of OpenAI’s moderation API. `flagged` is true unless the decision of the kind `moderate` is `allow`. 503 `no_verdict` if nobody could judge it.',
        body: bodySchema,
        response: { 200: answerSchema },
      },
    },
    async request => {
      const { model } = request.body
      const texts = textsOf(request.body.input)!
      const unstorable = findUnstorable(request.body)
      if (unstorable !== null) throw new SluiceError('invalid_text', undefined, { context: { field: unstorable } })
      const input = { texts }
      const wrong = wrongWith(texts) ?? moderate.validate(input)
      if (wrong) throw new SluiceError('invalid_request', `input ${wrong.message}`, { context: { field: '/input' } })
      const outcome = await submitTask(deps, request, {
        job: moderate,
        input: await preparedInput(deps, request, moderate, input),
        options: optionsOf(model),
        metadata: null,
        // The deadline passes first.
        wait: DEADLINE_SECONDS + 5,
        needsEnd: true,
        idempotency: null,
      })
      const { task, verdict, by } =
        outcome.kind === 'answered'
          ? { task: outcome.task, verdict: outcome.answer.result, by: outcome.answer.model }
          : outcome.kind === 'ended' && outcome.task.status === 'succeeded'
            ? { task: outcome.task, verdict: outcome.task.result, by: outcome.task.model }
            : { task: null, verdict: null, by: null }
      if (!task) {
        const error = outcome.kind === 'ended' ? outcome.task.error : null
        throw new SluiceError('no_verdict', error ? `There is no verdict: ${error.message}` : undefined, {
          retryAfter: 1,
        })
      }
      return moderationJson(task.id.replaceAll('-', ''), by, verdict as Verdict)
    },
  )
}

const MAX_TEXTS = 20
const MAX_TEXT = 50_000

function wrongWith(texts: string[]): { message: string } | null {
  if (texts.length === 0 || texts.length > MAX_TEXTS) return { message: `must hold 1 to ${MAX_TEXTS} texts` }
  if (texts.some(text => text.trim() === '')) return { message: 'must not be empty' }
  return texts.some(text => text.length > MAX_TEXT)
    ? { message: `must have at most ${MAX_TEXT} characters each` }
    : null
}

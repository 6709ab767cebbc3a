import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { inputCheck } from '#shared/batches/checks.ts'
import { embeddingInput, embeddingsJson } from '#shared/embeddings/openai.ts'
import { type ErrorCode, SluiceError } from '#shared/errors.ts'
import { embed, MAX_TEXTS, type Vectors } from '#shared/jobs/embed.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import { type Submitted, submitTask } from '../submit-task.ts'

const bodySchema = Type.Object(
  {
    input: Type.Union(
      [
        Type.String(),
        Type.Array(Type.String(), { maxItems: MAX_TEXTS }),
        Type.Array(Type.Integer()),
        Type.Array(Type.Array(Type.Integer())),
      ],
      { description: `A text, or a list of at most ${MAX_TEXTS}. Lists of tokens are turned down.` },
    ),
    model: Type.String({ minLength: 1, maxLength: 200, description: 'Any provider’s model that makes vectors.' }),
    dimensions: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.Null()])),
    encoding_format: Type.Optional(Type.Union([Type.Enum(['float', 'base64']), Type.Null()])),
    user: Type.Optional(Type.Union([Type.String(), Type.Null()], { description: 'Without effect.' })),
  },
  {
    additionalProperties: false,
    examples: [{ input: ['A red bicycle', 'A blue boat'], model: 'text-embedding-3-small', dimensions: 256 }],
  },
)

const answerSchema = Type.Object({
  object: Type.Literal('list'),
  data: Type.Array(
    Type.Object({
      object: Type.Literal('embedding'),
      index: Type.Integer(),
      embedding: Type.Union([
        Type.Array(Type.Number()),
        Type.String({ description: '`encoding_format: base64`: 32-bit floats, little-endian.' }),
      ]),
    }),
  ),
  model: Type.String(),
  usage: Type.Object(
    { prompt_tokens: Type.Integer(), total_tokens: Type.Integer() },
    { description: 'What was asked for it now: 0 where the answer was remembered.' },
  ),
})

/** Seconds: whoever asks here waits for the answer, and an answer of a provider may take its time. */
const DEADLINE_SECONDS = 50

const optionsOf = (model: string): TaskOptions => ({
  model,
  priority: 'interactive',
  deadline_seconds: DEADLINE_SECONDS,
  stream: false,
  cache: 'use',
  on_budget: 'fail',
  fallback: 'none',
})

/** `POST /v1/embeddings` as OpenAI has it: a task of the kind `embed` whose client waits for it. */
export const openAiEmbeddings: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const fault = inputCheck(embed)

  app.post(
    '/v1/embeddings',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Make vectors of texts (OpenAI)',
        description: 'For clients of OpenAI’s embeddings API.',
        body: bodySchema,
        response: { 200: answerSchema },
      },
    },
    async request => {
      const outcome = await submitTask(deps, request, {
        job: embed,
        input: inputOf(request.body),
        options: optionsOf(request.body.model),
        metadata: null,
        // The deadline passes first.
        wait: DEADLINE_SECONDS + 5,
        needsEnd: true,
        idempotency: null,
      })
      if (outcome.kind === 'answered') return embeddingsJson(outcome.answer.model, outcome.answer.result as Vectors, 0)
      const task = endedWell(outcome)
      return embeddingsJson(task.model, task.result as Vectors, task.input_tokens)
    },
  )

  /** @throws SluiceError as for a task of that kind, about the fields of this request */
  function inputOf(body: Static<typeof bodySchema>) {
    const unstorable = findUnstorable(body)
    if (unstorable !== null) throw new SluiceError('invalid_text', undefined, { context: { field: unstorable } })
    const read = embeddingInput(body)
    if ('wrong' in read) throw new SluiceError('invalid_request', read.wrong, { context: { field: `/${read.param}` } })
    const { input } = read
    const wrong = fault(input)
    if (!wrong) return input
    const param = wrong.field.startsWith('/input/texts') ? 'input' : wrong.field.slice('/input/'.length)
    throw new SluiceError('invalid_request', `'${param}' ${wrong.message}`, { context: { field: `/${param}` } })
  }
}

/** @throws SluiceError saying why the task has no result */
function endedWell(outcome: Submitted) {
  if (outcome.kind !== 'ended') throw new SluiceError('deadline_exceeded', 'There was no answer in time.')
  const { status, error } = outcome.task
  if (status === 'succeeded') return outcome.task
  throw new SluiceError((error?.code ?? 'internal') as ErrorCode, error?.message)
}

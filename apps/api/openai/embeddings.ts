import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { inputCheck } from '#shared/batches/checks.ts'
import { embeddingInput, embeddingsJson } from '#shared/embeddings/openai.ts'
import { type ErrorCode, SluiceError } from '#shared/errors.ts'
import { embed, MAX_TEXTS, type Vectors } from '#shared/jobs/embed.ts'
import type { ApiDeps } from '../deps.ts'
import { assertStorable } from '../http/stored-values.ts'
import type { Submitted } from '../tasks/submit-task.ts'
import { submitAndWait } from './submit-and-wait.ts'

const bodySchema = Type.Object(
  {
    input: Type.Union(
      [
        Type.String(),
        Type.Array(Type.String(), { maxItems: MAX_TEXTS }),
        Type.Array(Type.Integer()),
        Type.Array(Type.Array(Type.Integer()), { maxItems: MAX_TEXTS }),
      ],
      {
        description: `A text, or an array of at most ${MAX_TEXTS} texts. Tokens of the encoding cl100k_base are decoded, and the provider gets the text.`,
      },
    ),
    model: Type.String({ minLength: 1, maxLength: 200, description: 'An embedding model of any provider.' }),
    dimensions: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.Null()])),
    encoding_format: Type.Optional(Type.Union([Type.Enum(['float', 'base64']), Type.Null()])),
    user: Type.Optional(Type.Union([Type.String(), Type.Null()], { description: 'Has no effect.' })),
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
    { description: 'Tokens of this request. 0 if the answer came from the cache.' },
  ),
})

/** Below the 60 s that a request may wait (MAX_WAIT_SECONDS). */
const DEADLINE_SECONDS = 50

/** OpenAI's `POST /v1/embeddings`: a task of the kind `embed` whose client waits for the result. */
export const openAiEmbeddings: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const fault = inputCheck(embed)

  app.post(
    '/v1/embeddings',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Create embeddings (OpenAI)',
        description: 'Compatible with OpenAI’s embeddings API.',
        body: bodySchema,
        response: { 200: answerSchema },
      },
    },
    async request => {
      const outcome = await submitAndWait(deps, request, embed, {
        input: readInput(request.body),
        model: request.body.model,
        deadlineSeconds: DEADLINE_SECONDS,
      })
      if (outcome.kind === 'answered') return embeddingsJson(outcome.answer.model, outcome.answer.result as Vectors, 0)
      const task = succeededTask(outcome)
      return embeddingsJson(task.model, task.result as Vectors, task.input_tokens)
    },
  )

  /** The input of the task. @throws SluiceError, with the field names of this request */
  function readInput(body: Static<typeof bodySchema>) {
    assertStorable(body)
    const read = embeddingInput(body)
    if ('wrong' in read) throw new SluiceError('invalid_request', read.wrong, { context: { field: `/${read.param}` } })
    const { input } = read
    const wrong = fault(input)
    if (!wrong) return input
    const param = wrong.field.startsWith('/input/texts') ? 'input' : wrong.field.slice('/input/'.length)
    throw new SluiceError('invalid_request', `'${param}' ${wrong.message}.`, { context: { field: `/${param}` } })
  }
}

/** @throws SluiceError: why the task has no result */
function succeededTask(outcome: Submitted) {
  if (outcome.kind !== 'ended')
    throw new SluiceError('deadline_exceeded', 'The deadline passed before there was an answer.')
  const { status, error } = outcome.task
  if (status === 'succeeded') return outcome.task
  throw new SluiceError((error?.code ?? 'internal') as ErrorCode, error?.message)
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { checkInput } from '#shared/batches/check-input.ts'
import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import { SluiceError } from '#shared/errors.ts'
import type { FileRow } from '#shared/files/store.ts'
import type { ApiDeps } from '../deps.ts'
import { serverBusy } from '../http/concurrency-limit.ts'
import { idempotencyKey, idempotencyKeyOf } from '../http/idempotency.ts'
import { invalidField } from '../http/invalid-field.ts'
import { acceptForms, type FormFields, isForm, MAX_FILE_BYTES, receiveBody, receiveFile } from '../http/receive-file.ts'
import { nullable } from '../http/schemas.ts'
import { traceparentOf } from '../http/trace.ts'
import { batchJson, batchSchema, batchUrl, problemSchema } from './batch-json.ts'
import { type BatchSettings, createSettings, formatOfName, formatOfType, RAW_TYPES } from './batch-settings.ts'
import { acceptBatch, webhookTarget } from './own-batch.ts'

/** Dry runs. Reading a large file takes about a second of CPU. */
const CHECKS = { atOnce: 2, waiting: 10, waitMs: 30_000 }

const checkedSchema = Type.Object({
  valid: Type.Boolean(),
  lines: Type.Integer({ description: 'The lines that were read. Reading stops after too many errors.' }),
  errors: Type.Array(problemSchema),
  cost_bound_usd: nullable(Type.Number(), {
    description: 'The maximum cost with one call per line. null: a price is unknown, or the input is not valid.',
  }),
  model: nullable(Type.String(), { description: 'The model, if all lines name the same one.' }),
})

/** `POST /api/v1/batches`: a form with a file, or the lines in the body. */
export const batchUpload: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { files, jobs } = deps
  const checks = createSemaphore(CHECKS)
  const settings = createSettings(jobs)
  acceptForms(app)
  app.removeContentTypeParser(['application/json'])
  // The handler reads the body as a stream.
  app.addContentTypeParser(RAW_TYPES, (_request, payload, done) => done(null, payload))

  const check = async ({ kind, mapping, options }: BatchSettings, file: FileRow, apiKeyId: string) => {
    const input = await files.read(file.id)
    if (!input) throw new SluiceError('file_not_found')
    const checking = { jobs, prices: deps.prices, available: async () => deps.available(), lookup: deps.lookup }
    const checked = await checks(() =>
      checkInput(
        checking,
        { surface: 'native', endpoint: null, kind, mapping, options, api_key_id: apiKeyId },
        input.bytes,
      ),
    )
    if (!checked) throw serverBusy(5)
    return {
      valid: checked.problems.length === 0,
      lines: checked.lines,
      errors: checked.problems,
      cost_bound_usd: checked.boundUsd === null ? null : Number(checked.boundUsd),
      model: checked.model,
    }
  }

  /** Stores the file and reads the settings from the form and the query. */
  async function receive(request: FastifyRequest): Promise<{ file: FileRow; settings: BatchSettings }> {
    const query = request.query as FormFields
    if (!isForm(request)) {
      const type = request.headers['content-type'] ?? ''
      const read = settings.read(query, formatOfType(type))
      const filename = `batch.${read.mapping.format}`
      return {
        settings: read,
        file: await receiveBody(request, files, { maxBytes: MAX_FILE_BYTES, purpose: 'batch', filename }),
      }
    }
    const { file, fields } = await receiveFile(request, files, {
      maxBytes: MAX_FILE_BYTES,
      finish: () => ({ purpose: 'batch' }),
    })
    try {
      const repeated = Object.keys(fields).find(name => name in query)
      if (repeated) throw invalidField(`/${repeated}`, 'is in the form and in the query; send it once')
      return { file, settings: settings.read({ ...query, ...fields }, formatOfName(file.filename)) }
    } catch (error) {
      await files.remove(file.id)
      throw error
    }
  }

  app.post(
    '/api/v1/batches',
    {
      config: { scope: 'submit', upload: true },
      // The parameters of the query may also be fields of the form, so that the handler checks them.
      validatorCompiler: () => () => true,
      schema: {
        tags: ['batches'],
        summary: 'Create a batch',
        description: `Runs a task for every line of a file. Send a form with a \`file\`, or the lines as the body: ${RAW_TYPES.map(type => `\`${type}\``).join(', ')}. At most ${MAX_FILE_BYTES / 1_048_576} MB. The lines are checked after the response: if any has errors, the batch becomes \`failed\` and lists them in \`errors\`. With \`dry_run\` the response lists them.`,
        consumes: ['multipart/form-data', ...RAW_TYPES],
        headers: Type.Object({ 'idempotency-key': idempotencyKey('batch') }),
        querystring: settings.schema,
        response: { 200: checkedSchema, 202: batchSchema },
      },
    },
    async (request, reply) => {
      const { file, settings: read } = await receive(request)
      let kept = false
      try {
        const key = idempotencyKeyOf(request)
        if (read.dryRun) return reply.send(await check(read, file, request.apiKey.id))
        const { kind, mapping, priority, metadata, completionWindow, windowSeconds, maxCostUsd } = read
        const batchInput = {
          ...{ apiKeyId: request.apiKey.id, surface: 'native' as const, endpoint: null, outputExpiresSeconds: null },
          ...{ kind, mapping, priority, metadata, completionWindow, windowSeconds, maxCostUsd },
          inputFileId: file.id,
          options: read.options,
          webhookUrl: webhookTarget(deps, read.webhookUrl, 'options/webhook_url'),
          traceparent: traceparentOf(request),
        }
        const batch = await acceptBatch(deps, batchInput, { key, input: file.sha256!.toString('hex') })
        // A batch that existed before has its own file.
        kept = batch.input_file_id === file.id
        return reply.code(202).header('location', batchUrl(batch.id)).header('retry-after', 1).send(batchJson(batch))
      } finally {
        if (!kept) await files.remove(file.id).catch(() => undefined)
      }
    },
  )
}

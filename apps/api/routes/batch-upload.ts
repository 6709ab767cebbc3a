import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { checkInput } from '#shared/batches/check-input.ts'
import { SluiceError } from '#shared/errors.ts'
import type { FileRow } from '#shared/files/store.ts'
import { createLanes } from '#shared/lanes.ts'
import { configuredAs } from '#shared/routing.ts'
import { batchJson, batchSchema, batchUrl, problemSchema } from '../batch-json.ts'
import { type BatchSettings, createSettings, formatOfName, formatOfType, RAW_TYPES } from '../batch-settings.ts'
import { acceptBatch, targetOf } from '../batches.ts'
import type { ApiDeps } from '../deps.ts'
import { idempotencyKey, idempotencyKeyOf } from '../idempotency.ts'
import { traceparentOf } from '../plugins/trace.ts'
import { acceptForms, type FormFields, receiveBody, receiveFile } from '../receive-file.ts'
import { MAX_FILE_BYTES } from './openai-files.ts'

/** Reading a large file takes the process a second; who finds both places taken waits a little. */
const CHECKS = { atOnce: 2, waiting: 10, waitMs: 30_000 }

const checkedSchema = Type.Object({
  valid: Type.Boolean(),
  lines: Type.Integer({ description: 'Those that could be read, up to where reading stopped.' }),
  errors: Type.Array(problemSchema),
  cost_bound_usd: Type.Union([Type.Number(), Type.Null()], {
    description:
      'The most that it can cost if each line is asked once; null: some price is not known, or it is not valid.',
  }),
  model: Type.Union([Type.String(), Type.Null()], { description: 'If all lines name the same.' }),
})

/** `POST /api/v1/batches`: a form with a file, or the lines as the body. */
export const batchUpload: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { files, jobs } = deps
  const lanes = createLanes(CHECKS)
  const settings = createSettings(jobs)
  await acceptForms(app)
  app.removeContentTypeParser(['application/json'])
  // Bodies are read by the handler, as they come.
  app.addContentTypeParser(RAW_TYPES, (_request, _payload, done) => done(null))

  const available = configuredAs(deps.config.providers)
  const check = async ({ kind, mapping, options }: BatchSettings, file: FileRow, apiKeyId: string) => {
    const input = await files.read(file.id)
    if (!input) throw new SluiceError('file_not_found')
    const checking = { jobs, prices: deps.prices, available: async () => available, lookup: deps.lookup }
    const checked = await lanes(() =>
      checkInput(
        checking,
        { surface: 'native', endpoint: null, kind, mapping, options, api_key_id: apiKeyId },
        input.bytes,
      ),
    )
    if (!checked) throw new SluiceError('server_busy', undefined, { retryAfter: 5 })
    return {
      valid: checked.problems.length === 0,
      lines: checked.lines,
      errors: checked.problems,
      cost_bound_usd: checked.boundUsd === null ? null : Number(checked.boundUsd),
      model: checked.model,
    }
  }

  /** The file, and what was said beside it. */
  async function receive(request: FastifyRequest): Promise<{ file: FileRow; settings: BatchSettings }> {
    const query = request.query as FormFields
    const twice = (fields: FormFields) => Object.keys(fields).find(name => name in query)
    if (!request.isMultipart()) {
      const type = request.headers['content-type'] ?? ''
      const said = settings.read(query, formatOfType(type))
      const filename = `batch.${said.mapping.format}`
      return {
        settings: said,
        file: await receiveBody(request, files, { maxBytes: MAX_FILE_BYTES, purpose: 'batch', filename }),
      }
    }
    const { file, fields } = await receiveFile(request, files, {
      maxBytes: MAX_FILE_BYTES,
      finish: () => ({ purpose: 'batch' }),
    })
    try {
      const both = twice(fields)
      if (both)
        throw new SluiceError('invalid_request', `${both} is in the form and in the query`, {
          context: { field: `/${both}` },
        })
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
      // What comes in the query may also come in the form.
      validatorCompiler: () => () => true,
      schema: {
        tags: ['batches'],
        summary: 'Run every line of a file',
        description: `A form with a \`file\`, or the lines as the body: ${RAW_TYPES.map(type => `\`${type}\``).join(', ')}. At most ${MAX_FILE_BYTES / 1_048_576} MB. What is wrong with the lines is found afterwards: the batch is \`failed\` then, with its \`errors\`; \`dry_run\` answers with them at once.`,
        consumes: ['multipart/form-data', ...RAW_TYPES],
        headers: Type.Object({ 'idempotency-key': idempotencyKey('batch') }),
        querystring: settings.schema,
        response: { 200: checkedSchema, 202: batchSchema },
      },
    },
    async (request, reply) => {
      const { file, settings: said } = await receive(request)
      let kept = false
      try {
        const key = idempotencyKeyOf(request)
        if (said.dryRun) return reply.send(await check(said, file, request.apiKey.id))
        const { kind, mapping, priority, metadata, completionWindow, windowSeconds, maxCostUsd } = said
        const asked = {
          ...{ apiKeyId: request.apiKey.id, surface: 'native' as const, endpoint: null, outputExpiresSeconds: null },
          ...{ kind, mapping, priority, metadata, completionWindow, windowSeconds, maxCostUsd },
          inputFileId: file.id,
          options: said.options,
          webhookUrl: targetOf(deps, said.webhookUrl, 'options/webhook_url'),
          traceparent: traceparentOf(request),
        }
        const batch = await acceptBatch(deps, asked, { key, input: file.sha256!.toString('hex') })
        // One that was there already has a file of its own.
        kept = batch.input_file_id === file.id
        return reply.code(202).header('location', batchUrl(batch.id)).header('retry-after', 1).send(batchJson(batch))
      } finally {
        if (!kept) await files.remove(file.id).catch(() => undefined)
      }
    },
  )
}

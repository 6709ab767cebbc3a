import type Anthropic from '@anthropic-ai/sdk'
import type { ChatAnswer } from '#shared/requests/answer.ts'
import { createAccumulator } from '#shared/requests/anthropic-messages/accumulate.ts'
import { anthropicMessages } from '#shared/requests/anthropic-messages/index.ts'
import { createAnthropicClient } from './anthropic-clients.ts'
import type { CallRequest, ProviderFactory } from './define.ts'
import { assertAnswered, type Call, guarded, schemaInstruction } from './guard.ts'
import { createListing, listedModels, PROBE_TIMEOUT_MS } from './listing.ts'
import { anthropicLimits } from './rate-limits.ts'
import { providerSchemas } from './schemas/provider-schemas.ts'
import { trackedFetch } from './transport.ts'
import { upstreamModel } from './upstream-model.ts'

type Params = Anthropic.MessageCreateParamsNonStreaming
type Stream = AsyncIterable<Anthropic.RawMessageStreamEvent>
export const anthropic: ProviderFactory = (config, fetch = trackedFetch) => {
  const client = createAnthropicClient(config, fetch)
  const { models } = client
  const listing =
    config.lists && models
      ? createListing(config, async () =>
          listedModels(await models.list({}, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })),
        )
      : null
  return {
    name: config.name,
    async ping(signal) {
      if (!models) throw new Error('the service has no free request')
      await models.list({ limit: 1 }, { signal })
    },
    defaultModel: listing?.finder('chat', config.model) ?? (async () => config.model),
    ...(listing && { listed: listing.names }),
    embedding: null,
    call: (request, context) =>
      guarded(
        context,
        async call => {
          const params = { ...toParams(request, call.streaming), model: upstreamModel(config, request.model) }
          const messages = await client.messages()
          const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
          const isForwarded = isOwnWire(request)
          const answer = call.streaming
            ? await readStream(await messages.create({ ...params, stream: true }, options), call, isForwarded)
            : readMessage(await messages.create(params, options), isForwarded)
          return assertAnswered({ ...answer, model: answer.model || request.model })
        },
        anthropicLimits,
      ),
  }
}

/** Whether the client speaks the provider's format, so that its request and the answer are passed on as they are. */
const isOwnWire = ({ original }: CallRequest): boolean => original?.wire === 'anthropic-messages'

/**
 * A translated request has no sampling parameters: API version 2026-10-21, which this SDK uses, rejects them for current models and no
 * longer declares them. An answer at the default temperature is better than a failed task.
 */
function toParams(request: CallRequest, stream: boolean): Params {
  if (isOwnWire(request) || !request.schema) return rendered(request, stream)
  const { schema, ...rest } = request
  const { closed, portable } = providerSchemas(schema)
  return closed
    ? rendered({ ...rest, schema: closed }, stream)
    : rendered({ ...rest, system: schemaInstruction(rest.system, portable) }, stream)
}

/** The SDK sends fields that it does not declare, too. */
const rendered = (request: CallRequest, stream: boolean): Params =>
  anthropicMessages.render(request, { stream }) as object as Params

function readMessage(message: Anthropic.Message, isForwarded: boolean): ChatAnswer {
  const answer = anthropicMessages.readAnswer(message)
  return isForwarded ? withOriginal(answer, { ...message }) : answer
}

async function readStream(stream: Stream, call: Call, isForwarded: boolean): Promise<ChatAnswer> {
  const reader = anthropicMessages.readStream()
  const whole = isForwarded ? createAccumulator() : null
  for await (const event of stream) {
    call.begun = true
    const events = reader.read(event)
    whole?.add({ ...event })
    if (isForwarded) call.emit({ type: 'original', event: { ...event } })
    else for (const one of events) call.emit(one)
    call.usage = reader.usage()
  }
  const answer = reader.answer()
  return whole ? withOriginal(answer, whole.message()) : answer
}

const withOriginal = (answer: ChatAnswer, body: Record<string, unknown>): ChatAnswer => ({
  ...answer,
  original: { wire: 'anthropic-messages', body },
})

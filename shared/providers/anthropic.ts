import type Anthropic from '@anthropic-ai/sdk'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { Message } from '#shared/requests/request.ts'
import { messageText } from '#shared/requests/text.ts'
import { createAnthropicClient } from './anthropic-clients.ts'
import { CallFailure, type CallRequest, type ProviderFactory, type Usage } from './define.ts'
import { failureOfBody } from './failures.ts'
import {
  type Answer,
  assertAnswered,
  type Call,
  guarded,
  isCount,
  reasoningOf,
  schemaInstruction,
  textParts,
  tokens,
} from './guard.ts'
import { createListing, listedModels, PROBE_TIMEOUT_MS } from './listing.ts'
import { anthropicLimits } from './rate-limits.ts'
import { providerSchemas } from './schemas/provider-schemas.ts'
import { trackedFetch } from './transport.ts'
import { upstreamModel } from './upstream-model.ts'

type Params = Anthropic.MessageCreateParamsNonStreaming
type Stream = AsyncIterable<Anthropic.RawMessageStreamEvent>
type WireUsage = { [K in keyof Anthropic.Usage]?: Anthropic.Usage[K] | null }

const FINISH_REASONS: Partial<Record<Anthropic.StopReason, FinishReason>> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
  refusal: 'refusal',
  tool_use: 'tool_calls',
}

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
          const params = { ...toParams(request), model: upstreamModel(config, request.model) }
          const messages = await client.messages()
          const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
          return call.streaming
            ? readStream(await messages.create({ ...params, stream: true }, options), call)
            : readMessage(await messages.create(params, options))
        },
        anthropicLimits,
      ),
  }
}

/**
 * Omits `temperature`: API version 2026-10-21, which this SDK uses, rejects it for current models and no longer
 * declares it. An answer at the default temperature is better than a failed task.
 */
function toParams(request: CallRequest): Params {
  const params: Params = {
    model: request.model,
    max_tokens: request.maxTokens,
    messages: request.messages.map(toMessage),
  }
  if (request.system) params.system = request.system
  if (request.schema) {
    const { closed, portable } = providerSchemas(request.schema)
    if (closed) params.output_config = { format: { type: 'json_schema', schema: closed } }
    else params.system = schemaInstruction(request.system, portable)
  }
  return params
}

const toMessage = (message: Message) => ({ role: message.role, content: messageText(message) })

function readMessage(message: Anthropic.Message): Answer {
  if (!Array.isArray(message?.content)) {
    const { error } = (message ?? {}) as { error?: unknown }
    throw error ? failureOfBody(error) : new CallFailure('bad_response', 'The answer is not a message')
  }
  let text = ''
  for (const block of message.content) if (block.type === 'text') text += block.text
  return assertAnswered({
    parts: textParts(text),
    finishReason: toFinishReason(message.stop_reason),
    usage: message.usage ? toUsage(message.usage) : null,
    model: message.model,
  })
}

async function readStream(stream: Stream, call: Call): Promise<Answer> {
  let text = ''
  let model: string | null = null
  let stop: Anthropic.StopReason | null = null
  let usage: WireUsage = {}
  let complete = false
  // Counts are cumulative. They are null in events that do not repeat them.
  const count = (more: WireUsage | null | undefined) => {
    usage = { ...usage, ...Object.fromEntries(Object.entries(more ?? {}).filter(([, value]) => value !== null)) }
  }
  for await (const event of stream) {
    call.begun = true
    if (event.type === 'message_start') {
      model = event.message.model
      count(event.message.usage)
    } else if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') {
      text += event.delta.text
      call.emit({ type: 'text', part: 0, delta: event.delta.text })
    } else if (event.type === 'message_delta') {
      stop = event.delta.stop_reason ?? stop
      count(event.usage as WireUsage)
      // The output count of message_start does not cover the rest of the stream.
      if (stop && typeof event.usage?.output_tokens === 'number') call.usage = toUsage(usage)
    } else if (event.type === 'message_stop') complete = true
  }
  if (model === null) throw new CallFailure('bad_response', 'The stream has no message')
  if (!complete) throw new CallFailure('connection', 'The stream ended before the message did', { usage: call.usage })
  return assertAnswered({ parts: textParts(text), finishReason: toFinishReason(stop), usage: call.usage, model })
}

const toFinishReason = (reason: Anthropic.StopReason | null): FinishReason =>
  (reason && FINISH_REASONS[reason]) || 'other'

/**
 * `input_tokens` excludes tokens read from and written to the cache. @returns null: counts that the price needs are
 * missing
 */
function toUsage(usage: WireUsage): Usage | null {
  if (!isCount(usage.input_tokens) || !isCount(usage.output_tokens)) return null
  const cacheReadTokens = tokens(usage.cache_read_input_tokens)
  const cacheWriteTokens = tokens(usage.cache_creation_input_tokens)
  const reasoning = usage.output_tokens_details?.thinking_tokens
  return {
    inputTokens: tokens(usage.input_tokens) + cacheReadTokens + cacheWriteTokens,
    outputTokens: tokens(usage.output_tokens),
    cacheReadTokens,
    cacheWriteTokens,
    ...reasoningOf(reasoning),
  }
}

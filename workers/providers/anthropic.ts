import Anthropic from '@anthropic-ai/sdk'
import { transformJSONSchema } from '@anthropic-ai/sdk/lib/transform-json-schema'
import { type CallAnswer, CallFailure, type CallRequest, type ProviderFactory, type Usage } from './define.ts'
import { failureOfBody } from './failures.ts'
import { type Answer, answered, type Call, guarded, schemaInstruction, tokens } from './guard.ts'
import { anthropicLimits } from './rate-limits.ts'
import { notedFetch } from './transport.ts'

type Params = Anthropic.MessageCreateParamsNonStreaming
type Stream = AsyncIterable<Anthropic.RawMessageStreamEvent>
type WireUsage = { [K in keyof Anthropic.Usage]?: Anthropic.Usage[K] | null }

const STOPS: Partial<Record<Anthropic.StopReason, CallAnswer['stop']>> = {
  end_turn: 'end',
  stop_sequence: 'end',
  max_tokens: 'max_tokens',
  model_context_window_exceeded: 'max_tokens',
  refusal: 'refusal',
}

export const anthropic: ProviderFactory = config => {
  const client = new Anthropic({
    baseURL: config.baseUrl,
    apiKey: config.apiKey,
    maxRetries: 0,
    fetch: notedFetch,
    // It would log answers that it cannot parse; they come back as a CallFailure.
    logLevel: 'off',
    openTelemetry: false,
  })
  return {
    name: config.name,
    defaultModel: async () => config.model,
    embedding: null,
    call: (request, context) =>
      guarded(
        context,
        async call => {
          const params = toParams(request)
          const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
          return call.streaming
            ? readStream(await client.messages.create({ ...params, stream: true }, options), call)
            : readMessage(await client.messages.create(params, options))
        },
        anthropicLimits,
      ),
  }
}

/**
 * `temperature` is left out on purpose: API version 2026-10-21, which this SDK speaks, rejects it on current models
 * and has dropped it from its types. Answering a bit less evenly beats failing the job.
 */
function toParams(request: CallRequest): Params {
  const params: Params = { model: request.model, max_tokens: request.maxTokens, messages: request.messages }
  if (request.system) params.system = request.system
  if (request.schema) {
    const schema = constrained(request.schema)
    if (schema) params.output_config = { format: { type: 'json_schema', schema } }
    else params.system = schemaInstruction(request.system, request.schema)
  }
  return params
}

type Schema = Record<string, unknown>
const constrainedSchemas = new WeakMap<Schema, Schema | null>()

/** The subset that structured outputs take, the rest as a description; null if the schema cannot be put that way. */
function constrained(schema: Schema): Schema | null {
  let known = constrainedSchemas.get(schema)
  if (known === undefined) {
    try {
      known = transformJSONSchema(schema) as Schema
    } catch {
      known = null
    }
    constrainedSchemas.set(schema, known)
  }
  return known
}

function readMessage(message: Anthropic.Message): Answer {
  if (!Array.isArray(message?.content)) {
    const { error } = (message ?? {}) as { error?: unknown }
    throw error ? failureOfBody(error) : new CallFailure('bad_response', 'The answer is not a message')
  }
  let text = ''
  for (const block of message.content) if (block.type === 'text') text += block.text
  return answered({
    text,
    stop: toStop(message.stop_reason),
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
  // Counts are cumulative, and null where an event does not repeat them.
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
      call.emit(event.delta.text)
    } else if (event.type === 'message_delta') {
      stop = event.delta.stop_reason ?? stop
      count(event.usage as WireUsage)
      // The output that message_start counts is that of its first moment.
      if (stop && typeof event.usage?.output_tokens === 'number') call.usage = toUsage(usage)
    } else if (event.type === 'message_stop') complete = true
  }
  if (model === null) throw new CallFailure('bad_response', 'The stream has no message')
  if (!complete) throw new CallFailure('connection', 'The stream ended before the message did', { usage: call.usage })
  return answered({ text, stop: toStop(stop), usage: call.usage, model })
}

const toStop = (reason: Anthropic.StopReason | null): CallAnswer['stop'] => (reason && STOPS[reason]) || 'other'

/** `input_tokens` leaves out what was read from or written to the cache. */
function toUsage(usage: WireUsage): Usage {
  const cacheReadTokens = tokens(usage.cache_read_input_tokens)
  const cacheWriteTokens = tokens(usage.cache_creation_input_tokens)
  return {
    inputTokens: tokens(usage.input_tokens) + cacheReadTokens + cacheWriteTokens,
    outputTokens: tokens(usage.output_tokens),
    cacheReadTokens,
    cacheWriteTokens,
  }
}

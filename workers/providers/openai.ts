import OpenAI from 'openai'
import {
  type CallAnswer,
  CallFailure,
  type CallRequest,
  type EmbedRequest,
  type ProviderFactory,
  type Usage,
} from './define.ts'
import { failureOfBody } from './failures.ts'
import {
  type Answer,
  answered,
  type Call,
  guarded,
  schemaInstruction,
  tokens,
  type Vectors,
  vectorsOf,
} from './guard.ts'
import { openaiLimits } from './rate-limits.ts'
import { notedFetch } from './transport.ts'

type Params = OpenAI.ChatCompletionCreateParamsNonStreaming
type WireUsage = OpenAI.CompletionUsage & { prompt_cache_hit_tokens?: number }

/** Where the servers that speak this format differ. */
type Dialect = {
  /** OpenAI's newer models reject `max_tokens`; the compatible servers know nothing else. */
  maxTokens: 'max_tokens' | 'max_completion_tokens'
  schema: 'json_schema' | 'json_object'
  /** Models that take the default temperature only. Answering a bit less evenly beats failing the job. */
  fixedTemperature?: RegExp
}

const DIALECTS: Record<string, Dialect> = {
  openai: { maxTokens: 'max_completion_tokens', schema: 'json_schema', fixedTemperature: /^(o\d|gpt-[5-9])/ },
  deepseek: { maxTokens: 'max_tokens', schema: 'json_object' },
}
const COMPATIBLE: Dialect = { maxTokens: 'max_tokens', schema: 'json_schema' }

export const openai: ProviderFactory = config => {
  const dialect = DIALECTS[config.name] ?? COMPATIBLE
  const client = new OpenAI({
    baseURL: config.baseUrl,
    // The SDK insists on one; servers such as LM Studio take any.
    apiKey: config.apiKey ?? 'none',
    adminAPIKey: null,
    // Read from OPENAI_* otherwise, and those are no business of the compatible providers.
    ...(config.name === 'openai' ? {} : { organization: null, project: null }),
    maxRetries: 0,
    fetch: notedFetch,
    // It would log answers that it cannot parse; they come back as a CallFailure.
    logLevel: 'off',
  })
  return {
    name: config.name,
    defaultModel: async () => config.model,
    call: (request, context) =>
      guarded(
        context,
        async call => {
          const { completions } = client.chat
          const params = toParams(request, dialect)
          const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
          if (!call.streaming) return readCompletion(await completions.create(params, options), request.model)
          const streamed = { ...params, stream: true, stream_options: { include_usage: true } } as const
          return readStream(await completions.create(streamed, options), call, request.model)
        },
        openaiLimits,
      ),
    // DeepSeek speaks the same format and has no such models.
    embedding: config.embeds
      ? {
          defaultModel: async () => config.embeds?.model ?? null,
          call: (request, context) =>
            guarded<Vectors>(
              context,
              async call => {
                const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
                return readVectors(await client.embeddings.create(toEmbedParams(request), options), request.model)
              },
              openaiLimits,
            ),
        }
      : null,
  }
}

/** `float`, which is the format's default: not every server knows the other, which the SDK asks for unless it is told. */
const toEmbedParams = ({ model, texts, dimensions }: EmbedRequest): OpenAI.EmbeddingCreateParams => ({
  model,
  input: texts,
  encoding_format: 'float',
  ...(dimensions !== undefined && { dimensions }),
})

function readVectors(answer: OpenAI.CreateEmbeddingResponse, asked: string): Vectors {
  const { error } = (answer ?? {}) as { error?: unknown }
  if (error) throw failureOfBody(error)
  const usage = answer?.usage ? { ...NOTHING, inputTokens: tokens(answer.usage.prompt_tokens) } : null
  if (!Array.isArray(answer?.data)) throw new CallFailure('bad_response', 'The answer has no vectors', { usage })
  // Some servers leave the index out; where it is said it says which text a vector is of.
  const ordered: unknown[] = []
  for (const [n, one] of answer.data.entries()) {
    const index = one?.index ?? n
    if (!Number.isInteger(index) || index < 0 || index >= answer.data.length || index in ordered)
      throw new CallFailure('bad_response', 'The vectors are not in any order', { usage })
    ordered[index] = one?.embedding
  }
  return { vectors: vectorsOf(ordered, usage), usage, model: answer.model ?? asked }
}

const NOTHING: Usage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }

function toParams(request: CallRequest, dialect: Dialect): Params {
  const { model, schema, temperature } = request
  const inPrompt = schema !== undefined && dialect.schema === 'json_object'
  const system = inPrompt ? schemaInstruction(request.system, schema) : request.system
  const messages: Params['messages'] = system
    ? [{ role: 'system', content: system }, ...request.messages]
    : request.messages
  const params: Params = { model, messages, [dialect.maxTokens]: request.maxTokens }
  if (temperature !== undefined && !dialect.fixedTemperature?.test(model)) params.temperature = temperature
  if (inPrompt) params.response_format = { type: 'json_object' }
  // Not `strict`: it takes a subset of JSON Schema that differs by model, and `check` validates the answer anyway.
  else if (schema) params.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema } }
  return params
}

/** `asked` stands in for the model's name where a server leaves it out. */
function readCompletion(completion: OpenAI.ChatCompletion, asked: string): Answer {
  const { error } = (completion ?? {}) as { error?: unknown }
  if (error) throw failureOfBody(error)
  const usage = completion?.usage ? toUsage(completion.usage) : null
  const choice = completion?.choices?.[0]
  if (typeof choice?.message !== 'object') throw new CallFailure('bad_response', 'The answer has no choices', { usage })
  const { content, refusal } = choice.message
  if (content && typeof content !== 'string')
    throw new CallFailure('bad_response', 'The content is not text', { usage })
  return finish(content || refusal || '', Boolean(refusal), choice.finish_reason, usage, completion.model ?? asked)
}

async function readStream(
  stream: AsyncIterable<OpenAI.ChatCompletionChunk>,
  call: Call,
  asked: string,
): Promise<Answer> {
  let text = ''
  let refused = false
  let reason: string | null = null
  let model: string | null = null
  let usage: Usage | null = null
  for await (const chunk of stream) {
    call.begun = true
    if (!Array.isArray(chunk.choices)) throw new CallFailure('bad_response', 'A chunk has no choices')
    model ??= chunk.model ?? asked
    if (chunk.usage) usage = toUsage(chunk.usage)
    const choice = chunk.choices[0]
    const delta = choice?.delta?.content || choice?.delta?.refusal
    if (delta) {
      text += delta
      call.emit(delta)
    }
    if (choice?.delta?.refusal) refused = true
    reason = choice?.finish_reason ?? reason
    // Google repeats it in every chunk, growing: that of a chunk after the last choice is of the whole.
    if (reason && !choice) call.usage = usage
  }
  if (model === null) throw new CallFailure('bad_response', 'The stream has no completion')
  if (!reason) throw new CallFailure('connection', 'The stream ended before the answer did', { usage: call.usage })
  return finish(text, refused, reason, usage, model)
}

function finish(text: string, refused: boolean, reason: string, usage: Usage | null, model: string): Answer {
  // DeepSeek's way to say, in mid-answer, that it has no capacity left.
  if (reason === 'insufficient_system_resource') {
    throw new CallFailure('overloaded', 'The provider ran out of resources', { usage, begun: true })
  }
  return answered({ text, stop: refused ? 'refusal' : toStop(reason), usage, model })
}

function toStop(reason: string): CallAnswer['stop'] {
  if (reason === 'stop') return 'end'
  if (reason === 'length') return 'max_tokens'
  return reason === 'content_filter' ? 'refusal' : 'other'
}

function toUsage(usage: WireUsage): Usage {
  const inputTokens = tokens(usage.prompt_tokens)
  return {
    inputTokens,
    // Gemini leaves its thoughts out of `completion_tokens`, not out of the total nor of the bill.
    outputTokens: Math.max(tokens(usage.completion_tokens), tokens(usage.total_tokens) - inputTokens),
    cacheReadTokens: tokens(usage.prompt_tokens_details?.cached_tokens ?? usage.prompt_cache_hit_tokens),
    cacheWriteTokens: 0,
  }
}

import type OpenAI from 'openai'
import { PROVIDERS } from '#shared/models/providers.ts'
import type { ChatAnswer } from '#shared/requests/answer.ts'
import { createAccumulator } from '#shared/requests/openai-chat/accumulate.ts'
import { openaiChat } from '#shared/requests/openai-chat/index.ts'
import { CallFailure, type EmbedRequest, type ProviderFactory, type Usage } from './define.ts'
import { failureOfBody } from './failures.ts'
import { assertAnswered, type Call, guarded, isCount, tokens, type Vectors, vectorsOf } from './guard.ts'
import { assertNotTruncated } from './input-truncation.ts'
import { createListing, listedModels, PROBE_TIMEOUT_MS } from './listing.ts'
import { createOpenAiClient } from './openai-client.ts'
import { dialectOf, isOwnWire, toBody } from './openai-dialects.ts'
import { openaiLimits } from './rate-limits.ts'
import { trackedFetch } from './transport.ts'
import { upstreamModel } from './upstream-model.ts'

type Whole = OpenAI.ChatCompletionCreateParamsNonStreaming
type Streaming = OpenAI.ChatCompletionCreateParamsStreaming

export const openai: ProviderFactory = (config, fetch = trackedFetch) => {
  const vendor = config.catalogue ?? config.name
  const dialect = dialectOf(vendor)
  // Other servers may cut a prompt to their window without an error.
  const official =
    config.adapter === 'azure-openai' || PROVIDERS.some(one => one.name === vendor && one.baseUrl === config.baseUrl)
  const isOpenAi = official && vendor === 'openai'
  const client = createOpenAiClient(config, fetch)
  const listing = config.lists
    ? createListing(config, async () =>
        listedModels(await client.models.list({ signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })),
      )
    : null
  return {
    name: config.name,
    ping: async signal => void (await client.models.list({ signal })),
    defaultModel: listing?.finder('chat', config.model) ?? (async () => config.model),
    ...(listing && { listed: listing.names }),
    call: (request, context) =>
      guarded(
        context,
        async call => {
          const { completions } = client.chat
          const rendered = toBody(request, { ...dialect, isOpenAi, stream: call.streaming })
          const body: object = { ...rendered, model: upstreamModel(config, request.model) }
          const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
          const isForwarded = isOwnWire(request)
          const read = call.streaming
            ? await readStream(await completions.create(body as Streaming, options), call, isForwarded)
            : readCompletion(await completions.create(body as Whole, options), isForwarded)
          const answer = assertAnswered({ ...read, model: read.model || request.model })
          if (!official) assertNotTruncated(request, answer.usage)
          return answer
        },
        openaiLimits,
      ),
    // DeepSeek speaks this format but has no embedding models.
    embedding: config.embeds
      ? {
          defaultModel: listing?.finder('embed', config.embeds.model) ?? (async () => config.embeds?.model ?? null),
          call: (request, context) =>
            guarded<Vectors>(
              context,
              async call => {
                const options = { signal: call.signal, timeout: call.sdkTimeoutMs }
                const answer = await client.embeddings.create(
                  { ...toEmbedParams(request), model: upstreamModel(config, request.model) },
                  options,
                )
                const vectors = readVectors(answer, request.model)
                if (!official) assertNotTruncated({ messages: request.texts.map(userMessage) }, vectors.usage)
                return vectors
              },
              openaiLimits,
            ),
        }
      : null,
  }
}

/** Requests `float`: the SDK would request base64, which not every server knows. */
const toEmbedParams = ({ model, texts, dimensions }: EmbedRequest): OpenAI.EmbeddingCreateParams => ({
  model,
  input: texts,
  encoding_format: 'float',
  ...(dimensions !== undefined && { dimensions }),
})

function readVectors(answer: OpenAI.CreateEmbeddingResponse, asked: string): Vectors {
  const { error } = (answer ?? {}) as { error?: unknown }
  if (error) throw failureOfBody(error)
  const read = answer?.usage?.prompt_tokens
  const usage = isCount(read) ? { ...NO_USAGE, inputTokens: tokens(read) } : null
  if (!Array.isArray(answer?.data)) throw new CallFailure('bad_response', 'The answer has no vectors', { usage })
  // Some servers omit the index. If present, it identifies the text of the vector.
  const ordered: unknown[] = []
  for (const [n, one] of answer.data.entries()) {
    const index = one?.index ?? n
    if (!Number.isInteger(index) || index < 0 || index >= answer.data.length || index in ordered)
      throw new CallFailure('bad_response', 'The vectors are not in any order', { usage })
    ordered[index] = one?.embedding
  }
  return { vectors: vectorsOf(ordered, usage), usage, model: answer.model ?? asked }
}

const userMessage = (content: string) => ({ role: 'user' as const, content })

const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }

function readCompletion(completion: OpenAI.ChatCompletion, isForwarded: boolean): ChatAnswer {
  const answer = openaiChat.readAnswer(completion)
  return isForwarded ? withOriginal(answer, { ...completion }) : answer
}

async function readStream(
  stream: AsyncIterable<OpenAI.ChatCompletionChunk>,
  call: Call,
  isForwarded: boolean,
): Promise<ChatAnswer> {
  const reader = openaiChat.readStream()
  const whole = isForwarded ? createAccumulator() : null
  for await (const chunk of stream) {
    call.begun = true
    const events = reader.read(chunk)
    whole?.add({ ...chunk })
    if (isForwarded) call.emit({ type: 'original', event: { ...chunk } })
    else for (const event of events) call.emit(event)
    call.usage = reader.usage()
  }
  const answer = reader.answer()
  return whole ? withOriginal(answer, whole.completion()) : answer
}

const withOriginal = (answer: ChatAnswer, body: Record<string, unknown>): ChatAnswer => ({
  ...answer,
  original: { wire: 'openai-chat', body },
})

import {
  type ChatResponse,
  type EmbedResponse,
  type ListResponse,
  type ModelResponse,
  Ollama,
  type ToolCall,
} from 'ollama'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { type Operation, operationOf } from '#shared/models/models.ts'
import { addToParts, type StreamEvent } from '#shared/requests/answer.ts'
import { newCallId } from '#shared/requests/openai-chat/read-answer.ts'
import { imagesOf } from '#shared/requests/parts.ts'
import type { AssistantPart } from '#shared/requests/request.ts'
import { CallFailure, type CallRequest, type ProviderFactory, type Usage } from './define.ts'
import { failureOfAnswer, failureOfBody } from './failures.ts'
import { type Answer, assertAnswered, type Call, guarded, tokens, type Vectors, vectorsOf } from './guard.ts'
import { assertNotTruncated, assertWindowNotFilled } from './input-truncation.ts'
import { createListing, PROBE_TIMEOUT_MS } from './listing.ts'
import { createWindows, type ModelInfo, type Window } from './ollama-context.ts'
import { toParams } from './ollama-request.ts'
import { trackedFetch } from './transport.ts'
import { upstreamModel } from './upstream-model.ts'

const DEFAULT_MAX_CONTEXT = 32_768

export const ollama: ProviderFactory = (config, fetch = trackedFetch) => {
  // One client per call: creating one is cheap, one signal aborts all calls of a client, and a client never releases a
  // failed stream.
  const clientFor = (signal: AbortSignal) => new Ollama({ host: config.baseUrl, fetch: strictFetch(fetch, signal) })
  const windows = createWindows(config.maxContext ?? DEFAULT_MAX_CONTEXT, clientFor)
  const listing = createListing(config, async () => {
    const { models }: ListResponse = await clientFor(AbortSignal.timeout(PROBE_TIMEOUT_MS)).list()
    // The list starts with the model pulled last, whatever its operation.
    return models.map(model => ({ name: model.name, operation: useOf(model) }))
  })
  return {
    name: config.name,
    ping: async signal => void (await clientFor(signal).list()),
    defaultModel: listing.finder('chat', config.model),
    listed: listing.names,
    capabilities: async (model, signal) => {
      const { capabilities } = await windows.infoOf(upstreamModel(config, model), signal)
      if (capabilities === null) return {}
      const has = (name: string) => capabilities.includes(name)
      return { tools: has('tools'), images: has('vision'), thinking: has('thinking') }
    },
    call: async (asked, context) => {
      const given = { ...asked, model: upstreamModel(config, asked.model) }
      const request = suited(given, await windows.infoOf(given.model, context.signal))
      const window = await windows.windowFor(request, context.signal)
      // Always streams, even without a reader.
      return guarded({ ...context, onEvent: context.onEvent ?? (() => undefined) }, async call => {
        const ask = async (window: Window) => {
          const stream = await clientFor(call.signal).chat({ ...toParams(request, window), stream: true })
          const answer = await readStream(stream, call, window.maxTokens)
          assertWindowNotFilled(request, answer.usage, window.size)
          return answer
        }
        try {
          return await ask(window)
        } catch (error) {
          const refused = error instanceof CallFailure && error.kind === 'context_exceeded' && !call.begun
          if (!refused || !window.mayGrow) throw error
          return await ask(await windows.windowFor(request, call.signal, true))
        }
      })
    },
    embedding: {
      defaultModel: listing.finder('embed', config.embeds?.model ?? null),
      call: ({ model, texts, dimensions }, context) =>
        guarded<Vectors>(context, async call => {
          // A text that is too long must be refused: the vector of a silently cut text would be wrong.
          const sent = upstreamModel(config, model)
          const params = { model: sent, input: texts, truncate: false, ...(dimensions !== undefined && { dimensions }) }
          const vectors = readVectors(await clientFor(call.signal).embed(params), model)
          assertNotTruncated({ messages: texts.map(content => ({ role: 'user', content })) }, vectors.usage)
          return vectors
        }),
    },
  }
}

/**
 * The request without reasoning for a model that does not reason; the server would refuse it.
 * @throws CallFailure if the model lacks what the request cannot do without
 */
function suited(request: CallRequest, { capabilities }: ModelInfo): CallRequest {
  if (capabilities === null) return request
  const lacks = (capability: string, what: string) => {
    if (!capabilities.includes(capability))
      throw new CallFailure('unsupported', `"${request.model}" ${what}`, { sent: false })
  }
  if (request.tools?.length && request.toolChoice !== 'none') lacks('tools', 'calls no tools')
  if (imagesOf(request).length > 0) lacks('vision', 'reads no images')
  if (capabilities.includes('thinking')) return request
  const { effort: _, thinking: __, ...rest } = request
  return rest
}

const useOf = ({ name, details }: ModelResponse): Operation =>
  /bert/i.test(details?.family ?? '') ? 'embed' : operationOf(name)

function readVectors(answer: EmbedResponse, asked: string): Vectors {
  const { error } = (answer ?? {}) as { error?: unknown }
  if (error) throw failureOfBody(error)
  const count = answer?.prompt_eval_count
  const usage = { inputTokens: tokens(count), outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }
  const known = count === undefined ? null : usage
  return { vectors: vectorsOf(answer?.embeddings, known), usage: known, model: answer.model ?? asked }
}

/** Calls always stream, because an unstreamed call sends no headers for minutes while the model loads. */
async function readStream(stream: AsyncIterable<ChatResponse>, call: Call, maxTokens: number): Promise<Answer> {
  const parts: AssistantPart[] = []
  const add = (event: Exclude<StreamEvent, { type: 'original' }>) => {
    addToParts(parts, event)
    call.emit(event)
  }
  /** Appends to the last part of the type, or begins one. */
  const addText = (type: 'text' | 'thinking', delta: string | undefined) => {
    if (delta) add({ type, part: parts.at(-1)?.type === type ? parts.length - 1 : parts.length, delta })
  }
  for await (const one of stream) {
    call.begun = true
    addText('thinking', one.message?.thinking)
    addText('text', one.message?.content)
    // Calls come whole.
    for (const called of one.message?.tool_calls ?? []) {
      const part = parts.length
      add({ type: 'tool_call', part, ...readCall(called) })
      add({ type: 'tool_arguments', part, delta: JSON.stringify(called.function?.arguments ?? {}) })
    }
    if (one.done) {
      return assertAnswered({
        parts,
        finishReason: toFinishReason(one, maxTokens, parts),
        usage: toUsage(one),
        model: one.model,
      })
    }
  }
  throw new CallFailure('connection', 'The stream ended before the answer did')
}

/** Most versions give no ids. */
function readCall(called: ToolCall): { id: string; name: string } {
  const { id } = called as { id?: unknown }
  return { id: typeof id === 'string' && id !== '' ? id : newCallId(), name: called.function?.name ?? '' }
}

/** Versions before 0.1.33 give no reason. There, an answer that used its whole limit was cut off. */
function toFinishReason(
  { done_reason: reason, eval_count: written }: ChatResponse,
  maxTokens: number,
  parts: readonly AssistantPart[],
): FinishReason {
  if (reason === 'length' || (!reason && tokens(written) >= maxTokens)) return 'length'
  if (reason && reason !== 'stop') return 'other'
  return parts.some(one => one.type === 'tool_call') ? 'tool_calls' : 'stop'
}

/** Ollama omits counts of 0, such as `prompt_eval_count` of a cached prompt. */
function toUsage(part: ChatResponse): Usage | null {
  if (part.prompt_eval_count === undefined && part.eval_count === undefined) return null
  return {
    inputTokens: tokens(part.prompt_eval_count),
    outputTokens: tokens(part.eval_count),
    cacheReadTokens: 0,
    cacheWriteTokens: 0,
  }
}

/**
 * A fetch for the SDK that aborts, classifies errors, and passes on only complete lines with JSON objects. The SDK
 * itself ignores signals before the headers arrive, drops the headers and type of errors, and prints lines that it
 * cannot parse.
 */
function strictFetch(send: typeof fetch, signal: AbortSignal): typeof fetch {
  return async (input, init) => {
    const response = await send(input, { ...init, signal })
    if (!response.ok) {
      const body = await response.text()
      throw failureOfAnswer(response.status, response.headers, body, errorOf(body) ?? `HTTP ${response.status}`)
    }
    if (!response.body || !String(input).endsWith('/api/chat')) return response
    return new Response(response.body.pipeThrough(checkedLines()))
  }
}

function checkedLines(): TransformStream<Uint8Array, Uint8Array> {
  const decoder = new TextDecoder()
  const encoder = new TextEncoder()
  let rest = ''
  let state: 'empty' | 'begun' | 'done' = 'empty'
  const pass = (line: string, controller: TransformStreamDefaultController<Uint8Array>) => {
    if (!line.trim()) return
    const part: unknown = JSON.parse(line)
    if (typeof part !== 'object' || part === null) throw new CallFailure('bad_response', 'A line is not an object')
    if ('error' in part) throw failureOfBody(part.error)
    if (!('message' in part) && !('done' in part)) throw new CallFailure('bad_response', 'A line is not of an answer')
    state = 'done' in part && part.done ? 'done' : 'begun'
    controller.enqueue(encoder.encode(`${line}\n`))
  }
  return new TransformStream({
    transform(chunk, controller) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) pass(line, controller)
    },
    flush(controller) {
      pass(rest + decoder.decode(), controller)
      if (state === 'empty') throw new CallFailure('bad_response', 'The answer is empty')
      if (state === 'begun') throw new CallFailure('connection', 'The stream ended before the answer did')
    },
  })
}

function errorOf(body: string): string | undefined {
  try {
    const { error } = JSON.parse(body)
    return typeof error === 'string' ? error : error?.message
  } catch {
    return body.slice(0, 200) || undefined
  }
}

import { type ChatResponse, type EmbedResponse, type ListResponse, type ModelResponse, Ollama } from 'ollama'
import { operationOf } from '#shared/models/models.ts'
import { type CallAnswer, CallFailure, type CallRequest, type ProviderFactory, type Usage } from './define.ts'
import { failureOfAnswer, failureOfBody } from './failures.ts'
import { type Answer, answered, type Call, guarded, tokens, type Vectors, vectorsOf } from './guard.ts'
import { notedFetch } from './transport.ts'

const PROBE_TIMEOUT_MS = 1000
const FOUND_FOR_MS = 30_000
/** Shorter, so that a server that was started late is noticed. */
const MISSING_FOR_MS = 3000
/** One that was there may be busy or restarting: its calls then fail and wait, instead of there being nobody to ask. */
const MISSED_FOR_MS = 60_000

export const ollama: ProviderFactory = config => {
  // A client a call: its constructor only stores the address, one signal aborts all its calls, and it never forgets
  // a stream that failed.
  const clientFor = (signal: AbortSignal) => new Ollama({ host: config.baseUrl, fetch: strictFetch(signal) })
  let probe: { models: Promise<Found | null>; until: number } | null = null
  const look = (): Promise<Found | null> => {
    if (probe && probe.until > performance.now()) return probe.models
    const mine = { models: firstModels(clientFor), until: performance.now() + FOUND_FOR_MS }
    probe = mine
    void mine.models.then(found => {
      if (!found?.chat) mine.until = performance.now() + MISSING_FOR_MS
    })
    return mine.models
  }
  /** Nobody asked for this server unless `explicit`: then a configured model is no sign that it is there. */
  const finder = (use: keyof Found, configured: string | null) => {
    let last: { model: string; at: number } | null = null
    return async () => {
      if (config.explicit && configured) return configured
      const model = (await look())?.[use] ?? null
      if (model !== null) last = { model, at: performance.now() }
      else if (last && performance.now() - last.at > MISSED_FOR_MS) last = null
      return last && (configured ?? last.model)
    }
  }
  return {
    name: config.name,
    defaultModel: finder('chat', config.model),
    call: (request, context) =>
      // It always streams, whether anybody listens or not.
      guarded({ ...context, onDelta: context.onDelta ?? (() => undefined) }, async call => {
        const params = toParams(request)
        return readStream(await clientFor(call.signal).chat({ ...params, stream: true }), call)
      }),
    embedding: {
      defaultModel: finder('embed', config.embeds?.model ?? null),
      call: ({ model, texts, dimensions }, context) =>
        guarded<Vectors>(context, async call => {
          // What is too long is refused: cut off in silence it would have the vector of another text.
          const params = { model, input: texts, truncate: false, ...(dimensions !== undefined && { dimensions }) }
          return readVectors(await clientFor(call.signal).embed(params), model)
        }),
    },
  }
}

/** Names of the first models of either use that the server has; null: none. */
type Found = { chat: string | null; embed: string | null }

async function firstModels(clientFor: (signal: AbortSignal) => Ollama): Promise<Found | null> {
  try {
    const { models }: ListResponse = await clientFor(AbortSignal.timeout(PROBE_TIMEOUT_MS)).list()
    // The list starts with what was pulled last, of either use.
    const first = (use: keyof Found) => models.find(model => useOf(model) === use)?.name ?? null
    return { chat: first('chat'), embed: first('embed') }
  } catch {
    return null
  }
}

const useOf = ({ name, details }: ModelResponse): keyof Found =>
  /bert/i.test(details?.family ?? '') ? 'embed' : operationOf(name)

function readVectors(answer: EmbedResponse, asked: string): Vectors {
  const { error } = (answer ?? {}) as { error?: unknown }
  if (error) throw failureOfBody(error)
  const count = answer?.prompt_eval_count
  const usage = { inputTokens: tokens(count), outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }
  const known = count === undefined ? null : usage
  return { vectors: vectorsOf(answer?.embeddings, known), usage: known, model: answer.model ?? asked }
}

function toParams(request: CallRequest) {
  const { model, messages, system, schema, temperature } = request
  return {
    model,
    messages: system ? [{ role: 'system', content: system }, ...messages] : messages,
    options: { num_predict: request.maxTokens, ...(temperature === undefined ? {} : { temperature }) },
    ...(schema ? { format: schema } : {}),
  }
}

/** Always streams: a model that is being loaded sends no headers for minutes otherwise. */
async function readStream(stream: AsyncIterable<ChatResponse>, call: Call): Promise<Answer> {
  let text = ''
  for await (const part of stream) {
    call.begun = true
    const delta = part.message?.content ?? ''
    text += delta
    call.emit(delta)
    if (part.done) {
      return answered({ text, stop: toStop(part.done_reason), usage: toUsage(part), model: part.model })
    }
  }
  throw new CallFailure('connection', 'The stream ended before the answer did')
}

function toStop(reason: string | undefined): CallAnswer['stop'] {
  if (reason === 'length') return 'max_tokens'
  return reason === 'stop' || !reason ? 'end' : 'other'
}

/** A count of 0 is left out (`prompt_eval_count` of a prompt that it still had in its cache, for one). */
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
 * The SDK takes no signal before it has the headers, drops an error's headers and type, and prints lines that it cannot
 * parse to the console: so its fetch aborts, classifies errors and lets only whole lines of JSON objects through.
 */
function strictFetch(signal: AbortSignal): typeof fetch {
  return async (input, init) => {
    const response = await notedFetch(input, { ...init, signal })
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

import type { Ollama } from 'ollama'
import { inputTokenBound } from '#shared/requests/bounds.ts'
import type { CallRequest } from './define.ts'

/**
 * Chooses the context size to request from Ollama. With its default (4,096 tokens in most versions) Ollama cuts longer
 * prompts without an error, and a model that writes beyond the context loses the beginning of the prompt.
 */

const PROBE_TIMEOUT_MS = 1000
const INFO_TTL_MS = 600_000
/** Shorter, so that an unreachable server is asked again soon. */
const UNKNOWN_INFO_TTL_MS = 30_000
/** Ollama reloads the model for each new size, so a larger size is kept for this time after its last use. */
const SIZE_TTL_MS = 600_000
const MIN_SIZE = 4096
const MIN_OUTPUT = 256

export type Window = {
  /** `options.num_ctx` */
  size: number
  /** `options.num_predict`: the requested limit, reduced to the room in the context. */
  maxTokens: number
  /** A larger size is possible if the prompt has more tokens than estimated. */
  mayGrow: boolean
}

type Sized = Pick<CallRequest, 'model' | 'system' | 'messages' | 'tools' | 'maxTokens'>

/** Bounds the memory, because clients can invent model names. */
const MAX_REMEMBERED = 1000
function remember<T>(known: Map<string, T>, model: string, value: T): void {
  if (known.size >= MAX_REMEMBERED && !known.has(model)) known.clear()
  known.set(model, value)
}

/** @param maxContext maximum context to request, in tokens, even if the model supports more */
export function createWindows(maxContext: number, clientFor: (signal: AbortSignal) => Pick<Ollama, 'show'>) {
  const models = new Map<string, { info: Promise<ModelInfo>; until: number }>()
  const sizes = new Map<string, { size: number; neededAt: number }>()

  async function infoOf(model: string, signal: AbortSignal): Promise<ModelInfo> {
    const known = models.get(model)
    if (known && known.until > performance.now()) return known.info
    const asked = {
      info: modelInfo(() => clientFor(AbortSignal.any([signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)])), model),
      until: performance.now() + INFO_TTL_MS,
    }
    remember(models, model, asked)
    void asked.info.then(({ length }) => {
      if (length === null) asked.until = performance.now() + UNKNOWN_INFO_TTL_MS
    })
    return asked.info
  }

  function keep(model: string, needed: number, limit: number): number {
    const kept = sizes.get(model)
    const now = performance.now()
    if (kept && kept.size > needed && kept.size <= limit && now - kept.neededAt < SIZE_TTL_MS) return kept.size
    remember(sizes, model, { size: needed, neededAt: now })
    return needed
  }

  return {
    infoOf,
    /** @param whole the prompt exceeded the estimate: reserve one token per byte, an upper bound for any text */
    async windowFor(request: Sized, signal: AbortSignal, whole = false): Promise<Window> {
      const limit = Math.min(maxContext, (await infoOf(request.model, signal)).length ?? maxContext)
      // The schema becomes a grammar and is not part of the prompt.
      const most = inputTokenBound(
        {
          ...(request.system !== undefined && { system: request.system }),
          messages: request.messages,
          ...(request.tools && { tools: request.tools }),
        },
        { provider: 'ollama', model: request.model },
      )
      const input = whole ? most : Math.ceil(most / 2)
      const needed = Math.max(MIN_SIZE, 2 ** Math.ceil(Math.log2(input + request.maxTokens)))
      const size = keep(request.model, Math.min(limit, needed), limit)
      const maxTokens = Math.min(request.maxTokens, Math.max(MIN_OUTPUT, size - input))
      return { size, maxTokens, mayGrow: !whole && size < limit }
    },
  }
}

/** What the server says about a model. */
export type ModelInfo = {
  /** Context length in tokens; null: not reported. */
  length: number | null
  /** Such as `tools`, `vision` and `thinking`; null: not reported. */
  capabilities: readonly string[] | null
}

async function modelInfo(client: () => Pick<Ollama, 'show'>, model: string): Promise<ModelInfo> {
  try {
    const { model_info: info, capabilities } = await client().show({ model })
    const fields = info instanceof Map ? Object.fromEntries(info) : (info as unknown as Record<string, unknown>)
    const length = Object.entries(fields ?? {}).find(([name]) => name.endsWith('.context_length'))?.[1]
    return {
      length: typeof length === 'number' && length > 0 ? length : null,
      capabilities: Array.isArray(capabilities) ? capabilities : null,
    }
  } catch {
    return { length: null, capabilities: null }
  }
}

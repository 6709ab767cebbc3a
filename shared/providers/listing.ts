import { type Operation, operationOf } from '#shared/models/models.ts'
import type { ProviderConfig } from '#shared/settings/providers.ts'

export const PROBE_TIMEOUT_MS = 1000
/** Short, so that a newly pulled model is known soon. */
const REFRESH_MS = 5000
/** Shorter, so that a server that starts late is found. */
const MISSING_REFRESH_MS = 3000
/**
 * A known server that does not answer may be busy or restarting. For this time its tasks retry instead of failing with
 * no_provider.
 */
const GRACE_MS = 60_000

export type ListedModel = { name: string; operation: Operation }

/**
 * Caches the model list of an operator's server. `fetchModels` must have a timeout, and reject if the server does not
 * answer.
 */
export function createListing(config: ProviderConfig, fetchModels: () => Promise<ListedModel[]>) {
  let probe: { models: Promise<ListedModel[] | null>; until: number } | null = null
  const list = (): Promise<ListedModel[] | null> => {
    if (probe && probe.until > performance.now()) return probe.models
    const pending = { models: fetchModels().catch(() => null), until: performance.now() + REFRESH_MS }
    probe = pending
    void pending.models.then(found => {
      if (!found?.some(one => one.operation === 'chat')) pending.until = performance.now() + MISSING_REFRESH_MS
    })
    return pending.models
  }
  return {
    /** null: the server does not answer. */
    names: async (): Promise<string[] | null> => (await list())?.map(one => one.name) ?? null,
    /** A server that is not `explicit` was only discovered: a configured model does not prove that it runs. */
    finder(operation: Operation, configured: string | null): () => Promise<string | null> {
      let last: { model: string; at: number } | null = null
      return async () => {
        if (config.explicit && configured) return configured
        const model = (await list())?.find(one => one.operation === operation)?.name ?? null
        if (model !== null) last = { model, at: performance.now() }
        else if (last && performance.now() - last.at > GRACE_MS) last = null
        return last && (configured ?? last.model)
      }
    },
  }
}

/** Reads a model list in OpenAI's or Anthropic's format. */
export function listedModels(page: unknown): ListedModel[] {
  const { data } = Object(page) as { data?: unknown }
  if (!Array.isArray(data)) throw new Error('not a list of models')
  return data.flatMap(one => {
    const id: unknown = Object(one).id
    return typeof id === 'string' && id !== '' ? [{ name: id, operation: operationOf(id) }] : []
  })
}

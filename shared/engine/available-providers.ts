import type { ModelLists } from '#shared/models/model-lists.ts'
import type { Provider } from '#shared/providers/define.ts'
import type { AvailableProvider } from '#shared/routing.ts'

const REFRESH_MS = 5000

export type AvailableProvidersOptions = {
  /** Shares the lists of models with other processes, and keeps them while their server is unavailable. */
  lists?: Pick<ModelLists, 'read' | 'write'>
  /** What the operator declares about a provider. */
  declared?: (provider: string) => Partial<AvailableProvider>
  /** Whether the operator named the provider. */
  explicit?: (provider: string) => boolean
  /** The provider that stands in while no other is available. */
  demo?: () => AvailableProvider | null
  /** When it returns another object, the providers are looked up again at once. */
  configuration?: () => unknown
}

/**
 * Returns the providers that can be called now, in the order of the operator. A look-up in the background refreshes them every
 * few seconds, because servers such as Ollama may start at any time.
 */
export function createAvailableProviders(
  providers: ReadonlyMap<string, Provider>,
  { lists, declared, explicit, demo, configuration }: AvailableProvidersOptions = {},
): () => Promise<AvailableProvider[]> {
  let known: AvailableProvider[] | null = null
  let checkedAt = Number.NEGATIVE_INFINITY
  let checking: Promise<AvailableProvider[]> | null = null
  let configured: unknown

  async function check(): Promise<AvailableProvider[]> {
    configured = configuration?.()
    const all = await Promise.all(
      [...providers.values()].map(async ({ name, defaultModel, embedding, listed }): Promise<AvailableProvider> => {
        const [chat, embed, names] = await Promise.all([defaultModel(), embedding?.defaultModel(), listed?.()])
        if (names) lists?.write(name, names)
        return {
          name,
          defaultModel: chat,
          ...(embed !== undefined && { embeds: { model: embed } }),
          ...(listed && { listed: names ?? lists?.read(name) ?? null }),
          ...declared?.(name),
        }
      }),
    )
    known = all.filter(isUsable)
    checkedAt = performance.now()
    return known
  }

  /**
   * A server that the operator named stays in the list, so that the error of a task can say that it does not answer. A server that
   * is unavailable keeps its models, so that a task that names one waits for it.
   */
  const isUsable = ({ name, defaultModel, embeds, listed }: AvailableProvider) =>
    defaultModel !== null || (embeds?.model ?? null) !== null || explicit?.(name) || (listed?.length ?? 0) > 0

  function refresh(): Promise<AvailableProvider[]> {
    const refreshing = check().finally(() => {
      checking = null
    })
    // Callers may have stopped waiting, and an unhandled rejection would end the process.
    refreshing.catch(() => {})
    return refreshing
  }

  return async () => {
    if (known && configured !== configuration?.()) {
      known = null
      checking = refresh()
    }
    if (performance.now() - checkedAt > REFRESH_MS) {
      checking ??= refresh()
    }
    const usable = known ?? (await checking!)
    const stand = usable.length === 0 ? demo?.() : null
    return stand ? [stand] : usable
  }
}

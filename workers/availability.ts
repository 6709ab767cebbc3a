import type { Available } from '#shared/routing.ts'
import type { Provider } from './providers/define.ts'

const REFRESH_MS = 5000

/**
 * The providers that can be asked now, in the operator's order. Looked up again every few seconds, in the background,
 * since one may have to be found at run time.
 */
export function createAvailability(providers: ReadonlyMap<string, Provider>): () => Promise<Available[]> {
  let known: Available[] | null = null
  let checkedAt = Number.NEGATIVE_INFINITY
  let checking: Promise<Available[]> | null = null

  async function check(): Promise<Available[]> {
    const all = await Promise.all(
      [...providers.values()].map(async ({ name, defaultModel, embedding }): Promise<Available> => {
        const [chat, embed] = await Promise.all([defaultModel(), embedding?.defaultModel()])
        return { name, defaultModel: chat, ...(embed !== undefined && { embeds: { model: embed } }) }
      }),
    )
    known = all.filter(one => one.defaultModel !== null || (one.embeds?.model ?? null) !== null)
    checkedAt = performance.now()
    return known
  }

  function refresh(): Promise<Available[]> {
    const refreshing = check().finally(() => {
      checking = null
    })
    // In the background nobody hears of an error, and one that nobody hears of ends the process.
    refreshing.catch(() => {})
    return refreshing
  }

  return async () => {
    if (performance.now() - checkedAt > REFRESH_MS) {
      checking ??= refresh()
    }
    return known ?? (await checking!)
  }
}

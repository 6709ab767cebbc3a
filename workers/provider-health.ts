import type { ProviderState } from '#shared/db/workers.ts'
import type { Available } from '#shared/routing.ts'
import type { CallResult } from './pipeline/call.ts'
import type { CallFailureKind } from './providers/define.ts'

/** Calls in a row that must fail before a provider counts as failing. */
const FAILURES = 3
/** Without calls there is no news: after this long a provider is given the benefit of the doubt. */
const REMEMBER_MS = 60_000

/** Failures that say something about the request or about us, not about the provider. */
const NOT_ITS_FAULT: ReadonlySet<CallFailureKind> = new Set(['aborted', 'invalid_request', 'unknown_model'])

/** What this worker's own calls say of its providers; reported with every heartbeat. */
export type ProviderHealth = {
  note(provider: string, result: CallResult): void
  states(): Promise<Record<string, ProviderState>>
}

/** @param configured the providers that the operator named */
export function createProviderHealth(options: {
  configured: string[]
  available: () => Promise<Available[]>
  now?: () => number
}): ProviderHealth {
  const { configured, available, now = () => performance.now() } = options
  const failures = new Map<string, { count: number; at: number }>()
  return {
    note(provider, result) {
      if (result.kind === 'answer') failures.delete(provider)
      else if (!NOT_ITS_FAULT.has(result.failure.kind))
        failures.set(provider, { count: (failures.get(provider)?.count ?? 0) + 1, at: now() })
    },
    async states() {
      const reachable = await available()
      const names = new Set([...configured, ...reachable.map(one => one.name)])
      return Object.fromEntries(
        [...names].map(name => {
          if (!reachable.some(one => one.name === name)) return [name, 'unreachable']
          const failed = failures.get(name)
          return [name, failed && failed.count >= FAILURES && now() - failed.at < REMEMBER_MS ? 'failing' : 'ok']
        }),
      )
    },
  }
}

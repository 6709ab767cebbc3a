import type { ProviderState } from '#shared/db/workers.ts'
import type { CallFailureKind } from '#shared/providers/define.ts'
import type { AvailableProvider } from '#shared/routing.ts'
import type { CallResult } from './call.ts'

/** Calls in a row that must fail before a provider counts as failing. */
const FAILURES = 3
/** A provider without a call for this long no longer counts as failing. */
const REMEMBER_MS = 60_000

/** Failures caused by the request or by this process, not by the provider. */
const NEUTRAL_FAILURES: ReadonlySet<CallFailureKind> = new Set([
  'aborted',
  'invalid_request',
  'unknown_model',
  'unsupported',
])

/** The state of the providers according to this worker's own calls; reported with every heartbeat. */
export type ProviderHealth = {
  record(provider: string, result: CallResult): void
  states(): Promise<Record<string, ProviderState>>
}

/** @param options.configured the providers that the operator configured */
export function createProviderHealth(options: {
  configured: () => string[]
  available: () => Promise<AvailableProvider[]>
  now?: () => number
}): ProviderHealth {
  const { configured, available, now = () => performance.now() } = options
  const failures = new Map<string, { count: number; at: number }>()
  return {
    record(provider, result) {
      if (result.kind === 'answer') failures.delete(provider)
      else if (!NEUTRAL_FAILURES.has(result.failure.kind))
        failures.set(provider, { count: (failures.get(provider)?.count ?? 0) + 1, at: now() })
    },
    async states() {
      // A server that the operator configured stays available while it is unreachable, so that tasks can say so.
      const reachable = (await available()).filter(canAnswer)
      const names = new Set([...configured(), ...reachable.map(one => one.name)])
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

const canAnswer = ({ defaultModel, embeds, listed }: AvailableProvider): boolean =>
  defaultModel !== null || (embeds?.model ?? null) !== null || (listed?.length ?? 0) > 0

import type { TracingOptions } from './settings.ts'
import type { Tracing, TracingDeps } from './tracing.ts'

/** null: nobody wants traces. Then the SDK is not even loaded. */
export async function startTracing(options: TracingOptions | null, deps: TracingDeps): Promise<Tracing | null> {
  if (!options) return null
  const { createTracing } = await import('./sdk.ts')
  return createTracing(options, deps)
}

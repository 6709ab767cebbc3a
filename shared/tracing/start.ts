import type { TracingOptions } from './settings.ts'
import type { Tracing, TracingDeps } from './tracing.ts'

/** @returns null: tracing is off, and the SDK is not loaded */
export async function startTracing(options: TracingOptions | null, deps: TracingDeps): Promise<Tracing | null> {
  if (!options) return null
  const { createTracing } = await import('./sdk.ts')
  return createTracing(options, deps)
}

import type { Logger } from '#shared/logger.ts'
import type { Metrics } from '#shared/metrics.ts'

/** What the rest knows of tracing. The SDK is behind it, in `sdk.ts`, and is loaded only when somebody wants traces. */

export type Attributes = Record<string, string | number | boolean | string[] | undefined>

export type Span = {
  /** W3C, of this span: what a child elsewhere has for its parent. */
  readonly traceparent: string
  readonly traceId: string
  readonly spanId: string
  /** false: it was not sampled, so that nothing need be said of it. */
  readonly recording: boolean
  set(attributes: Attributes): void
  /** @param type one of a closed vocabulary: `error.type`. No message, as that may quote a prompt. */
  fail(type: string): void
  end(): void
}

export type SpanOptions = {
  /** internal, unless said otherwise */
  kind?: 'server' | 'client' | 'producer' | 'consumer'
  /** A traceparent that is none is no parent: the span then begins a trace of its own. */
  parent: Span | string | null
  attributes?: Attributes
  /** It began so long ago, milliseconds. */
  agoMs?: number
}

export type Tracing = {
  /** Whether prompts and answers are wanted in spans. */
  readonly content: boolean
  start(name: string, options: SpanOptions): Span
  /** Sends what is left, for a bounded time. Never rejects. */
  stop(): Promise<void>
}

export type TracingDeps = { part: 'api' | 'worker'; metrics: Pick<Metrics, 'spansDropped'>; logger: Logger }

/** Runs `work` as a span that ends with it, and fails if it throws. */
export async function inSpan<T>(span: Span, work: (span: Span) => Promise<T> | T): Promise<T> {
  try {
    return await work(span)
  } catch (error) {
    span.fail((error as Error)?.name ?? 'Error')
    throw error
  } finally {
    span.end()
  }
}

export type TraceContext = { traceId: string; spanId: string; flags: number }

/**
 * Source: https://www.w3.org/TR/trace-context/#traceparent-header; what cannot be read is ignored, as it says. A header of a later version may have
 * more fields behind those of ours.
 */
export function parseTraceparent(text: unknown): TraceContext | null {
  if (typeof text !== 'string' || text.length > 256) return null
  const found = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text)
  if (!found || (found[1] === '00' && found[5] !== undefined)) return null
  return { traceId: found[2]!, spanId: found[3]!, flags: Number.parseInt(found[4]!, 16) }
}

/** A traceparent that is worth keeping, in the version that we speak; null: there is none. */
export function readTraceparent(text: unknown): string | null {
  const context = text === undefined ? null : parseTraceparent(text)
  return context && formatTraceparent(context)
}

export const formatTraceparent = ({ traceId, spanId, flags }: TraceContext): string =>
  `00-${traceId}-${spanId}-${(flags & 1) === 1 ? '01' : '00'}`

/** For a line of the log. */
export const traceIds = (traceparent: unknown): { trace_id?: string; span_id?: string } => {
  const context = traceparent ? parseTraceparent(traceparent) : null
  return context ? { trace_id: context.traceId, span_id: context.spanId } : {}
}

import type { Metrics } from '#shared/metrics/metrics.ts'
import type { Logger } from '#shared/process/logger.ts'

/** The interface to tracing. Its implementation, `sdk.ts`, is loaded only if tracing is on. */

export type Attributes = Record<string, string | number | boolean | string[] | undefined>

export type Span = {
  /** The W3C traceparent of this span, for a child in another process. */
  readonly traceparent: string
  readonly traceId: string
  readonly spanId: string
  /** false: the span was not sampled, and attributes are ignored. */
  readonly recording: boolean
  set(attributes: Attributes): void
  /** @param type value of `error.type`, from a closed set. Never a message, because it may quote a prompt. */
  fail(type: string): void
  end(): void
}

export type SpanOptions = {
  /** Default: internal. */
  kind?: 'server' | 'client' | 'producer' | 'consumer'
  /** null or an invalid traceparent: the span starts a new trace. */
  parent: Span | string | null
  attributes?: Attributes
  /** How long ago the span began, milliseconds. */
  agoMs?: number
}

export type Tracing = {
  /** Whether spans contain prompts and answers. */
  readonly content: boolean
  start(name: string, options: SpanOptions): Span
  /** Sends the remaining spans, for a bounded time. Never rejects. */
  stop(): Promise<void>
}

export type TracingDeps = { part: 'api' | 'worker'; metrics: Pick<Metrics, 'spansDropped'>; logger: Logger }

/** Runs `work` inside the span, which ends with it and fails if it throws. */
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
 * Source: https://www.w3.org/TR/trace-context/#traceparent-header. Invalid headers are ignored, as it requires. A header of a
 * later version may have more fields after the known ones.
 */
export function parseTraceparent(text: unknown): TraceContext | null {
  if (typeof text !== 'string' || text.length > 256) return null
  const found = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text)
  if (!found || (found[1] === '00' && found[5] !== undefined)) return null
  return { traceId: found[2]!, spanId: found[3]!, flags: Number.parseInt(found[4]!, 16) }
}

/** A valid traceparent in the version that Sluice writes; null: the text is missing or invalid. */
export function readTraceparent(text: unknown): string | null {
  const context = text === undefined ? null : parseTraceparent(text)
  return context && formatTraceparent(context)
}

export const formatTraceparent = ({ traceId, spanId, flags }: TraceContext): string =>
  `00-${traceId}-${spanId}-${(flags & 1) === 1 ? '01' : '00'}`

/** Fields of a log line. */
export const traceIds = (traceparent: unknown): { trace_id?: string; span_id?: string } => {
  const context = traceparent ? parseTraceparent(traceparent) : null
  return context ? { trace_id: context.traceId, span_id: context.spanId } : {}
}

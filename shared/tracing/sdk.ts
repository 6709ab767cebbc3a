import { randomUUID } from 'node:crypto'
import * as api from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  type SpanProcessor,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { withDeadline } from '#shared/process/lifecycle.ts'
import { proxyEnv } from '#shared/settings/proxy.ts'
import packageJson from '../../package.json' with { type: 'json' }
import type { TracingOptions } from './settings.ts'
import {
  type Attributes,
  formatTraceparent,
  parseTraceparent,
  type Span,
  type SpanOptions,
  type Tracing,
  type TracingDeps,
} from './tracing.ts'

/** Spans of one process that wait for the collector; about 4 KB each without content. */
const MAX_WAITING = 4096
const EXPORT_TIMEOUT_MS = 5000
const EXPORT_EVERY_MS = 1000
/** Time for the last export when a process stops, after its drain. */
export const FLUSH_MS = 1000
/** Minimum interval between log lines about lost spans. */
const LOSS_LOG_MS = 60_000
/** Maximum length of one attribute: prompts may be megabytes. */
const MAX_CHARACTERS = 32_768
/** Maximum length of the attributes of all waiting spans. */
const MAX_WAITING_CHARACTERS = 32_000_000

const KINDS = {
  server: api.SpanKind.SERVER,
  client: api.SpanKind.CLIENT,
  producer: api.SpanKind.PRODUCER,
  consumer: api.SpanKind.CONSUMER,
}

/** The only user of the OpenTelemetry SDK. It patches nothing and sets nothing global. */
export function createTracing(
  options: TracingOptions,
  { part, metrics, logger }: TracingDeps,
  flushMs = FLUSH_MS,
): Tracing {
  const exporter = new OTLPTraceExporter({
    url: options.url,
    headers: options.headers,
    timeoutMillis: EXPORT_TIMEOUT_MS,
    ...(options.proxy && { httpAgentOptions: { keepAlive: true, proxyEnv: proxyEnv(options.proxy) } }),
  })
  const losses = createLosses({ metrics, logger, url: options.url })
  const bounded = boundedExport(exporter, losses)
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': options.service ?? `sluice-${part}`,
      'service.version': packageJson.version,
      'service.instance.id': randomUUID(),
      ...options.resource,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.ratio) }),
    spanProcessors: [bounded.processor],
  })
  const tracer = provider.getTracer('sluice', packageJson.version)

  return {
    content: options.content,
    start: (name, how) => spanOf(startSpan(tracer, name, how)),
    async stop() {
      await withDeadline(provider.shutdown(), flushMs).catch(() => undefined)
      bounded.abandon()
    },
  }
}

/** Copies the shortened strings: a slice keeps the whole string alive, and spans wait for a collector that may hang. */
const shortened = (attributes: Attributes): api.Attributes =>
  Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name,
      typeof value === 'string' && value.length > MAX_CHARACTERS
        ? Buffer.from(value.slice(0, MAX_CHARACTERS)).toString()
        : value,
    ]),
  ) as api.Attributes

const charactersOf = ({ attributes }: { attributes: api.Attributes }): number => {
  let sum = 0
  for (const value of Object.values(attributes)) if (typeof value === 'string') sum += value.length
  return sum
}

function startSpan(tracer: api.Tracer, name: string, { kind, parent, attributes, agoMs }: SpanOptions): api.Span {
  const how: api.SpanOptions = {
    kind: kind ? KINDS[kind] : api.SpanKind.INTERNAL,
    ...(attributes && { attributes: shortened(attributes) }),
    ...(agoMs !== undefined && { startTime: Date.now() - Math.max(0, agoMs) }),
  }
  const text = typeof parent === 'string' ? parent : parent?.traceparent
  const context = text ? parseTraceparent(text) : null
  if (!context) return tracer.startSpan(name, { ...how, root: true }, api.ROOT_CONTEXT)
  const { traceId, spanId, flags: traceFlags } = context
  const remote = typeof parent === 'string'
  return tracer.startSpan(
    name,
    how,
    api.trace.setSpanContext(api.ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: remote }),
  )
}

function spanOf(span: api.Span): Span {
  const { traceId, spanId, traceFlags: flags } = span.spanContext()
  return {
    traceparent: formatTraceparent({ traceId, spanId, flags }),
    traceId,
    spanId,
    recording: span.isRecording(),
    set: attributes => void span.setAttributes(shortened(attributes)),
    fail(type) {
      span.setAttribute('error.type', type)
      span.setStatus({ code: api.SpanStatusCode.ERROR })
    },
    end: () => span.end(),
  }
}

type Losses = (reason: 'queue_full' | 'export_failed', count: number, error?: unknown) => void

/** Counts spans that did not reach the collector, and logs the loss now and then. */
function createLosses({ metrics, logger, url }: Omit<TracingDeps, 'part'> & { url: string }): Losses {
  let lost = 0
  let loggedAt = Number.NEGATIVE_INFINITY
  return (reason, count, error) => {
    metrics.spansDropped.inc({ reason }, count)
    lost += count
    if (performance.now() - loggedAt < LOSS_LOG_MS) return
    loggedAt = performance.now()
    const { name, code } = Object(error) as { name?: string; code?: unknown }
    logger.warn(
      { spans: lost, reason, collector: new URL(url).host, error: name, code },
      'spans were lost: the collector does not accept them',
    )
    lost = 0
  }
}

/** The batching of the SDK drops spans without reporting them, so waiting spans are counted and bounded here. */
function boundedExport(exporter: SpanExporter, lose: Losses) {
  let waiting = 0
  let characters = 0
  let abandoned = false
  const batches = new BatchSpanProcessor({
    exporter: {
      export: (spans, done) =>
        exporter.export(spans, result => {
          waiting -= spans.length
          for (const span of spans) characters -= charactersOf(span)
          // 0: ExportResultCode.SUCCESS
          if (result.code !== 0 && !abandoned) lose('export_failed', spans.length, result.error)
          done(result)
        }),
      shutdown: () => exporter.shutdown(),
    },
    maxQueueSize: MAX_WAITING,
    scheduledDelayMillis: EXPORT_EVERY_MS,
    // Longer than the timeout of the exporter, which reports the fate of the spans.
    exportTimeoutMillis: EXPORT_TIMEOUT_MS * 2,
  })
  const processor: SpanProcessor = {
    onStart: () => undefined,
    onEnd(span) {
      if ((span.spanContext().traceFlags & api.TraceFlags.SAMPLED) === 0) return
      const more = charactersOf(span)
      if (waiting >= MAX_WAITING || characters + more > MAX_WAITING_CHARACTERS) return lose('queue_full', 1)
      waiting++
      characters += more
      batches.onEnd(span)
    },
    forceFlush: () => batches.forceFlush(),
    shutdown: () => batches.shutdown(),
  }
  return {
    processor,
    /** Counts the spans that were not sent as lost. */
    abandon() {
      if (waiting > 0) lose('export_failed', waiting)
      abandoned = true
    },
  }
}

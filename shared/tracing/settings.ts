import { type Static, Type } from 'typebox'
import { ConfigError, parseSetting } from '#shared/settings/config-error.ts'
import { type ProxySettings, proxyFor } from '#shared/settings/proxy.ts'

/** Settings under the names that every OpenTelemetry SDK reads. */
export const tracingSettings = {
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(
    Type.String({
      pattern: '^https?://\\S+$',
      description:
        'OTLP endpoint for traces (HTTP with protobuf), without `/v1/traces`, such as `http://localhost:4318`. Unset: no [traces](tracing.md).',
    }),
  ),
  OTEL_EXPORTER_OTLP_HEADERS: Type.Optional(
    Type.String({
      description: 'Headers for the OTLP endpoint, percent-encoded: `Authorization=Basic%20abc,x-tenant=me`.',
    }),
  ),
  OTEL_SERVICE_NAME: Type.Optional(
    Type.String({
      minLength: 1,
      description: '`service.name` of the spans (default `sluice-api` and `sluice-worker`).',
    }),
  ),
  OTEL_RESOURCE_ATTRIBUTES: Type.Optional(
    Type.String({
      description:
        'Additional attributes of all spans, in the format of the headers: `deployment.environment.name=staging`.',
    }),
  ),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    minimum: 0,
    maximum: 1,
    default: 1,
    description:
      'Share of traces that are kept, 0 to 1. It applies to traces that start in Sluice. A client that sends a `traceparent` decides for its own.',
  }),
  OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: Type.Boolean({
    default: false,
    description: 'Adds prompts and answers to the spans of provider calls.',
  }),
}

export type TracingOptions = {
  /** URL of the forward proxy to the collector; absent: none. */
  proxy?: string
  /** URL of the collector, with path. */
  url: string
  headers: Record<string, string>
  service: string | null
  resource: Record<string, string>
  ratio: number
  content: boolean
}

type TracingSettings = Static<ReturnType<typeof Type.Object<typeof tracingSettings>>>

/** @returns null: no endpoint is set, and no traces are sent @throws ConfigError naming the setting, without its value */
export function tracingOptions(values: TracingSettings, proxies: ProxySettings): TracingOptions | null {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } = values
  const pairs = (name: 'OTEL_EXPORTER_OTLP_HEADERS' | 'OTEL_RESOURCE_ATTRIBUTES') =>
    parseSetting(name, () => parsePairs(values[name] ?? ''))
  const options = {
    headers: pairs('OTEL_EXPORTER_OTLP_HEADERS'),
    resource: pairs('OTEL_RESOURCE_ATTRIBUTES'),
    service: values.OTEL_SERVICE_NAME ?? null,
    ratio: values.OTEL_TRACES_SAMPLER_ARG,
    content: values.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT,
  }
  if (endpoint === undefined) return null
  if (!URL.canParse(endpoint)) throw new ConfigError('OTEL_EXPORTER_OTLP_ENDPOINT: is not an address')
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`
  const proxy = proxyFor(proxies, new URL(url))
  return { ...options, url, ...(proxy !== null && { proxy }) }
}

/** Parses `a=b,c=d` with percent-encoded values. @throws if the text is invalid; the message does not repeat it */
export function parsePairs(text: string): Record<string, string> {
  const pairs = text.split(',').flatMap((pair, index) => {
    if (pair.trim() === '') return []
    const equals = pair.indexOf('=')
    const name = pair.slice(0, equals).trim()
    if (equals < 0 || !/^[\w!#$%&'*+.^`|~-]+$/.test(name)) throw new Error(`pair ${index + 1} is not NAME=VALUE`)
    return [[name, decoded(pair.slice(equals + 1).trim(), name)]]
  })
  return Object.fromEntries(pairs)
}

function decoded(text: string, name: string): string {
  let value: string | null = null
  try {
    value = decodeURIComponent(text)
  } catch {}
  if (value === null || !/^[\x20-\x7e]*$/.test(value))
    throw new Error(`the value of ${name} is not percent-encoded text`)
  return value
}

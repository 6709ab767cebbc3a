import { Type } from 'typebox'

/** The settings, under the names that every OpenTelemetry SDK reads. */
export const tracingSettings = {
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(
    Type.String({
      pattern: '^https?://\\S+$',
      description:
        'Where traces are sent by OTLP over HTTP (protobuf), without `/v1/traces`, such as `http://localhost:4318`; unset: there are none. See docs/tracing.md.',
    }),
  ),
  OTEL_EXPORTER_OTLP_HEADERS: Type.Optional(
    Type.String({
      description: 'Headers to send along, percent-encoded: `Authorization=Basic%20abc,x-tenant=me`.',
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
      description: 'More attributes of all spans, written as the headers are: `deployment.environment.name=staging`.',
    }),
  ),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    minimum: 0,
    maximum: 1,
    default: 1,
    description: 'Share of the traces begun here that are kept; whoever sends a `traceparent` has decided for his.',
  }),
  OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: Type.Boolean({
    default: false,
    description: 'Puts prompts and answers into the spans of provider calls.',
  }),
}

export type TracingOptions = {
  /** With its path. */
  url: string
  headers: Record<string, string>
  service: string | null
  resource: Record<string, string>
  ratio: number
  content: boolean
}

/** `a=b,c=d`, the values percent-encoded. @throws if it is not, without quoting it */
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

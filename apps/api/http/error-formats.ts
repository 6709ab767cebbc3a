import { Type } from 'typebox'
import { ERRORS, type ErrorCode, type SluiceError } from '#shared/errors.ts'
import { fieldName } from '#shared/json/schema-fault.ts'
import { nullable } from './schemas.ts'

/** The API that a request uses. The paths under /v1/ serve unmodified clients of other vendors' APIs. */
export type Surface = 'native' | 'openai' | 'anthropic'

export const isCompatiblePath = (url: string): boolean => /^\/v1(?:[/?]|$)/.test(url)

const ANTHROPIC_ONLY = /^\/v1\/messages(?:[/?]|$)/
const BOTH = /^\/v1\/models(?:[/?]|$)/

/** Whether a path under /v1/ serves clients of Anthropic's API. */
export const servesAnthropic = (url: string): boolean => ANTHROPIC_ONLY.test(url) || BOTH.test(url)

/** Both vendors have paths such as /v1/models. Only Anthropic's clients send `anthropic-version`. */
export const surfaceOf = (request: { url: string; headers: Record<string, unknown> }): Surface => {
  if (!isCompatiblePath(request.url)) return 'native'
  if (ANTHROPIC_ONLY.test(request.url)) return 'anthropic'
  return request.headers['anthropic-version'] === undefined ? 'openai' : 'anthropic'
}

export type ErrorResponse = { status: number; headers: Record<string, string>; body: object }

/** Errors that have another status, type or code in OpenAI's API. */
const OPENAI: Partial<Record<ErrorCode, { status?: number; type?: string; code?: string }>> = {
  unauthenticated: { code: 'missing_api_key' },
  forbidden: { code: 'insufficient_permissions' },
  not_found: { code: 'unknown_url' },
  method_not_allowed: { code: 'method_not_supported' },
  unknown_field: { code: 'unknown_parameter' },
  invalid_text: { code: 'invalid_value' },
  field_too_large: { status: 400, code: 'string_above_max_length' },
  unknown_model: { status: 404, code: 'model_not_found' },
  model_unsuitable: { status: 404, code: 'model_not_found' },
  image_unreachable: { code: 'invalid_image_url' },
  context_exceeded: { code: 'context_length_exceeded' },
  rate_limited: { type: 'requests', code: 'rate_limit_exceeded' },
  budget_exceeded: { status: 429, type: 'insufficient_quota', code: 'insufficient_quota' },
}

/** OpenAI's codes for rules of JSON Schema. */
const OPENAI_RULES: Record<string, string> = { required: 'missing_required_parameter', type: 'invalid_type' }

/** An error in the format of OpenAI's API: https://platform.openai.com/docs/guides/error-codes */
export function asOpenAi(error: SluiceError): ErrorResponse {
  const { status, type, code } = { ...ERRORS[error.code], ...OPENAI[error.code] } as {
    status: number
    type?: string
    code?: string
  }
  return {
    // OpenAI's API has no 422.
    status: status === 422 ? 400 : status,
    headers: retryHeaders(error.code),
    body: {
      error: {
        message: error.message,
        type: type ?? (status >= 500 ? 'server_error' : 'invalid_request_error'),
        // `param` names fields of the body only.
        param: error.context.in === 'headers' ? null : (stringOf(error.context.param) ?? paramOf(error.context.field)),
        code:
          stringOf(error.context.code) ??
          code ??
          (error.code === 'invalid_request'
            ? (OPENAI_RULES[String(error.context.rule)] ?? 'invalid_value')
            : error.code),
      },
    },
  }
}

/** Readers of a wire format name the parameter and the code as the vendor does. */
const stringOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)

/** Error types by status: https://docs.claude.com/en/api/errors */
const ANTHROPIC_TYPES: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  409: 'conflict_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
}

/** Errors that have another status in Anthropic's API. */
const ANTHROPIC_STATUS: Partial<Record<ErrorCode, number>> = {
  unknown_model: 404,
  model_unsuitable: 404,
  field_too_large: 400,
  server_busy: 529,
}

export function asAnthropic(error: SluiceError, requestId: string): ErrorResponse {
  const { status: ours } = ERRORS[error.code]
  const status = ANTHROPIC_STATUS[error.code] ?? (ours === 422 || ours === 415 ? 400 : ours)
  const type = ANTHROPIC_TYPES[status] ?? 'api_error'
  return {
    status,
    headers: { ...retryHeaders(error.code), 'request-id': requestId },
    body: { type: 'error', error: { type, message: error.message }, request_id: requestId },
  }
}

/** The SDKs retry 408, 409, 429 and 5xx unless this header forbids it. A budget does not recover within seconds. */
const retryHeaders = (code: ErrorCode): Record<string, string> =>
  ERRORS[code].retryable && code !== 'budget_exceeded' ? {} : { 'x-should-retry': 'false' }

/** `/a/0/b` -> `a[0].b`. Native options are fields of the body in OpenAI's API. */
function paramOf(field: unknown): string | null {
  // Errors about headers have a name instead of a pointer.
  if (typeof field !== 'string' || !field.startsWith('/')) return null
  return fieldName(field.replace(/^\/options\//, '/')) || null
}

const textOrNull = nullable(Type.String())

export const compatibleErrors = Type.Union([
  Type.Object({
    error: Type.Object({ message: Type.String(), type: Type.String(), param: textOrNull, code: textOrNull }),
  }),
  Type.Object({
    type: Type.Literal('error'),
    error: Type.Object({ type: Type.String(), message: Type.String() }),
    request_id: Type.String(),
  }),
])

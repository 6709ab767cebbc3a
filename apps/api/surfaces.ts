import { Type } from 'typebox'
import { ERRORS, type ErrorCode, type SluiceError } from '#shared/errors.ts'

/** Whose API a request speaks. Under /v1/ it is another's, whose clients are used unmodified. */
export type Surface = 'native' | 'openai' | 'anthropic'

export const isForeign = (url: string): boolean => /^\/v1(?:[/?]|$)/.test(url)

/** Both have a /v1/files and a /v1/models. Only Anthropic's clients send `anthropic-version`. */
export const surfaceOf = (request: { url: string; headers: Record<string, unknown> }): Surface => {
  if (!isForeign(request.url)) return 'native'
  return request.headers['anthropic-version'] === undefined ? 'openai' : 'anthropic'
}

export type Foreign = { status: number; headers: Record<string, string>; body: object }

/** What OpenAI calls differently. */
const OPENAI: Partial<Record<ErrorCode, { status?: number; type?: string; code?: string }>> = {
  unauthenticated: { code: 'invalid_api_key' },
  forbidden: { code: 'insufficient_permissions' },
  not_found: { code: 'unknown_url' },
  field_too_large: { status: 400, code: 'string_above_max_length' },
  model_unsuitable: { status: 404, code: 'model_not_found' },
  rate_limited: { type: 'requests', code: 'rate_limit_exceeded' },
  budget_exceeded: { status: 429, type: 'insufficient_quota', code: 'insufficient_quota' },
}

/** An error as OpenAI's API says it: https://platform.openai.com/docs/guides/error-codes */
export function asOpenAi(error: SluiceError): Foreign {
  const { status, type, code } = { ...ERRORS[error.code], ...OPENAI[error.code] } as {
    status: number
    type?: string
    code?: string
  }
  return {
    // Theirs knows no 422.
    status: status === 422 ? 400 : status,
    headers: retryHeaders(error.code),
    body: {
      error: {
        message: error.message,
        type: type ?? (status >= 500 ? 'server_error' : 'invalid_request_error'),
        param: paramOf(error.context.field),
        code: code ?? error.code,
      },
    },
  }
}

/** By status: https://docs.claude.com/en/api/errors */
const ANTHROPIC_TYPES: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  409: 'conflict_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
}

export function asAnthropic(error: SluiceError, requestId: string): Foreign {
  const { status: ours } = ERRORS[error.code]
  const status = ours === 422 || ours === 415 ? 400 : ours
  const type = ANTHROPIC_TYPES[status] ?? 'api_error'
  return {
    status,
    headers: { ...retryHeaders(error.code), 'request-id': requestId },
    body: { type: 'error', error: { type, message: error.message }, request_id: requestId },
  }
}

/** The SDKs try 408, 409, 429 and 5xx again unless this tells them not to. A budget is not refilled in seconds. */
const retryHeaders = (code: ErrorCode): Record<string, string> =>
  ERRORS[code].retryable && code !== 'budget_exceeded' ? {} : { 'x-should-retry': 'false' }

/** `/a/0/b` -> `a.0.b`; what are options to us are fields of the body there. */
function paramOf(field: unknown): string | null {
  if (typeof field !== 'string') return null
  return field.replace(/^\/(options\/)?/, '').replaceAll('/', '.') || null
}

const nullable = Type.Union([Type.String(), Type.Null()])

export const foreignErrors = Type.Union([
  Type.Object({
    error: Type.Object({ message: Type.String(), type: Type.String(), param: nullable, code: nullable }),
  }),
  Type.Object({
    type: Type.Literal('error'),
    error: Type.Object({ type: Type.String(), message: Type.String() }),
    request_id: Type.String(),
  }),
])

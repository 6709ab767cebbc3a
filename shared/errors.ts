import { REQUEST_ERRORS } from './errors/request-errors.ts'
import type { ErrorRow } from './errors/row.ts'
import { TASK_ERRORS } from './errors/task-errors.ts'
import { fieldName } from './json/schema-fault.ts'

/** Every error that a client can get. The tables in docs/errors.md are generated from it. */
export const ERRORS = { ...REQUEST_ERRORS, ...TASK_ERRORS }

export type ErrorCode = keyof typeof ERRORS

/** Why a task or an attempt did not succeed, as it is stored and shown. */
export type TaskError = { code: string; message: string; context?: Record<string, unknown> }

function defaultMessage(code: ErrorCode, field: unknown): string {
  if (code !== 'invalid_text' || typeof field !== 'string' || fieldName(field) === '') return ERRORS[code].title
  return `\`${fieldName(field)}\` contains U+0000 or a lone surrogate.`
}

/** An error for the client; `message` and `context` are shown to it. */
export class SluiceError extends Error {
  readonly code: ErrorCode
  readonly context: Record<string, unknown>
  /** Seconds for the Retry-After header. */
  readonly retryAfter: number | null

  constructor(
    code: ErrorCode,
    message?: string,
    more: { context?: Record<string, unknown>; retryAfter?: number } = {},
  ) {
    super(message ?? defaultMessage(code, more.context?.field))
    this.code = code
    this.context = more.context ?? {}
    this.retryAfter = more.retryAfter ?? null
  }
}

/** Errors as a Markdown table, for docs/errors.md. */
export function errorsTable(errors: Record<string, ErrorRow>): string {
  const text = (value: string) => value.replace(/`[^`]*`|[<|]/g, part => (part.length > 1 ? part : `\\${part}`))
  const rows = Object.entries(errors).map(
    ([code, { status, retryable, title, advice }]) =>
      `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${text(title)}. | ${text(advice)} |`,
  )
  return ['| code | status | retryable | meaning | remedy |', '|---|---|---|---|---|', ...rows].join('\n')
}

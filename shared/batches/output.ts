import type { EndedLine } from '#shared/db/batches/read-lines.ts'
import { ERRORS, type ErrorCode } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import { idSuffix } from './endpoints/define.ts'
import { ENDPOINTS } from './endpoints/index.ts'

/**
 * A line of OpenAI's output or error file, without the line break. Everything except answers goes to the error file. A rejected
 * request has the rejection as its response, as in OpenAI's API. A task that failed has its error, with the status from `errors.ts`.
 * Lines that expired or were cancelled have no response.
 */
export function openAiOutputLine(endpoint: string, line: EndedLine): { file: 'output' | 'error'; text: string } {
  const { status, error } = line
  if (status === 'succeeded') {
    const served = ENDPOINTS.get(endpoint)
    if (!served) throw new Error(`no endpoint "${endpoint}"`)
    return { file: 'output', text: responded(line, 200, served.answer(line)) }
  }
  if (status === 'expired') {
    return withoutResponse(
      line,
      'batch_expired',
      'This request could not be executed before the completion window expired.',
    )
  }
  if (status === 'cancelled')
    return withoutResponse(line, 'batch_cancelled', 'This request was cancelled with its batch.')
  if (error?.code === 'deadline_exceeded') return withoutResponse(line, 'request_timeout', error.message)
  const { code = 'internal', message = 'Something went wrong here.', context = {} } = error ?? {}
  const rejected = code === 'invalid_request' ? context : {}
  const statusCode = typeof rejected.status === 'number' ? rejected.status : statusOf(code)
  const said = {
    message,
    type: rejected.type ?? typeOf(statusCode),
    param: rejected.param ?? null,
    code: rejected.code === undefined ? code : rejected.code,
  }
  return { file: 'error', text: responded(line, statusCode, { error: said }) }
}

const responded = (line: EndedLine, status_code: number, body: Record<string, unknown>): string =>
  JSON.stringify({ ...named(line), response: { status_code, request_id: `req_${idSuffix(line)}`, body }, error: null })

const withoutResponse = (line: EndedLine, code: string, message: string) => ({
  file: 'error' as const,
  text: JSON.stringify({ ...named(line), response: null, error: { code, message } }),
})

const named = (line: EndedLine) => ({ id: `batch_req_${idSuffix(line)}`, custom_id: line.custom_id })

const statusOf = (code: string): number => (Object.hasOwn(ERRORS, code) ? ERRORS[code as ErrorCode].status : 500)

const typeOf = (status: number): string =>
  status === 402 ? 'insufficient_quota' : status < 500 ? 'invalid_request_error' : 'server_error'

/** A line of native results as JSON, without the line break. */
export const nativeOutputLine = (line: EndedLine): string =>
  JSON.stringify({
    task_id: toWire('task', line.task_id),
    line: line.line,
    custom_id: line.custom_id,
    status: line.status,
    result: line.result ?? null,
    source: line.source,
    quality: line.quality,
    provider: line.provider,
    model: line.model,
    finish_reason: line.finish_reason,
    usage: {
      input_tokens: line.input_tokens,
      output_tokens: line.output_tokens,
      cache_read_tokens: line.cache_read_tokens,
      cache_write_tokens: line.cache_write_tokens,
      reasoning_tokens: line.reasoning_tokens,
    },
    cost_usd: Number(line.cost_usd),
    error: line.error,
  })

/** The columns of native results as CSV. `result`: the text of a result with only a text, otherwise JSON. */
const COLUMNS: Record<string, (line: EndedLine) => string | number | null> = {
  task_id: line => toWire('task', line.task_id),
  line: line => line.line,
  custom_id: line => line.custom_id,
  status: line => line.status,
  result: line => resultText(line.result),
  source: line => line.source,
  quality: line => line.quality,
  provider: line => line.provider,
  model: line => line.model,
  input_tokens: line => line.input_tokens,
  output_tokens: line => line.output_tokens,
  cost_usd: line => Number(line.cost_usd),
  error_code: line => line.error?.code ?? null,
  error_message: line => line.error?.message ?? null,
  finish_reason: line => line.finish_reason,
  cache_read_tokens: line => line.cache_read_tokens,
  cache_write_tokens: line => line.cache_write_tokens,
  reasoning_tokens: line => line.reasoning_tokens,
}

/** The header and a line of native results as CSV, without the line break. */
export const csvHeader = (): string => Object.keys(COLUMNS).join(',')
export const csvOutputLine = (line: EndedLine): string =>
  Object.values(COLUMNS)
    .map(column => cell(column(line)))
    .join(',')

function resultText(result: unknown): string | null {
  if (result === null || result === undefined) return null
  const { text, ...more } = result as { text?: unknown }
  return typeof text === 'string' && Object.keys(more).length === 0 ? text : JSON.stringify(result)
}

const NUMBER = /^[+-]?\d+([.,]\d+)*$/

/**
 * A cell by RFC 4180. A text that a spreadsheet would run as a formula gets a leading apostrophe (OWASP, "CSV Injection"), because
 * third parties influence the output of models. The JSON format is exact.
 */
function cell(value: string | number | null): string {
  if (value === null) return ''
  if (typeof value === 'number') return String(value)
  const safe = /^[=+\-@\t\r\n＝＋－＠]/.test(value) && !NUMBER.test(value) ? `'${value}` : value
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

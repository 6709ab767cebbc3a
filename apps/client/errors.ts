/** An error response. `code` is one of docs/errors.md; null if the response is not from Sluice. */
export class SluiceApiError extends Error {
  override readonly name = 'SluiceApiError'
  readonly status: number
  readonly code: string | null
  readonly request_id: string | null
  /** Seconds; null without a Retry-After header. */
  readonly retryAfter: number | null
  /** The body, parsed if it is JSON. */
  readonly body: unknown

  constructor(message: string, answer: Pick<SluiceApiError, 'status' | 'code' | 'request_id' | 'retryAfter' | 'body'>) {
    super(message)
    this.status = answer.status
    this.code = answer.code
    this.request_id = answer.request_id
    this.retryAfter = answer.retryAfter
    this.body = answer.body
  }
}

/** No response: the server is not reachable, the connection broke, or the request timed out. */
export class SluiceConnectionError extends Error {
  override readonly name = 'SluiceConnectionError'
}

/** Reads problem+json (`/api/v1`) and OpenAI's error format (`/v1`). */
export async function errorFrom(response: Response): Promise<SluiceApiError> {
  const text = await response.text().catch(() => '')
  const body = parsed(text)
  const problem = asRecord(body)
  const error = asRecord(problem.error)
  const code = stringOf(problem.code) ?? stringOf(error.code) ?? stringOf(error.type)
  const message = stringOf(problem.detail) ?? stringOf(error.message) ?? `HTTP ${response.status}`
  return new SluiceApiError(message, {
    status: response.status,
    code,
    request_id: response.headers.get('x-request-id') ?? stringOf(problem.request_id),
    retryAfter: retryAfterOf(response.headers),
    body,
  })
}

/** Seconds from now; the header may also be a date. */
export function retryAfterOf(headers: Headers): number | null {
  const header = headers.get('retry-after')
  if (header === null || header.trim() === '') return null
  const seconds = Number(header)
  if (Number.isFinite(seconds)) return seconds >= 0 ? seconds : null
  const date = Date.parse(header)
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

const asRecord = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}

const stringOf = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null)

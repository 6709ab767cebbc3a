import { constants } from 'node:os'
import { SluiceApiError, SluiceConnectionError } from '../client/index.ts'

/** Exit codes. */
export const ALL_SUCCEEDED = 0
export const SOME_FAILED = 1
export const CANNOT = 2

/** An expected error. The message is one line for the user. */
export class Failure extends Error {}

/** The user stopped the command. */
export class Interrupted extends Error {
  readonly exitCode: number

  constructor(signal: NodeJS.Signals) {
    super(signal)
    // As shells do.
    this.exitCode = 128 + constants.signals[signal]
  }
}

/** Whether the server may answer a later try. */
export const isAway = (error: unknown): boolean =>
  error instanceof SluiceConnectionError ||
  (error instanceof SluiceApiError && (error.status === 429 || error.status >= 500))

/** Whether the server did not process the request, because it is not running or not ready. */
export const isTurnedAway = (error: unknown): boolean =>
  error instanceof SluiceApiError ? error.status === 503 : errorCode(error) === 'ECONNREFUSED'

/** `fetch` wraps the error that has the code. */
function errorCode(error: unknown): string | null {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException
    if (code !== undefined) return code
  }
  return null
}

/** One line for the user; null for a bug, whose stack is printed. */
export function explain(error: unknown): string | null {
  if (error instanceof Failure) return error.message
  if (error instanceof SluiceConnectionError) return `no answer from ${error.message}`
  if (error instanceof SluiceApiError) return explainAnswer(error)
  const reason = fileReason(error)
  return reason === null ? null : `${(error as NodeJS.ErrnoException).path ?? 'a file'}: ${reason}`
}

function explainAnswer({ status, code, message, request_id }: SluiceApiError): string {
  if (status === 401) return 'the server does not accept the API key (401): set --key or SLUICE_API_KEY'
  if (code === null && status < 500) return `this is not a Sluice server: it answered ${status} (see --url)`
  const id = request_id === null ? '' : `, request ${request_id}`
  return `${message.split('\n')[0]} (${status}${code === null ? '' : ` ${code}`}${id})`
}

/** Why a file cannot be read or written; null for other errors. */
export function fileReason(error: unknown): string | null {
  const { code, syscall } = error as NodeJS.ErrnoException
  return typeof code === 'string' && syscall !== undefined ? (FILE_ERRORS[code] ?? code) : null
}

const FILE_ERRORS: Record<string, string> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EISDIR: 'is a directory',
  ENOTDIR: 'not a directory',
  ENOSPC: 'no space left on the device',
  EROFS: 'the file system is read-only',
}

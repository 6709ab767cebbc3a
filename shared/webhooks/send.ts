import type http from 'node:http'
import { now } from '#shared/process/clock.ts'
import { createGuardedRequest, type GuardedOptions } from './guarded-request.ts'
import { parseRetryAfter } from './retry.ts'

export type SendOutcome =
  | { kind: 'answered'; status: number; retryAfterMs: number | null }
  /** The address is not allowed. No request was made. */
  | { kind: 'forbidden'; message: string }
  | { kind: 'timeout' }
  /** `code` such as ECONNREFUSED, ENOTFOUND. */
  | { kind: 'unreachable'; code: string }
  /** Aborted by `signal`. */
  | { kind: 'stopped' }

export type Send = (
  message: { url: string; headers: Record<string, string>; body: string },
  signal: AbortSignal,
) => Promise<SendOutcome>

/** Time for name resolution, connection and response headers. */
const TIMEOUT_MS = 10_000
/** The response body is discarded up to these limits, so that the receiver can finish writing it. */
const MAX_BODY_BYTES = 4096
const BODY_MS = 1000

/** Sends POST requests to targets chosen by clients, as `createGuardedRequest` does. */
export function createSend({ timeoutMs = TIMEOUT_MS, ...options }: GuardedOptions & { timeoutMs?: number }): Send {
  const request = createGuardedRequest(options)
  return async ({ url, headers, body }, stop) => {
    if (stop.aborted) return { kind: 'stopped' }
    const cancel = new AbortController()
    const abort = () => cancel.abort()
    let late = false
    const timer = setTimeout(() => {
      late = true
      abort()
    }, timeoutMs)
    stop.addEventListener('abort', abort)
    try {
      const sent = await request({ url: new URL(url), method: 'POST', headers, body }, cancel.signal)
      if (sent.kind === 'forbidden') return sent
      const { response } = sent
      skipBody(response)
      const { statusCode: status = 0 } = response
      return { kind: 'answered', status, retryAfterMs: parseRetryAfter(response.headers['retry-after'], now()) }
    } catch (error) {
      if (stop.aborted) return { kind: 'stopped' }
      if (late) return { kind: 'timeout' }
      return { kind: 'unreachable', code: String((error as NodeJS.ErrnoException).code ?? 'EUNKNOWN') }
    } finally {
      clearTimeout(timer)
      stop.removeEventListener('abort', abort)
    }
  }
}

function skipBody(response: http.IncomingMessage): void {
  let bytes = 0
  const timer = setTimeout(() => response.destroy(), BODY_MS)
  response.on('close', () => clearTimeout(timer))
  response.on('error', () => {})
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) response.destroy()
  })
}

import { backoff } from '#shared/concurrency/backoff.ts'

const BASE_MS = 10_000
const MAX_MS = 3_600_000
/** Maximum of a receiver's Retry-After. */
const MAX_RETRY_AFTER_MS = 3_600_000

/** @returns milliseconds until the next attempt after `attempts` failed ones: random backoff, or the bounded Retry-After if longer */
export const retryDelayMs = (
  attempts: number,
  retryAfterMs: number | null,
  random: () => number = Math.random,
): number =>
  Math.max(
    backoff(attempts, { baseMs: BASE_MS, maxMs: MAX_MS, random }),
    Math.min(retryAfterMs ?? 0, MAX_RETRY_AFTER_MS),
  )

/** Retry-After (RFC 9110, 10.2.3): seconds or a date. @returns milliseconds from `now`; null: missing or invalid */
export function parseRetryAfter(header: string | undefined, now: number): number | null {
  const text = header?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = /^[A-Z][a-z]{2},? /.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(date) ? null : Math.max(0, date - now)
}

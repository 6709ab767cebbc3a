import { backoff } from '#shared/backoff.ts'

const BASE_MS = 10_000
const MAX_MS = 3_600_000
/** What a receiver may ask for at most. */
const MOST_ASKED_MS = 3_600_000

/** @returns ms until the attempt after `attempts` failed ones; a receiver that asks for more gets it, within bounds */
export const waitMs = (attempts: number, retryAfterMs: number | null, random: () => number = Math.random): number =>
  Math.max(backoff(attempts, { baseMs: BASE_MS, maxMs: MAX_MS, random }), Math.min(retryAfterMs ?? 0, MOST_ASKED_MS))

/** Retry-After (RFC 9110, 10.2.3): seconds or a date. @returns ms from `now`; null: it says nothing that can be read */
export function parseRetryAfter(header: string | undefined, now: number): number | null {
  const text = header?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = /^[A-Z][a-z]{2},? /.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(date) ? null : Math.max(0, date - now)
}

import { now } from '#shared/process/clock.ts'
import type { Surface } from './error-formats.ts'

/** `resetMs`: until the whole limit is available again. */
export type RateState = { limit: number; left: number; resetMs: number }

/** The names of a limit in the headers of both APIs, such as `requests`. */
export type RateName = 'requests' | 'tokens' | 'input-tokens' | 'output-tokens'

/** The state of a limit in the headers of OpenAI's or Anthropic's API; none in the native API. */
export function rateHeaders(
  surface: Surface,
  name: RateName,
  { limit, left, resetMs }: RateState,
): Record<string, string> {
  if (surface === 'native') return {}
  if (surface === 'anthropic') {
    const prefix = `anthropic-ratelimit-${name}`
    return {
      [`${prefix}-limit`]: String(limit),
      [`${prefix}-remaining`]: String(left),
      [`${prefix}-reset`]: new Date(now() + resetMs).toISOString().replace(/\.\d+Z$/, 'Z'),
    }
  }
  return {
    [`x-ratelimit-limit-${name}`]: String(limit),
    [`x-ratelimit-remaining-${name}`]: String(left),
    [`x-ratelimit-reset-${name}`]: goDuration(resetMs),
  }
}

/** As OpenAI writes durations: `12ms`, `1.5s`, `1m30s`. */
export function goDuration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const minutes = Math.floor(ms / 60_000)
  const seconds = Math.round((ms % 60_000) / 10) / 100
  return minutes === 0 ? `${seconds}s` : `${minutes}m${seconds}s`
}

import type { HeaderLimit, HeaderLimits } from '#shared/gate/types.ts'

/**
 * Reads the rate-limit headers of providers. The headers are hints: invalid values are ignored, and nothing throws.
 * Sources: Anthropic's and OpenAI's API references, "Rate limits".
 */

export type ReadLimits = (headers: Headers, now: number) => HeaderLimits | null

/** Larger counts are garbage. */
const MAX_COUNT = 1e12
/** A month, the longest period of a provider's limits. */
const MAX_RESET_MS = 31 * 24 * 60 * 60 * 1000

/** `anthropic-ratelimit-…`: resets are times, by the clock of the answer's `date`. */
export const anthropicLimits: ReadLimits = (headers, now) => {
  const sentAt = timeOf(headers.get('date'), HTTP_DATE) ?? now
  const read = (name: string) => {
    const get = (field: string) => headers.get(`anthropic-ratelimit-${name}-${field}`)
    const reset = timeOf(get('reset'), RFC_3339)
    return limitOf(get('limit'), get('remaining'), reset === null ? null : boundedReset(reset - sentAt))
  }
  return limitsOf({
    requests: read('requests'),
    tokens: read('tokens'),
    inputTokens: read('input-tokens'),
    outputTokens: read('output-tokens'),
  })
}

/** `x-ratelimit-…`, also from OpenAI-compatible servers: resets are durations. */
export const openaiLimits: ReadLimits = headers => {
  const read = (name: string) => {
    const get = (field: string) => headers.get(`x-ratelimit-${field}-${name}`)
    return limitOf(get('limit'), get('remaining'), durationOf(get('reset')))
  }
  return limitsOf({ requests: read('requests'), tokens: read('tokens') })
}

function limitsOf(read: { [K in keyof HeaderLimits]: HeaderLimit | null }): HeaderLimits | null {
  const known = Object.entries(read).filter(([, limit]) => limit !== null)
  return known.length > 0 ? Object.fromEntries(known) : null
}

function limitOf(limit: string | null, remaining: string | null, resetMs: number | null): HeaderLimit | null {
  const of = countOf(limit)
  // Servers without a limit send 0. A server that admits nothing would not answer 200.
  if (of === 0) return null
  const left = countOf(remaining)
  // A reset time alone is useless without a limit or a remaining count.
  return of === null && left === null ? null : { limit: of, remaining: left, resetMs }
}

/** Rounds down, to stay below the limit. */
function countOf(value: string | null): number | null {
  if (value === null || !/^\d{1,15}(\.\d{1,30})?$/.test(value)) return null
  const count = Math.floor(Number(value))
  return count <= MAX_COUNT ? count : null
}

const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i
const HTTP_DATE = /^[a-z]{3}, \d\d [a-z]{3} \d{4} \d\d:\d\d:\d\d GMT$/i

/** @param form the required format; Date.parse alone would parse "soon 5" as a day in May */
function timeOf(value: string | null, form: RegExp): number | null {
  const time = value !== null && form.test(value) ? Date.parse(value.toUpperCase()) : Number.NaN
  return Number.isNaN(time) ? null : time
}

/** Whole milliseconds, without the error of binary fractions; 0 for a time in the past. */
const boundedReset = (ms: number) => (Math.abs(ms) <= MAX_RESET_MS ? Math.max(0, Math.ceil(ms - 1e-6)) : null)

/** Go's duration format, with days; each unit at most once, the longest first. */
const DURATION = new RegExp(
  `^${['d', 'h', 'm', 's', 'ms', '[uµμ]s', 'ns'].map(unit => `(?:(\\d{1,15}(?:\\.\\d{1,30})?)${unit})?`).join('')}$`,
)
const UNIT_MS = [86_400_000, 3_600_000, 60_000, 1000, 1, 1e-3, 1e-6]

/** Some compatible servers send a bare number of seconds. */
function durationOf(value: string | null): number | null {
  if (!value) return null
  const parts = DURATION.exec(/^[\d.]+$/.test(value) ? `${value}s` : value)?.slice(1)
  return parts ? boundedReset(parts.reduce((sum, part, index) => sum + Number(part ?? 0) * UNIT_MS[index]!, 0)) : null
}

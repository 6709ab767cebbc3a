import type { IncomingHttpHeaders } from 'node:http'

/** The SDKs wait ten minutes by default. */
const DEFAULT_SECONDS = 600
const MAX_SECONDS = 86_400
/** An SDK asks once and repeats the request twice. */
const TRIES = 3
/** The time between the tries. */
const BACKOFF_SECONDS = 10

/** How long the client waits for one answer, seconds. The SDKs tell it. */
export function clientSeconds(headers: IncomingHttpHeaders): number {
  const seconds = Number(headers['x-stainless-timeout'])
  return seconds > 0 && seconds <= MAX_SECONDS ? seconds : DEFAULT_SECONDS
}

/** The deadline of the task, seconds. An SDK that gives up waiting repeats the request, which joins the task: it lives that long. */
export function deadlineSeconds(headers: IncomingHttpHeaders): number {
  const seconds = clientSeconds(headers)
  if (headers['x-stainless-timeout'] === undefined) return seconds
  return Math.min(MAX_SECONDS, Math.ceil(seconds * TRIES + BACKOFF_SECONDS))
}

/** How long a queued request may wait on so that its client still gets an answer, milliseconds. @param elapsedMs since it arrived */
export function waitMs(headers: IncomingHttpHeaders, elapsedMs: number): number {
  const total = clientSeconds(headers) * 1000
  return Math.floor(Math.max(0, total - Math.min(1000, total / 10) - elapsedMs))
}

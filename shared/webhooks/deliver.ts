import type { Config } from '#shared/config.ts'
import type { Db } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import { type LeasedDelivery, leaseDeliveries, readTraceparents } from '#shared/db/webhooks/lease.ts'
import { createDeliverySettler } from '#shared/db/webhooks/settle.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { now } from '#shared/process/clock.ts'
import { repeatEvery, withDeadline } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { inSpan, type Tracing } from '#shared/tracing/tracing.ts'
import { eventId, eventJson, signedHeaders } from './event.ts'
import { createHostConcurrency } from './host-concurrency.ts'
import { retryDelayMs } from './retry.ts'
import { createSend, type Send, type SendOutcome } from './send.ts'

const ROUND_MS = 1000
/** Concurrent deliveries per process, and per key, whose webhooks may name many hosts that hang. */
const CONCURRENCY = 96
const PER_KEY = 64
/** Time for deliveries in flight to finish when the process stops. */
const FINISH_MS = 1000

/** Delivers webhooks. Every worker process runs it, and each event is leased by one of them. @returns stops it */
export function startWebhookDelivery(deps: {
  db: Db
  config: Pick<Config, 'webhookTargets' | 'proxies'>
  metrics: Pick<Metrics, 'webhookAttempts' | 'webhooksEnded'>
  tracing: Tracing | null
  logger: Logger
  send?: Send
}): () => Promise<void> {
  const { db, metrics, tracing, logger } = deps
  const send = deps.send ?? createSend({ policy: deps.config.webhookTargets, proxies: deps.config.proxies })
  const settle = createDeliverySettler(db)
  const hosts = createHostConcurrency()
  const inFlight = new Set<Promise<void>>()
  const byKey = new Map<string, number>()
  const stopping = new AbortController()
  const abort = new AbortController()

  async function round(): Promise<boolean> {
    const limit = CONCURRENCY - inFlight.size
    if (limit === 0) return false
    const keys = Array.from(byKey, ([apiKeyId, active]) => ({ apiKeyId, room: PER_KEY - active }))
    const { leased, putOff } = await leaseDeliveries(db, { ...hosts.room(), keys, perKey: PER_KEY, limit })
    const parents = tracing && leased.length > 0 ? await readTraceparents(db, leased).catch(() => null) : null
    const begun = leased.map(one => {
      const work = deliver(one, parents?.get(one.subject_id) ?? null)
        .catch(error => logger.error({ err: error, event: eventId(one.id) }, 'a webhook was not settled'))
        .finally(() => {
          inFlight.delete(work)
          countKey(one.api_key_id, -1)
        })
      inFlight.add(work)
      countKey(one.api_key_id, 1)
      return work
    })
    // Half of them, so that deliveries that hang do not delay the next round.
    await half(begun, ROUND_MS, stopping.signal)
    return putOff || leased.length > 0
  }

  function countKey(apiKeyId: string, more: number): void {
    const active = (byKey.get(apiKeyId) ?? 0) + more
    if (active === 0) byKey.delete(apiKeyId)
    else byKey.set(apiKeyId, active)
  }

  async function deliver(one: LeasedDelivery, parent: string | null): Promise<void> {
    const end = hosts.begin(one.host)
    const sent = tracing ? await traced(tracing, one, parent) : await attempt(one)
    end(sent)
    if (sent.kind === 'stopped') {
      await retryUnavailable(() => settle({ ...one, delivered: false, status: null, error: 'interrupted', waitMs: 0 }))
      return
    }
    const delivered = sent.kind === 'answered' && sent.status >= 200 && sent.status < 300
    metrics.webhookAttempts.inc({ outcome: delivered ? 'delivered' : sent.kind === 'answered' ? 'refused' : sent.kind })
    const status = sent.kind === 'answered' ? sent.status : null
    const error = delivered ? null : errorOf(sent)
    const settled = await retryUnavailable(() =>
      settle({ ...one, delivered, status, error, waitMs: delivered || status === GONE ? null : waitFor(one, sent) }),
    )
    if (settled === 'delivered' || settled === 'failed') metrics.webhooksEnded.inc({ status: settled })
    // The URL may contain a secret.
    const line = { event: eventId(one.id), host: one.host, attempts: one.attempts, error }
    if (settled === 'failed') logger.warn(line, 'the delivery of a webhook failed finally')
    else if (!delivered) logger.debug(line, 'a webhook was not delivered')
  }

  function traced(tracing: Tracing, one: LeasedDelivery, parent: string | null): Promise<SendOutcome> {
    const span = tracing.start(`webhook ${one.type}`, {
      kind: 'client',
      parent,
      attributes: {
        'http.request.method': 'POST',
        // The URL may contain a secret.
        'server.address': one.host,
        'http.request.resend_count': one.attempts - 1,
        'sluice.event.id': eventId(one.id),
      },
    })
    return inSpan(span, async () => {
      const sent = await attempt(one, { traceparent: span.traceparent })
      if (sent.kind === 'answered') span.set({ 'http.response.status_code': sent.status })
      if (sent.kind !== 'answered') span.fail(sent.kind)
      else if (sent.status >= 400) span.fail(String(sent.status))
      return sent
    })
  }

  async function attempt(one: LeasedDelivery, more: Record<string, string> = {}): Promise<SendOutcome> {
    if (!one.secret) return { kind: 'forbidden', message: 'has no API key' }
    const body = eventJson(one)
    const headers = {
      'content-type': 'application/json',
      'user-agent': 'Sluice',
      ...more,
      ...signedHeaders(one, body, [one.secret, ...one.retired_secrets], new Date(now())),
    }
    return send({ url: one.url, headers, body }, abort.signal)
  }

  const stop = repeatEvery(ROUND_MS, round, error => logger.warn({ err: error }, 'webhooks: cannot lease deliveries'))
  return async () => {
    stopping.abort()
    await stop()
    const rest = Promise.all(inFlight)
    await withDeadline(rest, FINISH_MS).catch(() => abort.abort())
    await rest
  }
}

const GONE = 410

const waitFor = (one: LeasedDelivery, sent: SendOutcome): number =>
  retryDelayMs(one.attempts, sent.kind === 'answered' ? sent.retryAfterMs : null)

function errorOf(sent: Exclude<SendOutcome, { kind: 'stopped' }>): string {
  if (sent.kind === 'answered') {
    const redirect = sent.status >= 300 && sent.status < 400
    return `answered ${sent.status}${redirect ? '; redirects are not followed' : ''}`
  }
  if (sent.kind === 'forbidden') return `the target ${sent.message}`
  return sent.kind === 'timeout' ? 'no answer in time' : `not reached: ${sent.code}`
}

/** Resolves when half of `work` is done, after `ms`, or at `signal`. */
async function half(work: Promise<void>[], ms: number, signal: AbortSignal): Promise<void> {
  if (work.length === 0 || signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const done = () => resolve()
  const timer = setTimeout(done, ms)
  signal.addEventListener('abort', done, { once: true })
  let left = Math.ceil(work.length / 2)
  for (const one of work) void one.then(() => --left === 0 && done())
  await promise
  clearTimeout(timer)
  signal.removeEventListener('abort', done)
}

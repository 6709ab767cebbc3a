import type { Config } from '#shared/config.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import { createDeliverySettler, type LeasedDelivery, leaseDeliveries, readTraceparents } from '#shared/db/webhooks.ts'
import { every, withDeadline } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import type { Metrics } from '#shared/metrics.ts'
import { inSpan, type Tracing } from '#shared/tracing/tracing.ts'
import { eventId, eventJson, signedHeaders } from './event.ts'
import { createHosts } from './hosts.ts'
import { waitMs } from './retry.ts'
import { createSend, type Send, type Sent } from './send.ts'

const ROUND_MS = 1000
/** Deliveries under way in one process, and of one key: it may name any number of hosts that hang. */
const AT_ONCE = 96
const PER_KEY = 64
/** How long those under way may go on when the process stops. */
const FINISH_MS = 1000

/** Delivers webhooks until it is stopped: every worker process runs it, and each event is somebody's. @returns how to stop it */
export function startDeliverer(deps: {
  db: Db
  config: Pick<Config, 'webhookTargets'>
  metrics: Pick<Metrics, 'webhookAttempts' | 'webhooksEnded'>
  tracing: Tracing | null
  logger: Logger
  send?: Send
}): () => Promise<void> {
  const { db, metrics, tracing, logger } = deps
  const send = deps.send ?? createSend({ policy: deps.config.webhookTargets })
  const settle = createDeliverySettler(db)
  const hosts = createHosts()
  const underWay = new Set<Promise<void>>()
  const byKey = new Map<string, number>()
  const stopping = new AbortController()
  const abort = new AbortController()

  async function round(): Promise<boolean> {
    const limit = AT_ONCE - underWay.size
    if (limit === 0) return false
    const keys = Array.from(byKey, ([apiKeyId, active]) => ({ apiKeyId, room: PER_KEY - active }))
    const { leased, putOff } = await leaseDeliveries(db, { ...hosts.room(), keys, perKey: PER_KEY, limit })
    const parents = tracing && leased.length > 0 ? await readTraceparents(db, leased).catch(() => null) : null
    const begun = leased.map(one => {
      const work = deliver(one, parents?.get(one.subject_id) ?? null)
        .catch(error => logger.error({ err: error, event: eventId(one.id) }, 'a webhook was not settled'))
        .finally(() => {
          underWay.delete(work)
          countKey(one.api_key_id, -1)
        })
      underWay.add(work)
      countKey(one.api_key_id, 1)
      return work
    })
    // Not all: one that hangs must not keep the next round waiting.
    await half(begun, ROUND_MS, stopping.signal)
    return putOff || leased.length > 0
  }

  function countKey(apiKeyId: string, more: number): void {
    const active = (byKey.get(apiKeyId) ?? 0) + more
    if (active === 0) byKey.delete(apiKeyId)
    else byKey.set(apiKeyId, active)
  }

  async function deliver(one: LeasedDelivery, parent: string | null): Promise<void> {
    const back = hosts.begin(one.host)
    const sent = tracing ? await traced(tracing, one, parent) : await attempt(one)
    back(sent)
    if (sent.kind === 'stopped') {
      await persist(() => settle({ ...one, delivered: false, status: null, error: 'interrupted', waitMs: 0 }))
      return
    }
    const delivered = sent.kind === 'answered' && sent.status >= 200 && sent.status < 300
    metrics.webhookAttempts.inc({ outcome: delivered ? 'delivered' : sent.kind === 'answered' ? 'refused' : sent.kind })
    const status = sent.kind === 'answered' ? sent.status : null
    const error = delivered ? null : errorOf(sent)
    const became = await persist(() =>
      settle({ ...one, delivered, status, error, waitMs: delivered || status === GONE ? null : waitFor(one, sent) }),
    )
    if (became === 'delivered' || became === 'failed') metrics.webhooksEnded.inc({ status: became })
    // A URL may hold a secret: its host has to do.
    const line = { event: eventId(one.id), host: one.host, attempts: one.attempts, error }
    if (became === 'failed') logger.warn(line, 'a webhook was given up')
    else if (!delivered) logger.debug(line, 'a webhook was not delivered')
  }

  function traced(tracing: Tracing, one: LeasedDelivery, parent: string | null): Promise<Sent> {
    const span = tracing.start(`webhook ${one.type}`, {
      kind: 'client',
      parent,
      attributes: {
        'http.request.method': 'POST',
        // A URL may hold a secret: its host has to do.
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

  async function attempt(one: LeasedDelivery, more: Record<string, string> = {}): Promise<Sent> {
    if (!one.secret) return { kind: 'forbidden', message: 'its key is not there' }
    const body = eventJson(one)
    const headers = {
      'content-type': 'application/json',
      'user-agent': 'Sluice',
      ...more,
      ...signedHeaders(one, body, one.secret, new Date()),
    }
    return send({ url: one.url, headers, body }, abort.signal)
  }

  const stop = every(ROUND_MS, round, error => logger.warn({ err: error }, 'webhooks: cannot look for what is due'))
  return async () => {
    stopping.abort()
    await stop()
    const rest = Promise.all(underWay)
    await withDeadline(rest, FINISH_MS).catch(() => abort.abort())
    await rest
  }
}

const GONE = 410

const waitFor = (one: LeasedDelivery, sent: Sent): number =>
  waitMs(one.attempts, sent.kind === 'answered' ? sent.retryAfterMs : null)

function errorOf(sent: Exclude<Sent, { kind: 'stopped' }>): string {
  if (sent.kind === 'answered') {
    const redirect = sent.status >= 300 && sent.status < 400
    return `answered ${sent.status}${redirect ? '; redirects are not followed' : ''}`
  }
  if (sent.kind === 'forbidden') return `the target ${sent.message}`
  return sent.kind === 'timeout' ? 'no answer in time' : `not reached: ${sent.code}`
}

/** Resolves when half of it is done, or after `ms`, or at `signal`. */
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

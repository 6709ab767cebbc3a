import type { AddressInfo } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import { buildApp } from './app.ts'
import { createMetrics } from './metrics.ts'
import { createModeration } from './moderation.ts'
import type { Settings } from './settings.ts'
import { startSettling } from './settling.ts'
import { openStore } from './store.ts'

export type Service = {
  port: number
  /** Answers what is under way, without waiting for Sluice, and releases everything. */
  stop(): Promise<void>
}

/** @throws if Postgres cannot be reached or the port is taken; what had been started is released */
export async function startService(settings: Settings, log: FastifyBaseLogger): Promise<Service> {
  const stopper = new AbortController()
  const stopping = stopper.signal
  const closers: (() => Promise<unknown>)[] = []
  const stop = async () => {
    stopper.abort()
    for (let close = closers.pop(); close; close = closers.pop()) {
      await close().catch(error => log.warn({ err: error }, 'could not be released'))
    }
  }
  try {
    const store = openStore({ url: settings.DATABASE_URL, log })
    closers.push(() => store.close())
    await store.migrate()
    const metrics = createMetrics(() => store.countHeld())
    const moderation = createModeration({
      url: settings.SLUICE_URL,
      apiKey: settings.SLUICE_API_KEY,
      policy: settings.SLUICE_POLICY,
      log,
      stopping,
    })
    closers.push(startSettling({ store, moderation, metrics, log }))
    const app = await buildApp({ store, moderation, metrics, log, stopping })
    closers.push(async () => {
      // A connection that was busy when the closing began stays open when its answer is out, for as long as its client likes.
      const sweep = setInterval(() => app.server.closeIdleConnections(), 100)
      await app.close().finally(() => clearInterval(sweep))
    })
    await app.listen({ host: settings.HOST, port: settings.PORT })
    const { port } = app.server.address() as AddressInfo
    log.info({ host: settings.HOST, port }, 'comments are served')
    return { port, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

import type { AddressInfo } from 'node:net'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger } from 'fastify'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { buildApp } from './app.ts'
import { type Database, openDatabase } from './database.ts'
import type { CommonSettings } from './settings.ts'

export type Service = {
  port: number
  /** Answers what is under way, without waiting for Sluice, and releases everything. */
  stop(): Promise<void>
}

/** What an application is made of, beside what all have. */
export type Application<Settings extends CommonSettings> = {
  name: string
  /** SQL that creates what is not there of its own schema. */
  schema: string
  /** What is said when Postgres is away. */
  storeAway: string
  routes(parts: Parts<Settings>): FastifyPluginAsyncTypebox
}

export type Parts<Settings> = {
  settings: Settings
  database: Database
  registry: Registry
  log: FastifyBaseLogger
  /** Ends what is under way with Sluice. */
  stopping: AbortSignal
  /** What is to be released at the end; last in, first out. */
  closers: (() => Promise<unknown>)[]
}

/** @throws if Postgres cannot be reached or the port is taken; what had been started is released */
export async function startService<Settings extends CommonSettings>(
  { name, schema, storeAway, routes }: Application<Settings>,
  settings: Settings,
  log: FastifyBaseLogger,
): Promise<Service> {
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
    const database = openDatabase({ url: settings.DATABASE_URL, name, log })
    closers.push(() => database.close())
    await database.query(schema)
    const registry = new Registry()
    collectDefaultMetrics({ register: registry })
    const made = routes({ settings, database, registry, log, stopping, closers })
    const app = await buildApp({ database, registry, log, stopping, storeAway, routes: made })
    closers.push(async () => {
      // A connection that was busy when the closing began stays open when its answer is out, for as long as its client likes.
      const sweep = setInterval(() => app.server.closeIdleConnections(), 100)
      await app.close().finally(() => clearInterval(sweep))
    })
    await app.listen({ host: settings.HOST, port: settings.PORT })
    const { port } = app.server.address() as AddressInfo
    log.info({ host: settings.HOST, port }, `${name} is served`)
    return { port, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

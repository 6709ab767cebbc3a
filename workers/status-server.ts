import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sharedAnswer } from '#shared/concurrency/single-flight.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'

export type Health = { ok: boolean; parts: Record<string, string> }

/**
 * Serves `/metrics`, `/health/live` and `/health/ready` of a worker. If the port is taken, it uses any free one.
 * @returns the server and its port
 */
export async function startStatusServer(options: {
  host: string
  port: number
  metrics: Metrics
  /** Called before the metrics are rendered. */
  refresh: () => void
  health: () => Promise<Health>
  /** Queues whose jobs the worker has stopped taking: it should be restarted. */
  starved: () => string[]
}): Promise<{ server: Server; port: number }> {
  // They need no key, so they are computed at most once a second.
  const metrics = sharedAnswer(async () => {
    options.refresh()
    return options.metrics.registry.metrics()
  })
  const server = createServer(async (request, response) => {
    const path = request.url?.split('?')[0]
    const answer = (status: number, type: string, body: string) =>
      response.writeHead(status, { 'content-type': type }).end(body)
    try {
      if (path === '/metrics') {
        answer(200, options.metrics.registry.contentType, await metrics())
      } else if (path === '/health/live') {
        const starved = options.starved()
        if (starved.length === 0) answer(200, 'application/json', '{"status":"ok"}')
        else answer(503, 'application/json', JSON.stringify({ status: 'not consuming', queues: starved }))
      } else if (path === '/health/ready') {
        const { ok, parts } = await options.health()
        answer(ok ? 200 : 503, 'application/json', JSON.stringify({ status: ok ? 'ok' : 'unavailable', parts }))
      } else {
        answer(404, 'text/plain', 'not found\n')
      }
    } catch {
      answer(500, 'text/plain', 'failed\n')
    }
  })
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, options.host, () => {
        server.off('error', reject)
        resolve()
      })
    })
  await listen(options.port).catch(() => listen(0))
  return { server, port: (server.address() as AddressInfo).port }
}
